//! Those who only look: who waits for a job must be told of its end at once, who follows a feed must miss nothing.

use std::sync::Arc;
use std::time::Duration;

use buzzer_api::store::Store;
use buzzer_shared::id::Tenant;
use buzzer_shared::time::{Clock, Time};
use tokio::sync::watch;

use super::mortal::here_and_now;
use crate::client::Client;
use crate::model::ledger::Ledger;

/// So late may somebody who waits be told that a job has ended: far more than all steps on the way take.
const PROMPT: Duration = Duration::from_secs(1);
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
