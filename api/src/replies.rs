//! Takes outcomes from the replies queue: stores them, then acknowledges them, in batches that follow the load.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::{Broker, Delivery, Receipt, Receipts, Subscriber, Subscription};
use buzzer_shared::message::{Message, Outcome, Unreadable};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::Topology;
use tokio::sync::watch;

use crate::journal::Journal;
use crate::lifecycle::Event;
use crate::store::Happening;

/// So many outcomes may be on their way to the store; then RabbitMQ holds the rest.
const PREFETCH: u16 = 1024;
/// So many outcomes are stored in one transaction at most.
const BATCH_MAX: usize = 256;
/// How long to wait before the store is asked again.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Consumes the replies queue.
#[derive(Debug)]
pub struct Replies {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    pub journal: Journal,
    pub clock: Arc<dyn Clock>,
    pub caught_up: CaughtUp,
}

impl Replies {
    pub async fn run(self, shutdown: Shutdown) {
        let mut subscriber = self.broker.subscribe(Subscription {
            queue: self.topology.outcomes_queue(),
            declare: Vec::new(),
            receipts: Receipts::Manual { prefetch: PREFETCH },
        });
        let mut attached = subscriber.attached();
        loop {
            tokio::select! {
                () = shutdown.requested() => break,
                Ok(()) = attached.changed() => {
                    let here = *attached.borrow_and_update();
                    self.caught_up.note(here, self.clock.now());
                }
                first = subscriber.next() => {
                    let Some(first) = first else { break };
                    self.step(first, &mut subscriber, &shutdown).await;
                }
            }
        }
        // Those that were taken and not stored come again to whoever consumes next.
        subscriber.stop();
    }

    /// Stores what is here, then acknowledges it. What cannot be stored is held, not given back: giving back counts as
    /// a delivery on some brokers, and the next one would fare no better.
    async fn step(&self, first: Delivery, subscriber: &mut Subscriber, shutdown: &Shutdown) {
        let batch = gather(first, subscriber);
        if batch.len() == BATCH_MAX {
            self.caught_up.note(false, self.clock.now());
        } else {
            self.caught_up.note(*subscriber.attached().borrow(), self.clock.now());
        }
        let (happenings, receipts) = self.read(batch).await;
        loop {
            match self.journal.apply(happenings.clone()).await {
                Ok(_) => break,
                Err(error) => tracing::warn!(%error, "outcomes cannot be stored; they are held and tried again"),
            }
            tokio::select! {
                () = tokio::time::sleep(STORE_RETRY) => {}
                () = shutdown.requested() => return,
            }
        }
        receipts.into_iter().for_each(Receipt::acknowledge);
    }

    async fn read(&self, batch: Vec<Delivery>) -> (Vec<Happening>, Vec<Receipt>) {
        let mut happenings = Vec::with_capacity(batch.len());
        let mut receipts = Vec::with_capacity(batch.len());
        for Delivery { message, receipt, .. } in batch {
            match Outcome::read(&message) {
                Ok(outcome) => {
                    happenings.push(happening(outcome, fastrand::f64()));
                    receipts.push(receipt);
                }
                Err(reason) => {
                    if self.park(message, &reason).await {
                        receipts.push(receipt);
                    }
                }
            }
        }
        (happenings, receipts)
    }

    /// Puts aside what cannot be read. Where that fails the message stays unacknowledged, and comes again.
    async fn park(&self, message: Message, reason: &Unreadable) -> bool {
        tracing::warn!(%reason, r#type = message.r#type, "a message on the replies queue cannot be read; it is parked");
        let parked = message.parked(&self.topology.outcomes_queue(), reason);
        match self.broker.publish(self.topology.parking(), parked).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "a message cannot be parked now");
                false
            }
        }
    }
}

fn gather(first: Delivery, subscriber: &mut Subscriber) -> Vec<Delivery> {
    let mut batch = vec![first];
    while batch.len() < BATCH_MAX
        && let Some(next) = subscriber.try_next()
    {
        batch.push(next);
    }
    batch
}

fn happening(outcome: Outcome, chance: f64) -> Happening {
    let Outcome { run, worker, started_at, result } = outcome;
    let event = Event::Finished { dispatch: run.dispatch, worker, started_at, result, chance };
    Happening { job: run.job, event }
}

/// Since when this replica has read every outcome there is. Before that, silence says nothing about a run: its outcome
/// may wait in the queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CaughtUp(watch::Sender<Option<Time>>);

impl Default for CaughtUp {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl CaughtUp {
    fn note(&self, caught_up: bool, now: Time) {
        self.0.send_if_modified(|since| {
            let changed = since.is_some() != caught_up;
            if changed {
                *since = caught_up.then_some(now);
            }
            changed
        });
    }

    /// Whether it has been so for this long.
    pub fn for_at_least(&self, length: Duration, now: Time) -> bool {
        self.0.borrow().is_some_and(|since| now.since(since) >= length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caught_up_counts_from_the_moment_it_began() {
        let caught_up = CaughtUp::default();
        assert!(!caught_up.for_at_least(Duration::ZERO, Time::from_millis(0)));
        caught_up.note(true, Time::from_millis(1000));
        caught_up.note(true, Time::from_millis(5000));
        assert!(caught_up.for_at_least(Duration::from_secs(4), Time::from_millis(5000)));
        caught_up.note(false, Time::from_millis(6000));
        caught_up.note(true, Time::from_millis(7000));
        assert!(!caught_up.for_at_least(Duration::from_secs(1), Time::from_millis(7999)));
    }
}
