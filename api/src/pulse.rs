//! Takes what workers tell of themselves: which kinds they run, that they are alive, and what they hold.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::{Broker, Line, Receipts, Subscription};
use buzzer_shared::message::{Announce, Beat, Control, Pulse};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::Topology;

use crate::catalog::Catalog;
use crate::journal::Journal;
use crate::lanes::Lanes;
use crate::store::{self, Store, StoreError};

/// Consumes the pulse queue.
#[derive(Debug)]
pub struct Pulses {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    pub store: Arc<dyn Store>,
    pub journal: Journal,
    pub catalog: Catalog,
    pub lanes: Lanes,
    pub clock: Arc<dyn Clock>,
    /// How long a run may go without a beat.
    pub lease: Duration,
}

impl Pulses {
    /// Asks the workers for their kinds whenever the line comes up, and listens until shutdown is requested.
    pub async fn run(self, shutdown: Shutdown) {
        let mut subscriber = self.broker.subscribe(Subscription {
            queue: self.topology.pulse_queue(),
            declare: Vec::new(),
            receipts: Receipts::Automatic,
        });
        let mut line = self.broker.line();
        line.mark_changed();
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                Ok(()) = line.changed() => {
                    let up = *line.borrow_and_update() == Line::Up;
                    if up {
                        self.ask().await;
                    }
                }
                delivery = subscriber.next() => {
                    let Some(delivery) = delivery else { return };
                    match Pulse::read(&delivery.message) {
                        Ok(pulse) => self.step(pulse).await,
                        Err(reason) => tracing::warn!(%reason, "a pulse cannot be read; it is dropped"),
                    }
                }
            }
        }
    }

    async fn step(&self, pulse: Pulse) {
        let taken = match pulse {
            Pulse::Announce(announce) => self.announced(&announce).await,
            Pulse::Beat(beat) => self.beaten(&beat).await,
        };
        if let Err(error) = taken {
            tracing::warn!(%error, "a pulse cannot be stored; the next one will be");
        }
    }

    /// Opens the queue of every kind that is announced.
    async fn announced(&self, announce: &Announce) -> Result<(), StoreError> {
        self.store.announce(announce, self.clock.now()).await?;
        self.catalog.refresh(&*self.store, self.clock.now()).await?;
        self.lanes.set_slots(&self.catalog.slots());
        for spec in &announce.kinds {
            match self.broker.declare(self.topology.requests(&spec.name)).await {
                Ok(()) => self.lanes.open(&spec.name),
                Err(error) => tracing::error!(job.kind = %spec.name, %error, "this kind has no queue"),
            }
        }
        Ok(())
    }

    async fn beaten(&self, beat: &Beat) -> Result<(), StoreError> {
        let now = self.clock.now();
        if beat.leaving {
            self.store.dismiss(Some(beat.worker), Time::from_millis(0)).await?;
            self.catalog.refresh(&*self.store, now).await?;
            self.lanes.set_slots(&self.catalog.slots());
        } else if !self.store.beat(beat.worker, now).await? {
            self.ask().await;
        }
        if !beat.held.is_empty() {
            self.journal.apply(store::renewals(&beat.held, now + self.lease)).await?;
        }
        Ok(())
    }

    async fn ask(&self) {
        if let Err(error) = self.broker.publish(self.topology.to_workers(), Control::Announce.to_message()).await {
            tracing::debug!(%error, "the workers could not be asked for their kinds");
        }
    }
}
