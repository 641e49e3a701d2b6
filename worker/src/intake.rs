//! Taking the requests of one kind, and giving them slots.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;

use buzzer_shared::broker::{Broker, Delivery, Receipts, Subscriber, Subscription};
use buzzer_shared::message::{Message, Request, Unreadable};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::topology::Topology;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::execute::Executor;
use crate::held::{Held, Hold, Taken};
use crate::registry::Registered;

/// Takes requests of one kind and runs as many at a time as the kind has slots.
///
/// The prefetch is the number of slots, so as a rule a request that comes has a free one. After a reconnect it may
/// not: old runs still go on. Then it waits here, and at most as many wait as there are slots.
#[derive(Debug)]
pub(crate) struct Intake {
    kind: Arc<Registered>,
    queue: Arc<str>,
    subscriber: Subscriber,
    held: Held,
    executor: Arc<Executor>,
    slots: Slots,
    waiting: VecDeque<(Request, Hold)>,
    /// Everything that was begun and is not yet acknowledged.
    answers: TaskTracker,
}

/// The slots of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    permits: Arc<Semaphore>,
    count: u16,
}

impl Slots {
    fn new(count: u16) -> Self {
        Self { permits: Arc::new(Semaphore::new(count.into())), count }
    }

    /// A free slot, as soon as there is one.
    async fn one(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed, so there always is one some time.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    /// Ends once no handler of the kind runs.
    pub(crate) async fn all_free(&self) {
        let _ = self.permits.acquire_many(self.count.into()).await;
    }
}

impl Intake {
    pub(crate) fn new(
        kind: Arc<Registered>,
        broker: &dyn Broker,
        topology: &Topology,
        held: Held,
        executor: Arc<Executor>,
    ) -> Self {
        let count = kind.spec.slots;
        let queue = topology.requests_queue(&kind.spec.name);
        let subscriber = broker.subscribe(Subscription {
            queue: Arc::clone(&queue),
            declare: Vec::new(),
            receipts: Receipts::Manual { prefetch: count },
        });
        let (slots, waiting) = (Slots::new(count), VecDeque::new());
        Self { kind, queue, subscriber, held, executor, slots, waiting, answers: TaskTracker::new() }
    }

    pub(crate) fn slots(&self) -> Slots {
        self.slots.clone()
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
                delivery = self.subscriber.next(), if self.waiting.len() < self.slots.count.into() => match delivery {
                    Some(delivery) => self.take(delivery),
                    None => break,
                },
            }
        }
        self.finish(&give_up).await;
    }

    /// Hands back what has not started, and waits for the rest. The subscriber must live until then: without it nothing
    /// can be acknowledged.
    async fn finish(mut self, give_up: &CancellationToken) {
        self.subscriber.stop();
        self.hand_back_waiting();
        loop {
            tokio::select! {
                biased;
                delivery = self.subscriber.next() => match delivery {
                    Some(delivery) => self.take(delivery),
                    None => break,
                },
                () = give_up.cancelled() => break,
            }
            self.hand_back_waiting();
        }
        self.answers.close();
        self.answers.wait().await;
    }

    fn take(&mut self, delivery: Delivery) {
        let request = match read(&delivery.message, &self.kind) {
            Ok(request) => request,
            Err(reason) => return self.park(delivery, reason),
        };
        match self.held.take(request.run, delivery.receipt) {
            Taken::New(hold) => self.waiting.push_back((request, hold)),
            Taken::Adopted => debug!(job.id = %request.run.job, "A redelivered request is adopted by its run"),
            Taken::Answered(receipt) => receipt.acknowledge(),
        }
    }

    fn start(&mut self, slot: OwnedSemaphorePermit) {
        if let Some((request, hold)) = self.waiting.pop_front() {
            let (executor, kind) = (Arc::clone(&self.executor), Arc::clone(&self.kind));
            self.answers.spawn(executor.execute(kind, request, hold, slot));
        }
    }

    fn hand_back_waiting(&mut self) {
        for (_, hold) in self.waiting.drain(..) {
            self.answers.spawn(Arc::clone(&self.executor).hand_back(hold));
        }
    }

    fn park(&mut self, delivery: Delivery, reason: Unreadable) {
        let (executor, queue) = (Arc::clone(&self.executor), Arc::clone(&self.queue));
        self.answers.spawn(async move {
            if executor.outcomes.park(delivery.message, &queue, &reason).await.is_ok() {
                delivery.receipt.acknowledge();
            }
        });
    }
}

/// The request, if it is one for this kind.
fn read(message: &Message, kind: &Registered) -> Result<Request, Unreadable> {
    let request = Request::read(message)?;
    if request.kind == kind.spec.name {
        Ok(request)
    } else {
        Err(Unreadable::Header { name: "kind", expected: "the kind of the queue that it came from" })
    }
}
