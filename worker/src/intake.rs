//! Taking the requests of one kind, and giving them slots.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use buzzer_shared::broker::{Broker, Delivery, Receipts, Subscriber, Subscription};
use buzzer_shared::message::{Request, ReturnReason, RunResult};
use buzzer_shared::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use crate::desk::Desk;
use crate::held::Hold;
use crate::slots::Slots;

/// Takes requests of one kind and runs as many at a time as the kind has slots.
///
/// The prefetch is the number of slots, so as a rule a request that comes has a free one. After a reconnect it may
/// not: old runs still go on. Then it waits here, and at most as many wait as there are slots.
#[derive(Debug)]
pub(crate) struct Intake {
    desk: Desk,
    subscriber: Subscriber,
    slots: Slots,
    waiting: VecDeque<(Request, Hold)>,
    /// Changes when somebody who waits may have been canceled.
    cancels: watch::Receiver<()>,
}

impl Intake {
    pub(crate) fn new(desk: Desk, slots: Slots, broker: &dyn Broker) -> Self {
        let subscriber = broker.subscribe(Subscription {
            queue: Arc::clone(desk.queue()),
            declare: Vec::new(),
            receipts: Receipts::Manual { prefetch: slots.count() },
        });
        let cancels = desk.cancels();
        Self { desk, subscriber, slots, waiting: VecDeque::new(), cancels }
    }

    /// Whether the broker feeds it now.
    pub(crate) fn attached(&self) -> watch::Receiver<bool> {
        self.subscriber.attached()
    }

    /// Takes and runs until somebody asks to stop or the broker is closed; then answers all it has.
    pub(crate) async fn run(mut self, shutdown: Shutdown, give_up: CancellationToken) {
        let mut requested = pin!(shutdown.requested());
        loop {
            tokio::select! {
                biased;
                () = &mut requested => break,
                Some(slot) = self.slots.one(), if !self.waiting.is_empty() => self.start(slot),
                Ok(()) = self.cancels.changed(), if !self.waiting.is_empty() => self.answer_canceled(),
                delivery = self.subscriber.next(), if self.waiting.len() < self.slots.count().into() => match delivery {
                    Some(delivery) => self.take(delivery),
                    None => break,
                },
            }
        }
        for (_, hold) in self.waiting.drain(..) {
            self.desk.answer_unstarted(hold, RunResult::Returned(ReturnReason::Stopping));
        }
        self.desk.close(Some(self.subscriber), &give_up).await;
    }

    fn take(&mut self, delivery: Delivery) {
        let Some((request, hold)) = self.desk.receive(delivery) else { return };
        if hold.cancellation().is_cancelled() {
            self.desk.answer_unstarted(hold, RunResult::Canceled);
        } else {
            self.waiting.push_back((request, hold));
        }
    }

    fn start(&mut self, slot: OwnedSemaphorePermit) {
        if let Some((request, hold)) = self.waiting.pop_front() {
            let (executor, kind) = (Arc::clone(self.desk.executor()), Arc::clone(self.desk.kind()));
            self.desk.spawn(executor.execute(kind, request, hold, slot));
        }
    }

    /// Who waits for a slot and was canceled has nothing to wait for.
    fn answer_canceled(&mut self) {
        for (request, hold) in std::mem::take(&mut self.waiting) {
            if hold.cancellation().is_cancelled() {
                self.desk.answer_unstarted(hold, RunResult::Canceled);
            } else {
                self.waiting.push_back((request, hold));
            }
        }
    }
}
