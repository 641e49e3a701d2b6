//! Sends out what webhooks are to be told, and takes note of what came of it.
//!
//! The backlog waits in the table of deliveries. Only those that have their turn become jobs of the internal tenant, which
//! take the road of any other: the claimer claims them, the publisher has [`Letters`](crate::letters::Letters) write them, a
//! worker posts them. So an endpoint that hangs holds up nobody but itself.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Span};
use buzzer_shared::webhook::{Answer, Posted};
use tokio::time::Instant;

use crate::bell::Bell;
use crate::catalog::Catalog;
use crate::delivery::{Attempt, Rules, Webhook, Why, kind};
use crate::lanes::Lanes;
use crate::store::{End, Ended, Settlement, Store, StoreError};

/// How often the store is asked for what is due, or what other replicas have left.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many attempts are settled in one transaction at most, so that it does not hold up the submissions behind it.
const STEP: usize = 200;
/// Between two steps: what happens meanwhile goes together. With many endpoints a step takes longer; then of the time, one
/// part in so many goes into it.
const PAUSE: Duration = Duration::from_millis(10);
const SHARE: u32 = 8;

#[derive(Debug)]
pub struct Deliverer {
    pub store: Arc<dyn Store>,
    pub lanes: Lanes,
    pub catalog: Catalog,
    pub bell: Bell,
    pub rules: Rules,
    pub clock: Arc<dyn Clock>,
}

impl Deliverer {
    /// Until shutdown is requested: a step whenever the bell rings, and one each second.
    pub async fn run(self, shutdown: Shutdown) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let looking = tokio::select! {
                () = shutdown.requested() => return,
                () = self.bell.rung() => false,
                _ = look.tick() => true,
            };
            let began = Instant::now();
            let done = async {
                if looking {
                    self.bell.listen_to(self.store.listening().await?);
                }
                self.step().await
            };
            if let Err(error) = done.await {
                tracing::warn!(%error, "webhooks could not be told; trying again");
            }
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(PAUSE.max(began.elapsed() * SHARE)) => {}
            }
        }
    }

    /// Settles what has ended, which makes room; then makes jobs of what has its turn.
    ///
    /// # Errors
    /// When the store does not answer. What was done is done.
    pub async fn step(&self) -> Result<(), StoreError> {
        while self.settle_some().await? == STEP {}
        let kind = kind();
        let slots = self.catalog.slots().get(&kind).copied().unwrap_or(0);
        if slots > 0 && !self.store.take_deliveries(slots, self.clock.now()).await?.is_empty() {
            self.lanes.waiting(&kind);
        }
        Ok(())
    }

    /// Tells how many were settled.
    async fn settle_some(&self) -> Result<usize, StoreError> {
        let ended = self.store.ended_deliveries(STEP).await?;
        let attempts: Vec<_> = ended.into_iter().map(|ended| settlement(ended, fastrand::f64())).collect();
        match self.settle(attempts.clone()).await {
            Err(StoreError::Corrupt(_)) => self.settle_apart(attempts).await,
            settled => settled,
        }
    }

    async fn settle(&self, attempts: Vec<Settlement>) -> Result<usize, StoreError> {
        let count = attempts.len();
        if count > 0 {
            let disabled = self.store.settle_deliveries(attempts, &self.rules, self.clock.now()).await?;
            disabled.iter().for_each(tell);
        }
        Ok(count)
    }

    /// One whose row cannot be read does not hold up the others.
    async fn settle_apart(&self, attempts: Vec<Settlement>) -> Result<usize, StoreError> {
        let mut settled = 0;
        for attempt in attempts {
            let id = attempt.id;
            match self.settle(vec![attempt]).await {
                Err(StoreError::Corrupt(reason)) => {
                    tracing::error!(delivery = %id, reason, "a delivery cannot be read, and stays where it is; the others go on");
                }
                other => settled += other?,
            }
        }
        Ok(settled)
    }
}

fn settlement(ended: Ended, chance: f64) -> Settlement {
    let Ended { id, run, at, end } = ended;
    let nothing = |reason: String| Posted { duration: Span::from_millis(0), answer: Answer::Nothing(reason) };
    let posted = match end {
        End::Output(output) => serde_json::from_slice(&output)
            .unwrap_or_else(|error| nothing(format!("what the worker told of it cannot be read: {error}"))),
        End::Problem(problem) => {
            let problem = problem.and_then(|problem| problem.detail);
            nothing(problem.unwrap_or_else(|| "the attempt failed".into()))
        }
        End::Vanished => nothing("the job that made the attempt was deleted".into()),
    };
    Settlement { id, run, attempt: Attempt { at, duration: posted.duration, answer: posted.answer }, chance }
}

fn tell(webhook: &Webhook) {
    let host = crate::delivery::host(&webhook.url);
    match webhook.health.disabled.map(|disabled| disabled.why) {
        Some(Why::Gone) => {
            tracing::warn!(webhook = %webhook.id, host, "a webhook is disabled: it answered 410 Gone");
        }
        _ => tracing::warn!(webhook = %webhook.id, host, "a webhook is disabled: every attempt has failed for days"),
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::id::{DeliveryId, JobId};
    use buzzer_shared::problem::Problem;
    use buzzer_shared::time::Time;
    use bytes::Bytes;

    use super::*;

    #[test]
    fn whatever_becomes_of_a_run_is_an_attempt() {
        let now = Time::from_millis(1_795_000_000_000);
        let answer = |end| {
            let ended = Ended { id: DeliveryId::new(now), run: JobId::new(now), at: now, end };
            let settlement = settlement(ended, 0.5);
            assert_eq!((settlement.attempt.at, settlement.chance), (now, 0.5));
            settlement.attempt.answer
        };
        let response = Answer::Response { status: 200, body: "ok".into(), retry_after: None };
        let posted = Posted { duration: Span::from_millis(5), answer: response.clone() };
        assert_eq!(answer(End::Output(serde_json::to_vec(&posted).unwrap().into())), response);
        for (end, part) in [
            (End::Output(Bytes::from_static(b"{}")), "cannot be read"),
            (End::Problem(Some(Problem::new("t", "T", "its worker was lost"))), "worker was lost"),
            (End::Problem(None), "failed"),
            (End::Vanished, "deleted"),
        ] {
            let Answer::Nothing(reason) = answer(end) else { panic!("{part}") };
            assert!(reason.contains(part), "{reason}");
        }
    }
}
