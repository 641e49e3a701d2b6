//! Taking the requests of a kind that is acknowledged before it runs.

use std::pin::pin;
use std::sync::Arc;

use buzzer_shared::broker::{Broker, Delivery, Receipts, Subscriber, Subscription};
use buzzer_shared::message::{ReturnReason, RunResult};
use buzzer_shared::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::slots::Slots;

/// Takes requests one by one, and none while all slots are taken.
///
/// What is acknowledged early no longer counts for the prefetch, so the prefetch cannot keep more from coming than
/// there are slots. Here a subscription ends when the last slot is taken, and another begins when one is free again.
/// It ends before the request that took the slot is acknowledged: with a prefetch of one, nothing comes in between
/// that would have to go back.
#[derive(Debug)]
pub(crate) struct EarlyIntake {
    desk: Desk,
    broker: Arc<dyn Broker>,
    /// `None` while all slots are taken.
    subscriber: Option<Subscriber>,
    slots: Slots,
    /// Whether it gets all that it can take: the broker feeds it, or it has no slot to feed.
    fed: watch::Sender<bool>,
}

impl EarlyIntake {
    pub(crate) fn new(desk: Desk, slots: Slots, broker: Arc<dyn Broker>) -> Self {
        Self { desk, broker, subscriber: None, slots, fed: watch::Sender::new(false) }
    }

    /// Whether it gets all that it can take.
    pub(crate) fn attached(&self) -> watch::Receiver<bool> {
        self.fed.subscribe()
    }

    /// Takes and runs until somebody asks to stop or the broker is closed; then answers all it has.
    pub(crate) async fn run(mut self, shutdown: Shutdown, give_up: CancellationToken) {
        let mut requested = pin!(shutdown.requested());
        loop {
            let arrival = tokio::select! {
                biased;
                () = &mut requested => break,
                arrival = self.arrival() => arrival,
            };
            let Some((slot, delivery)) = arrival else { break };
            // Not given up halfway: what is taken must be answered.
            self.take(slot, delivery).await;
        }
        self.desk.close(self.subscriber, &give_up).await;
    }

    /// Waits for a free slot, and then for a request to take it. `None` once the broker is closed.
    async fn arrival(&mut self) -> Option<(OwnedSemaphorePermit, Delivery)> {
        let slot = self.slots.one().await?;
        let subscriber = self.subscriber.get_or_insert_with(|| subscribe(&*self.broker, &self.desk));
        let mut attached = subscriber.attached();
        attached.mark_changed();
        loop {
            tokio::select! {
                biased;
                delivery = subscriber.next() => return delivery.map(|delivery| (slot, delivery)),
                Ok(()) = attached.changed() => {
                    self.fed.send_replace(*attached.borrow_and_update());
                }
            }
        }
    }

    async fn take(&mut self, slot: OwnedSemaphorePermit, delivery: Delivery) {
        let Some((request, hold)) = self.desk.receive(delivery) else { return };
        let ended = if self.slots.are_taken() { self.pause().await } else { None };
        let (executor, kind) = (Arc::clone(self.desk.executor()), Arc::clone(self.desk.kind()));
        self.desk.spawn(async move {
            let begun = executor.begin(kind, request, hold, slot).await;
            // Not before: through it the request was acknowledged.
            drop(ended);
            if let Some(begun) = begun {
                executor.finish(begun).await;
            }
        });
    }

    /// Ends the subscription, and gives it back for the acknowledgements that are still to do. Should the broker have
    /// sent more than it was asked for, that is handed back.
    async fn pause(&mut self) -> Option<Subscriber> {
        let mut subscriber = self.subscriber.take()?;
        subscriber.stop();
        while let Some(delivery) = subscriber.next().await {
            if let Some((_, hold)) = self.desk.receive(delivery) {
                let result = RunResult::Returned(ReturnReason::NoSlot);
                self.desk.executor().answer_unstarted(hold, result).await;
            }
        }
        self.fed.send_replace(true);
        Some(subscriber)
    }
}

fn subscribe(broker: &dyn Broker, desk: &Desk) -> Subscriber {
    broker.subscribe(Subscription {
        queue: Arc::clone(desk.queue()),
        declare: Vec::new(),
        receipts: Receipts::Manual { prefetch: 1 },
    })
}
