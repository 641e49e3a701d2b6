//! Clients that submit, ask, wait, cancel, retry and delete as their dice say, and write down every answer.

use std::time::Duration;

use buzzer_shared::id::JobId;
use futures_util::{StreamExt, stream};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::ledger::{Known, Ledger};
use super::worker::{LONG, ONCE, PLAIN};
use crate::client::{Answer, Client, NoAnswer};

/// Few enough that each is used several times.
const KEYS: usize = 6;
/// How many submissions are under way at a time, where there are to be many.
const FLOOD: usize = 16;

/// One client. What it asks while the API is away is not asked at all.
#[derive(Debug)]
pub struct Customer {
    pub api: watch::Receiver<Option<Client>>,
    pub ledger: Ledger,
    pub dice: fastrand::Rng,
    /// Whether it deletes jobs, too.
    pub deletes: bool,
}

impl Customer {
    pub async fn shop(mut self, actions: usize) {
        for _ in 0..actions {
            tokio::time::sleep(Duration::from_millis(self.dice.u64(..60))).await;
            let Some(job) = self.ledger.any(&mut self.dice) else {
                self.submit().await;
                continue;
            };
            match self.dice.u32(..100) {
                0..45 => self.submit().await,
                45..53 => self.submit_with_key().await,
                53..69 => self.cancel(job).await,
                69..75 => self.retry(job).await,
                75..80 if self.deletes => self.delete(job).await,
                80..90 => self.get(job, "").await,
                _ => {
                    let after = self.dice.u32(1..4);
                    self.get(job, &format!("?wait=1&after={after}")).await;
                }
            }
        }
    }

    /// A job that brings its workers down, as it seems.
    pub async fn poison(&mut self) {
        if let Some(job) = self.send_in(PLAIN, &json!({ "input": { "poison": true } })).await {
            self.ledger.leave_alone(job);
        }
    }

    async fn submit(&mut self) {
        let kind = [PLAIN, PLAIN, PLAIN, ONCE, LONG][self.dice.usize(..5)];
        let mut order = json!({ "input": { "n": self.dice.u32(..) } });
        match self.dice.u32(..10) {
            0 => order["delay"] = json!(format!("{}ms", self.dice.u32(50..900))),
            1 => order["expires"] = json!(format!("{}ms", self.dice.u32(20..900))),
            2 => {
                order["delay"] = json!("200ms");
                order["expires"] = json!("600ms");
            }
            _ => {}
        }
        let _ = self.send_in(kind, &order).await;
    }

    /// The job, if it was accepted.
    async fn send_in(&mut self, kind: &str, order: &Value) -> Option<JobId> {
        let client = self.client().await;
        let mut request = client.request(Method::POST, &format!("/v1/jobs/{kind}")).json(order);
        if self.dice.u32(..8) == 0 {
            request = request.header("prefer", "wait=1");
        }
        let answer = client.send(request).await.ok()?;
        if !self.is_one_of(&answer, &[200, 202]) {
            return None;
        }
        let job = answer.json();
        self.ledger.accepted(id(&job));
        self.ledger.shown(&job, &Known::default());
        Some(id(&job))
    }

    /// The same key is always the same order; now and then another one is tried under it.
    async fn submit_with_key(&mut self) {
        let key = format!("key-{}", self.dice.usize(..KEYS));
        let other = self.ledger.is_key_used(&key) && self.dice.u32(..4) == 0;
        let order = json!({ "input": { "other": other }, "tags": { "key": key } });
        let client = self.client().await;
        let request = client.request(Method::POST, &format!("/v1/jobs/{PLAIN}")).header("idempotency-key", &key);
        let Ok(answer) = client.send(request.json(&order)).await else { return };
        if other {
            self.is_one_of(&answer, &[422]);
        } else if self.is_one_of(&answer, &[202]) {
            let job = answer.json();
            self.ledger.accepted_with_key(&key, id(&job));
            self.ledger.shown(&job, &Known::default());
        }
    }

    async fn get(&mut self, job: JobId, query: &str) {
        let client = self.client().await;
        look(&client, &self.ledger, job, query).await;
    }

    async fn cancel(&mut self, job: JobId) {
        let client = self.client().await;
        let before = self.ledger.known(job);
        self.ledger.cancels(job);
        let Ok(answer) = client.send(client.request(Method::POST, &format!("/v1/jobs/{job}/cancel"))).await else {
            return;
        };
        if before.end().is_some_and(|end| end != "canceled") && answer.status.is_success() {
            self.ledger.broken(format!("P5: a cancel of {job}, which had ended, was answered: {}", answer.text));
        }
        match answer.status.as_u16() {
            404 => self.ledger.missing(job),
            409 => {
                let state = answer.json()["state"].as_str().unwrap_or_default().to_owned();
                self.ledger.too_late(job, &state);
            }
            _ if !self.is_one_of(&answer, &[200, 202]) => {}
            status => {
                let shown = answer.json();
                self.ledger.shown(&shown, &before);
                let done = shown["state"] == "canceled";
                if done != (status == 200) {
                    self.ledger.broken(format!("P5: a cancel was answered {status} with {shown}"));
                }
                if status == 200 { self.ledger.canceled(job) } else { self.ledger.asked_to_stop(job) }
            }
        }
    }

    async fn retry(&mut self, job: JobId) {
        let client = self.client().await;
        let before = self.ledger.known(job);
        let Ok(answer) = client.send(client.request(Method::POST, &format!("/v1/jobs/{job}/retry"))).await else {
            return;
        };
        match answer.status.as_u16() {
            404 => self.ledger.missing(job),
            202 => {
                let anew = answer.json();
                if anew["retry_of"] != json!(job) {
                    self.ledger.broken(format!("a retry of {job} made {anew}"));
                }
                self.ledger.accepted(id(&anew));
                self.ledger.shown(&anew, &Known::default());
            }
            _ if self.is_one_of(&answer, &[200, 409]) && answer.status == 200 => {
                self.ledger.shown(&answer.json(), &before);
            }
            _ => {}
        }
    }

    /// Spares jobs with a key: the key goes with its job, and may then stand for another one.
    async fn delete(&mut self, job: JobId) {
        let before = self.ledger.known(job);
        if !before.has_ended_without_key() {
            return;
        }
        let client = self.client().await;
        self.ledger.deletes(job);
        let Ok(answer) = client.send(client.request(Method::DELETE, &format!("/v1/jobs/{job}"))).await else {
            return;
        };
        if self.is_one_of(&answer, &[200, 404]) && answer.status == 200 {
            self.ledger.shown(&answer.json(), &before);
        }
    }

    /// Answers once there is an API.
    async fn client(&mut self) -> Client {
        let there = self.api.wait_for(Option::is_some).await.expect("the API comes back");
        there.clone().expect("it was waited for")
    }

    /// A store that is away may always be the answer; nothing has happened then. And what an API says while it is being
    /// killed is as good as nothing.
    fn is_one_of(&self, answer: &Answer, expected: &[u16]) -> bool {
        let status = answer.status.as_u16();
        let was_killed = self.api.has_changed().unwrap_or(true);
        if status != 503 && !was_killed && !expected.contains(&status) {
            self.ledger.broken(format!("answered {status} instead of {expected:?}: {}", answer.text));
        }
        expected.contains(&status)
    }
}

/// Asks for a job. Whether there was an answer.
pub async fn look(client: &Client, ledger: &Ledger, job: JobId, query: &str) -> bool {
    let before = ledger.known(job);
    let Ok(answer) = client.get(&format!("/v1/jobs/{job}{query}")).await else { return false };
    match answer.status.as_u16() {
        200 => ledger.shown(&answer.json(), &before),
        404 => ledger.missing(job),
        503 => {}
        status => ledger.broken(format!("asked for {job}, answered {status}: {}", answer.text)),
    }
    true
}

/// Hands in jobs that run at most once, several at a time, until the API is gone.
pub async fn flood(client: Client, ledger: Ledger) {
    let submissions = stream::iter(0..).map(|n| {
        let (client, ledger) = (client.clone(), ledger.clone());
        async move {
            let answer = client.submit(ONCE, &json!(n), None).await?;
            if answer.status == StatusCode::ACCEPTED {
                ledger.accepted(id(&answer.json()));
            }
            Ok::<(), NoAnswer>(())
        }
    });
    submissions.buffer_unordered(FLOOD).take_while(|answer| std::future::ready(answer.is_ok())).count().await;
}

fn id(job: &Value) -> JobId {
    job["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
}
