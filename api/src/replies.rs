//! Takes replies (outcomes, and early starts of runs) from their queue: stores them, then
//! acknowledges them, in batches that follow the load.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::broker::{Broker, Delivery, Receipts, Subscriber, Subscription};
use buzzer_shared::message::{Message, Outcome, Reply, Started};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;
use buzzer_shared::topology::Topology;

use crate::hearing::{self, Hearing};
use crate::journal::Journal;
use crate::lifecycle::{Event, Late, RunLease};
use crate::senders::Senders;
use crate::store::{Happening, StoreError};

/// So many replies may be on their way to the store; then RabbitMQ holds the rest.
const PREFETCH: u16 = 1024;
/// So many replies are stored in one transaction at most.
const BATCH_MAX: usize = 256;
/// How long to wait before a message is parked again.
const PARK_RETRY: Duration = Duration::from_secs(2);
/// How long to wait before the store is asked again.
const STORE_RETRY: Duration = Duration::from_millis(500);

/// Consumes the replies queue.
#[derive(Debug)]
pub struct Replies {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    pub journal: Journal,
    pub clock: Arc<dyn Clock>,
    pub hearing: Hearing,
    pub senders: Senders,
    /// How long a run may go without a beat.
    pub lease: Duration,
}

impl Replies {
    pub async fn run(self, shutdown: Shutdown) {
        let mut subscriber = self.broker.subscribe(Subscription {
            queue: self.topology.replies_queue(),
            declare: Vec::new(),
            receipts: Receipts::Manual { prefetch: PREFETCH },
        });
        let mut attached = subscriber.attached();
        loop {
            tokio::select! {
                () = shutdown.requested() => break,
                Ok(()) = attached.changed() => {
                    // It may have changed twice: then something was missed in between.
                    self.hearing.note(false, self.clock.now());
                    self.hearing.note(*attached.borrow_and_update(), self.clock.now());
                }
                first = subscriber.next() => {
                    let Some(first) = first else { break };
                    self.step(first, &mut subscriber, &shutdown).await;
                }
                () = tokio::time::sleep(hearing::LOOK) => self.hearing.note(*attached.borrow(), self.clock.now()),
            }
        }
        // Those that were taken and not stored come again to whoever consumes next.
        subscriber.stop();
    }

    /// Stores what is here, then acknowledges it.
    async fn step(&self, first: Delivery, subscriber: &mut Subscriber, shutdown: &Shutdown) {
        let batch = gather(first, subscriber);
        // After a full batch there is more.
        let last = batch.len() < BATCH_MAX;
        let replies = self.read(batch);
        self.settle(replies, shutdown).await;
        self.hearing.note(last && *subscriber.attached().borrow(), self.clock.now());
    }

    fn read(&self, batch: Vec<Delivery>) -> Vec<Reported> {
        let mut replies = Vec::with_capacity(batch.len());
        for delivery in batch {
            match self.senders.read(&delivery.message, Reply::read) {
                Ok(reply) => replies.push(Reported { happening: self.happening(reply), delivery }),
                Err(reason) => self.park(delivery, &reason, |parked| reason.mark(parked)),
            }
        }
        replies
    }

    fn happening(&self, reply: Reply) -> Happening {
        match reply {
            Reply::Outcome(outcome) => finished(outcome, fastrand::f64()),
            Reply::Started(started) => started_early(&started, RunLease::new(self.clock.now(), self.lease)),
        }
    }

    /// Stores replies together. Where one of them cannot be, it is found by halving, and parked; the others are kept.
    async fn settle(&self, replies: Vec<Reported>, shutdown: &Shutdown) {
        let mut batches = vec![replies];
        while let Some(mut batch) = batches.pop() {
            match self.store(&batch, shutdown).await {
                Ok(()) => batch.into_iter().for_each(|reported| reported.delivery.receipt.acknowledge()),
                Err(Unstored::Stopping) => return,
                Err(Unstored::Refused(_)) if batch.len() > 1 => {
                    batches.push(batch.split_off(batch.len() / 2));
                    batches.push(batch);
                }
                Err(Unstored::Refused(reason)) => {
                    for reported in batch {
                        self.park(reported.delivery, &reason, |parked| parked);
                    }
                }
            }
        }
    }

    /// Waits for a store that is away. What cannot be stored is held, not given back: giving back counts as a delivery
    /// on some brokers, and the next one would fare no better.
    async fn store(&self, batch: &[Reported], shutdown: &Shutdown) -> Result<(), Unstored> {
        let happenings: Vec<_> = batch.iter().map(|reported| reported.happening.clone()).collect();
        if bites(Fault::AcknowledgeBeforeStore) {
            let journal = self.journal.clone();
            tokio::spawn(async move { journal.apply(happenings).await });
            return Ok(());
        }
        loop {
            match self.journal.apply(happenings.clone()).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Corrupt(reason)) => return Err(Unstored::Refused(reason)),
                Err(error) => tracing::warn!(%error, "replies cannot be stored; they are held and tried again"),
            }
            tokio::select! {
                () = tokio::time::sleep(STORE_RETRY) => {}
                () = shutdown.requested() => return Err(Unstored::Stopping),
            }
        }
    }

    /// Puts aside what nobody can use. While that fails it is tried again, and the message stays unacknowledged: so
    /// there are at most as many of these as the prefetch allows.
    fn park(&self, delivery: Delivery, reason: &impl std::fmt::Display, mark: impl FnOnce(Message) -> Message) {
        let Delivery { message, receipt, .. } = delivery;
        if bites(Fault::DropUnreadable) {
            return receipt.acknowledge();
        }
        tracing::warn!(%reason, r#type = %message.r#type, "a message on the replies queue is parked");
        let parked = mark(message.parked(&self.topology.replies_queue(), reason));
        let (broker, route) = (Arc::clone(&self.broker), self.topology.parking());
        tokio::spawn(async move {
            while let Err(error) = broker.publish(route.clone(), parked.clone()).await {
                tracing::warn!(%error, "a message cannot be parked; trying again");
                tokio::time::sleep(PARK_RETRY).await;
            }
            receipt.acknowledge();
        });
    }
}

/// A reply with the message that brought it.
#[derive(Debug)]
struct Reported {
    happening: Happening,
    delivery: Delivery,
}

/// Why replies were not stored.
enum Unstored {
    /// The store will never take them, for instance because what it holds about one of the jobs is damaged.
    Refused(String),
    /// The process stops; they come again to whoever consumes next.
    Stopping,
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

fn finished(outcome: Outcome, chance: f64) -> Happening {
    let Outcome { run, worker, started_at, told, result } = outcome;
    let late = told.into_iter().filter_map(Late::of).collect();
    let event = Event::Finished { dispatch: run.dispatch, worker, started_at, late, result, chance };
    Happening { job: run.job, event }
}

fn started_early(started: &Started, lease: RunLease) -> Happening {
    let Started { run, worker, at, charged } = *started;
    Happening { job: run.job, event: Event::StartedEarly { dispatch: run.dispatch, worker, at, lease, charged } }
}
