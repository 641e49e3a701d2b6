//! A broker inside this process, with RabbitMQ's semantics as far as Buzzer uses them.
//!
//! Nothing is on disk: what is under way when the process ends is gone, and the store sends it again. All happens
//! where a message is published or acknowledged, under one short lock: no task runs per message, and no timer.
//! [`state`] is the whole broker without the lock, [`queue`] one queue of it, [`consumer`] one taker of a queue.

mod consumer;
mod queue;
mod state;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::consumer::Consumer;
use self::state::{Id, State};
use super::{
    Acknowledger, Broker, BrowseError, Browsed, Browsing, DeclareError, Delivery, Line, PublishError, Receipts,
    Subscriber, Subscription,
};
use crate::message::Message;
use crate::time::{Clock, Time};
use crate::topology::{Declaration, Route};

/// The largest body it takes, as RabbitMQ 4 has it: what works here works there.
const MAX_BODY: usize = 16 * 1024 * 1024;
/// How many automatically acknowledged messages wait for their taker; the others wait in the queue.
const AUTOMATIC_BUFFER: usize = 1024;

/// A line to a broker inside this process.
///
/// Share it through an `Arc`, or give each part its own with [`another_line`](Self::another_line): `close` ends the
/// subscriptions of its own line only.
pub struct EmbeddedBroker {
    shared: Arc<Shared>,
    id: Id,
    closed: CancellationToken,
    line: watch::Sender<Line>,
}

impl EmbeddedBroker {
    /// A broker without queues, and the first line to it. By `clock` it knows what has expired.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::line_to(Arc::new(Shared { clock, state: Mutex::default() }))
    }

    /// One more line to the same broker.
    #[must_use]
    pub fn another_line(&self) -> Self {
        Self::line_to(Arc::clone(&self.shared))
    }

    fn line_to(shared: Arc<Shared>) -> Self {
        let id = shared.lock().new_id();
        Self { shared, id, closed: CancellationToken::new(), line: watch::Sender::new(Line::Up) }
    }
}

impl fmt::Debug for EmbeddedBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedBroker").field("line", &self.id).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn declare(&self, declarations: Vec<Declaration>) -> Result<(), DeclareError> {
        if self.closed.is_cancelled() {
            return Err(DeclareError::Away("the line was closed".into()));
        }
        let now = self.shared.now();
        self.shared.lock().declare(&declarations, self.id, now)
    }

    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        // Nothing below waits, so a loop that publishes would keep its takers from the thread.
        tokio::task::coop::consume_budget().await;
        if self.closed.is_cancelled() {
            return Err(PublishError::Away);
        }
        let size = message.body.len();
        if size > MAX_BODY {
            return Err(PublishError::TooLarge { size, limit: MAX_BODY });
        }
        let now = self.shared.now();
        self.shared.lock().publish(route, message, now)
    }

    fn subscribe(&self, subscription: Subscription) -> Subscriber {
        let capacity = match subscription.receipts {
            // What is here and not taken is unacknowledged too, so it never exceeds the prefetch.
            Receipts::Manual { prefetch } => usize::from(prefetch).max(1),
            Receipts::Automatic => AUTOMATIC_BUFFER,
        };
        let (sender, receiver) = mpsc::channel(capacity);
        let attached = watch::Sender::new(false);
        let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
        let subscriber = Subscriber::new(receiver, attached.subscribe(), stop.clone(), gone.clone());
        let full = Arc::new(Notify::new());
        let now = self.shared.now();
        let id = {
            let mut state = self.shared.lock();
            // `close` cancels first and takes the lock second, so whoever comes after it is seen here.
            if self.closed.is_cancelled() {
                return subscriber;
            }
            let id = state.new_id();
            let acknowledger = Arc::new(Acknowledgements {
                shared: Arc::clone(&self.shared),
                queue: Arc::clone(&subscription.queue),
                consumer: id,
            });
            let out = sender.clone();
            let full = Arc::clone(&full);
            state.subscribe(Consumer::new(id, self.id, subscription, acknowledger, out, attached, full), now);
            id
        };
        let shared = Arc::clone(&self.shared);
        let care = Care { shared, id, sender, full, stop, gone, closed: self.closed.clone() };
        tokio::spawn(care.run());
        subscriber
    }

    async fn browse(&self, queue: Arc<str>, limit: u16) -> Result<Browsed, BrowseError> {
        if self.closed.is_cancelled() {
            return Err(BrowseError::Away("the line was closed".into()));
        }
        let receipts = Receipts::Manual { prefetch: limit.max(1) };
        let (sender, mut taken) = mpsc::channel(limit.max(1).into());
        let now = self.shared.now();
        let mut state = self.shared.lock();
        if state.ready(&queue).is_none() {
            return Err(BrowseError::NoQueue(queue));
        }
        let id = state.new_id();
        let acknowledger =
            Arc::new(Acknowledgements { shared: Arc::clone(&self.shared), queue: Arc::clone(&queue), consumer: id });
        let subscription = Subscription { queue: Arc::clone(&queue), declare: Vec::new(), receipts };
        let attached = watch::Sender::new(false);
        state.subscribe(Consumer::new(id, self.id, subscription, acknowledger, sender, attached, Arc::default()), now);
        // It has all that it will get: nothing comes after what it acknowledges.
        state.stop(id);
        let behind = state.ready(&queue).unwrap_or(0);
        drop(state);
        let deliveries: Vec<_> = std::iter::from_fn(|| taken.try_recv().ok()).collect();
        let waiting = deliveries.len() + behind;
        Ok(Browsed::new(deliveries, waiting, Box::new(Looking { shared: Arc::clone(&self.shared), id })))
    }

    fn user(&self) -> Option<&str> {
        None
    }

    fn line(&self) -> watch::Receiver<Line> {
        self.line.subscribe()
    }

    async fn close(&self) {
        self.closed.cancel();
        let now = self.shared.now();
        self.shared.lock().close_line(self.id, now);
    }
}

/// What all lines share.
struct Shared {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Time {
        self.clock.now()
    }
}

/// Acknowledges what one consumer was given.
struct Acknowledgements {
    shared: Arc<Shared>,
    queue: Arc<str>,
    consumer: Id,
}

impl Acknowledger for Acknowledgements {
    fn acknowledge(&self, tag: u64) {
        let now = self.shared.now();
        self.shared.lock().acknowledge(&self.queue, self.consumer, tag, now);
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}

impl fmt::Debug for Acknowledgements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acknowledgements").field("queue", &self.queue).finish_non_exhaustive()
    }
}

/// Somebody looks into a queue. Dropped, it gives back what was not acknowledged.
struct Looking {
    shared: Arc<Shared>,
    id: Id,
}

impl Drop for Looking {
    fn drop(&mut self) {
        let now = self.shared.now();
        self.shared.lock().leave(self.id, now);
    }
}

#[async_trait]
impl Browsing for Looking {
    async fn close(self: Box<Self>) -> Result<(), BrowseError> {
        Ok(())
    }
}

impl fmt::Debug for Looking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looking").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Looks after one subscription, from its start until its subscriber is gone or its line closed.
struct Care {
    shared: Arc<Shared>,
    id: Id,
    sender: mpsc::Sender<Delivery>,
    full: Arc<Notify>,
    stop: CancellationToken,
    gone: CancellationToken,
    closed: CancellationToken,
}

impl Care {
    async fn run(self) {
        let Self { shared, id, sender, full, stop, gone, closed } = self;
        let feed = async {
            loop {
                full.notified().await;
                // An error means that the receiver was dropped; then `gone` is canceled as well.
                drop(sender.reserve().await);
                let now = shared.now();
                shared.lock().feed(id, now);
            }
        };
        let ended = async {
            tokio::select! {
                () = gone.cancelled() => {}
                () = closed.cancelled() => {}
            }
        };
        tokio::pin!(ended);
        tokio::select! {
            () = &mut ended => {}
            () = feed => {}
            () = stop.cancelled() => {
                shared.lock().stop(id);
                // Now no sender is left, and the subscriber learns that there will be no more.
                drop(sender);
                ended.await;
            }
        }
        let now = shared.now();
        shared.lock().leave(id, now);
    }
}

#[cfg(test)]
mod tests;
