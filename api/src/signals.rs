//! Takes what runs tell while they run. May be lost, so it is acknowledged by the broker and never waited for.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::{Broker, Delivery, Receipts, Subscription};
use buzzer_shared::message::Signal;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;
use buzzer_shared::topology::Topology;

use crate::journal::Journal;
use crate::lifecycle::{Event, Report, RunLease};
use crate::senders::Senders;
use crate::store::Happening;

/// So many signals are stored in one transaction at most.
const BATCH_MAX: usize = 256;

/// Consumes the signals queue.
#[derive(Debug)]
pub struct Signals {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    pub journal: Journal,
    pub senders: Senders,
    pub clock: Arc<dyn Clock>,
    /// How long a run that has started may go without a beat.
    pub lease: Duration,
}

impl Signals {
    pub async fn run(self, shutdown: Shutdown) {
        let mut subscriber = self.broker.subscribe(Subscription {
            queue: self.topology.signals_queue(),
            declare: Vec::new(),
            receipts: Receipts::Automatic,
        });
        loop {
            let first = tokio::select! {
                () = shutdown.requested() => return,
                first = subscriber.next() => first,
            };
            let Some(first) = first else { return };
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Some(next) = subscriber.try_next()
            {
                batch.push(next);
            }
            self.step(batch).await;
        }
    }

    async fn step(&self, batch: Vec<Delivery>) {
        let lease = RunLease::new(self.clock.now(), self.lease);
        let mut happenings = Vec::with_capacity(batch.len());
        for Delivery { message, .. } in batch {
            match self.senders.read(&message, Signal::read) {
                Ok(signal) => happenings.push(happening(signal, lease)),
                Err(reason) => {
                    self.journal.tally.unreadable();
                    tracing::warn!(%reason, "a signal is dropped");
                }
            }
        }
        if happenings.is_empty() {
            return;
        }
        if let Err(error) = self.journal.apply(happenings).await {
            tracing::warn!(%error, "signals cannot be stored; they are dropped");
        }
    }
}

fn happening(signal: Signal, lease: RunLease) -> Happening {
    let Signal { run, n, worker, at, body } = signal;
    let dispatch = run.dispatch;
    let event = match Report::of(body) {
        None => Event::Started { dispatch, n, worker, at, lease },
        Some(report) => Event::Reported { dispatch, n, worker, at, lease, report },
    };
    Happening { job: run.job, event }
}
