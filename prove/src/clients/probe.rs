//! Looks how long it takes until a job goes all the way again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use reqwest::Method;
use serde_json::json;
use tokio::time::{Instant, interval, timeout_at};

use super::door::{Door, Question};
use crate::ledger::{Entry, Ledger, Number};

/// How often a fresh job is tried.
const EVERY: Duration = Duration::from_millis(200);
/// So many are tried at a time by each address.
const AT_ONCE: usize = 20;
/// How long an answer may be held.
const WAIT: u32 = 10;
/// Before whatever has gathered meanwhile: that it takes its time to be done is no question of recovery.
const FIRST_OF_ALL: u8 = 31;
/// The numbers of probes begin here: no campaign hands in so many jobs.
const FIRST: Number = 1 << 40;

/// Hands in jobs that only look whether all works.
#[derive(Debug)]
pub struct Prober<'a> {
    ledger: &'a Ledger,
    next: AtomicU64,
}

impl<'a> Prober<'a> {
    pub fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, next: AtomicU64::new(FIRST) }
    }

    /// How long since `healed` it takes until a job that is handed in from now on has succeeded, by each address. `None`:
    /// not within `limit`.
    pub async fn recovery(&self, door: &Door, healed: Instant, limit: Duration) -> Option<Duration> {
        let every = join_all((0..door.apis()).map(|api| self.success(door, api)));
        timeout_at(healed + limit, every).await.ok().map(|_| healed.elapsed())
    }

    async fn success(&self, door: &Door, api: usize) {
        let mut tick = interval(EVERY);
        let mut probes = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = tick.tick(), if probes.len() < AT_ONCE => probes.push(self.probe(door, api)),
                succeeded = probes.next(), if !probes.is_empty() => if succeeded == Some(true) {
                    return;
                },
            }
        }
    }

    /// Whether one job succeeds.
    async fn probe(&self, door: &Door, api: usize) -> bool {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let input = json!({ "n": n });
        self.ledger.write(Entry::Asked { n, kind: "echo".into(), input: input.clone() });
        let mut body = json!({ "input": input, "priority": FIRST_OF_ALL });
        door.mark(&mut body, n);
        let question = Question { path: "/v1/jobs/echo", body: Some(&body), wait: Some(WAIT), ..Question::default() };
        match door.ask(api, Method::POST, &question).await {
            Ok(answer) if matches!(answer.status, 200 | 202) => {
                let id = answer.text("id").to_owned();
                self.ledger.write(Entry::Accepted { n, id });
                answer.text("state") == "succeeded"
            }
            Ok(answer) => {
                self.ledger.write(Entry::Unsure { n, why: answer.status.to_string() });
                false
            }
            Err(why) => {
                self.ledger.write(Entry::Unsure { n, why });
                false
            }
        }
    }
}
