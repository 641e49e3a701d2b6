//! Those who only look: who waits for a job must be told of its end at once, who follows a feed or a job must miss
//! nothing, also through the API's own streams, cut off at any time.

use std::sync::Arc;
use std::time::Duration;

use buzzer_api::store::Store;
use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::time::{Clock, Time};
use reqwest::StatusCode;
use tokio::sync::watch;

use super::mortal::here_and_now;
use crate::client::Client;
use crate::events::{EventStream, Shown};
use crate::model::ledger::Ledger;

/// So late may somebody who waits be told that a job has ended: far more than all steps on the way take, also where the
/// store loses its answer more than once.
const PROMPT: Duration = Duration::from_secs(3);
/// How soon one comes back whose stream has ended.
const AGAIN: Duration = Duration::from_millis(50);
/// So many entries of a feed are read at a time.
const PAGE: usize = 16;

/// Waits for one job after the other.
pub(super) struct Waiter {
    pub(super) api: watch::Receiver<Option<Client>>,
    pub(super) ledger: Ledger,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) dice: fastrand::Rng,
}

impl Waiter {
    pub(super) async fn wait(mut self) {
        loop {
            tokio::time::sleep(Duration::from_millis(self.dice.u64(5..100))).await;
            let Some(job) = self.ledger.any(&mut self.dice) else { continue };
            let before = self.ledger.known(job);
            if before.end().is_some() {
                continue;
            }
            let Some(client) = self.api.borrow_and_update().clone() else { continue };
            let asked_at = self.clock.now();
            let Ok(answer) = client.get(&format!("/v1/jobs/{job}?wait=60")).await else { continue };
            let shown = if answer.status == 200 { answer.json() } else { continue };
            self.ledger.shown(&shown, &before);
            let late = self.clock.now().since(told_at(&shown["finished_at"]).unwrap_or(asked_at).max(asked_at));
            if shown["done"] == true && late > PROMPT {
                self.ledger.broken(format!("who waited for {job} was told {late:?} after its end: {shown}"));
            }
        }
    }
}

fn told_at(text: &serde_json::Value) -> Option<Time> {
    text.as_str()?.parse().ok()
}

/// Reads a feed as it grows.
pub(super) struct Follower {
    pub(super) store: Arc<dyn Store>,
    pub(super) ledger: Ledger,
    pub(super) dice: fastrand::Rng,
    /// Whether no job is ever deleted, and with it its part of the feed.
    pub(super) whole: bool,
}

impl Follower {
    pub(super) async fn follow(mut self) {
        let tenant = Tenant::default();
        let mut last = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(self.dice.u64(1..200))).await;
            let page = here_and_now(self.store.feed(&tenant, last, PAGE)).expect("a page");
            for fed in page {
                let follows = if self.whole { fed.feed == last + 1 } else { fed.feed > last };
                if !follows {
                    self.ledger.broken(format!("P3: the feed goes from {last} to {}", fed.feed));
                }
                last = fed.feed;
            }
        }
    }
}

/// Reads the feed through the API's own stream, as a browser does: it comes back with the last id that it saw.
pub(super) struct FeedReader {
    pub(super) api: watch::Receiver<Option<Client>>,
    pub(super) ledger: Ledger,
    pub(super) dice: fastrand::Rng,
}

impl FeedReader {
    pub(super) async fn read(mut self) {
        self.ledger.reads_along();
        let mut last = "f0".to_owned();
        loop {
            let client = there(&mut self.api).await;
            match client.stream("/v1/events", &last).await {
                Ok(Ok(mut stream)) => {
                    for _ in 0..self.dice.usize(1..80) {
                        let Some(shown) = next(&mut stream, &mut self.dice).await else { break };
                        self.ledger.fed(&shown.event);
                    }
                    last = stream.last_id.unwrap_or(last);
                }
                Ok(Err(StatusCode::SERVICE_UNAVAILABLE)) | Err(_) => {}
                Ok(Err(status)) => self.ledger.broken(format!("P3: a feed after {last} was answered {status}")),
            }
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Reads one job after the other in the same way, each to its end.
pub(super) struct JobReader {
    pub(super) api: watch::Receiver<Option<Client>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) ledger: Ledger,
    pub(super) dice: fastrand::Rng,
}

impl JobReader {
    pub(super) async fn read(mut self) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if let Some(job) = self.ledger.any(&mut self.dice) {
                self.follow(job).await;
            }
        }
    }

    async fn follow(&mut self, job: JobId) {
        let mut seen: Vec<String> = Vec::new();
        loop {
            let client = there(&mut self.api).await;
            match client.stream(&format!("/v1/jobs/{job}/events"), &seen.len().to_string()).await {
                Ok(Ok(mut stream)) => {
                    for _ in 0..self.dice.usize(1..12) {
                        let Some(shown) = next(&mut stream, &mut self.dice).await else { break };
                        seen.push(shown.r#type);
                        if shown.id != seen.len().to_string() {
                            self.ledger.broken(format!("P3: who follows {job} was shown {} as {seen:?}", shown.id));
                        }
                    }
                }
                Ok(Err(StatusCode::NO_CONTENT)) => return self.compare(job, &seen),
                Ok(Err(StatusCode::NOT_FOUND)) => return self.ledger.missing(job),
                Ok(Err(StatusCode::SERVICE_UNAVAILABLE)) | Err(_) => {}
                Ok(Err(status)) => {
                    return self
                        .ledger
                        .broken(format!("P3: the events of {job} were answered {status} after {seen:?}"));
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What was shown is the whole log, unless the job was deleted since.
    fn compare(&self, job: JobId, seen: &[String]) {
        let entries = here_and_now(self.store.events(&Tenant::default(), job, 0, usize::MAX >> 1)).expect("a log");
        let log: Vec<_> = entries.iter().map(|entry| entry.r#type.to_string()).collect();
        if !log.is_empty() && log != seen {
            self.ledger.broken(format!("P3: who followed {job} to its end was shown {seen:?}, and its log is {log:?}"));
        }
    }
}

/// The API, once there is one.
async fn there(api: &mut watch::Receiver<Option<Client>>) -> Client {
    let there = api.wait_for(Option::is_some).await.expect("the API comes back");
    there.clone().expect("it was waited for")
}

/// The next event. `None`: the stream has ended, was cut, or was quiet for as long as this client likes.
async fn next(stream: &mut EventStream, dice: &mut fastrand::Rng) -> Option<Shown> {
    let patience = Duration::from_millis(dice.u64(100..20_000));
    tokio::time::timeout(patience, stream.next()).await.ok()?.ok()?
}

/// Whether all of the feed stands there in the end, in one order and without a gap.
pub(super) fn check_feed(store: &dyn Store, ledger: &Ledger, whole: bool) {
    let tenant = Tenant::default();
    let all = here_and_now(store.feed(&tenant, 0, usize::MAX >> 1)).expect("a feed");
    let numbers: Vec<_> = all.iter().map(|fed| fed.feed).collect();
    let end = here_and_now(store.feed_end(&tenant)).expect("its end");
    if !numbers.is_sorted_by(|one, next| one < next) || (whole && numbers != (1..=end).collect::<Vec<_>>()) {
        ledger.broken(format!("P3: the feed has the numbers {numbers:?}, and ends with {end}"));
    }
}
