//! The seam to the broker: hand over, take, acknowledge. Two things stand behind it, [`amqp`] (RabbitMQ) and
//! [`embedded`] (in this process), and one suite, [`conformance`], says what both must do.

pub mod amqp;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod embedded;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::message::Message;
use crate::topology::{Declaration, Route};

/// Begins the type of a message whose properties cannot be read, for instance since its id is not UTF-8. No message of
/// ours has such a type, so whoever takes it puts it aside; behind this stands the reason.
pub const UNREADABLE: &str = "unreadable: ";

/// A broker, or rather one process's line to it. It reconnects by itself, for ever.
#[async_trait]
pub trait Broker: fmt::Debug + Send + Sync {
    /// Makes these exist, in this order, now and again after every reconnect.
    ///
    /// Waits while the broker is away, at most the deadline of one operation; then the answer is
    /// [`DeclareError::Away`], and they are made once it is back all the same. Safe to repeat.
    async fn declare(&self, declarations: Vec<Declaration>) -> Result<(), DeclareError>;

    /// Hands a message over. `Ok` means that the broker answers for it: in a quorum queue it is on disk.
    ///
    /// Many may be under way at once. Does not wait for a broker that is away, and always ends within the deadline
    /// of one operation.
    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError>;

    /// Takes messages from a queue, for as long as the [`Subscriber`] lives.
    ///
    /// Does not fail: while the broker is away or the queue not there, it is tried again.
    fn subscribe(&self, subscription: Subscription) -> Subscriber;

    /// Looks at what waits in a queue: at so many messages at most, and fewer when they are large. The oldest come
    /// first, but RabbitMQ puts what somebody looked at behind what was looked at before.
    ///
    /// Nobody else gets them meanwhile. With [`Browsed::close`] they wait in the queue as before, but for those that
    /// were acknowledged.
    async fn browse(&self, queue: Arc<str>, limit: u16) -> Result<Browsed, BrowseError>;

    /// The name that every message of this line bears as its `user_id`. `None` where the broker vouches for nobody.
    fn user(&self) -> Option<&str>;

    /// How the line is, and whenever that changes.
    fn line(&self) -> watch::Receiver<Line>;

    /// Ends every subscription, waits for what is under way and closes the line.
    async fn close(&self);
}

/// How the line to the broker is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    Up,
    /// There, but it takes no messages for now: an alarm for memory or disk. With the broker's reason.
    Blocked(String),
    /// Not there. With the last error.
    Away(String),
}

/// Why something could not be declared.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DeclareError {
    #[error("the broker is away: {0}")]
    Away(String),
    /// It exists with other arguments, or this user may not make it.
    #[error("the broker refused to declare {what}: {reason}")]
    Refused { what: String, reason: String },
}

/// Why a message was not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// There is no line. The message was not sent.
    #[error("the broker is away")]
    Away,
    /// No queue takes messages of this route. The message was not kept.
    #[error("no queue took the message: {0}")]
    Returned(String),
    /// The broker said no, for instance because the queue is full. The message was not kept.
    #[error("the broker refused the message")]
    Refused,
    /// The broker takes no message of this size. The message was not kept.
    #[error("the message has {size} bytes, the broker takes at most {limit}")]
    TooLarge { size: usize, limit: usize },
    /// Sent, and no answer came in time or before the line broke. The message may have been kept or not.
    #[error("the broker did not answer")]
    Unknown,
}

impl PublishError {
    /// Whether the message was certainly not kept.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Away | Self::Returned(_) | Self::Refused | Self::TooLarge { .. } => true,
            Self::Unknown => false,
        }
    }
}

/// Why a queue could not be looked into.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BrowseError {
    #[error("the broker is away: {0}")]
    Away(String),
    #[error("there is no queue {0}")]
    NoQueue(Arc<str>),
}

/// What to take, and how.
#[derive(Debug, Clone)]
pub struct Subscription {
    pub queue: Arc<str>,
    /// Made first, on the line that consumes: an exclusive queue belongs to it.
    pub declare: Vec<Declaration>,
    pub receipts: Receipts,
}

/// Who acknowledges, and how much may be unacknowledged at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// The taker, by [`Receipt::acknowledge`]. What it has not acknowledged when its line goes is delivered again.
    Manual { prefetch: u16 },
    /// The broker itself, as the message goes out. For what may be lost.
    Automatic,
}

/// The taking end of a subscription. Dropped, it gives back what was not acknowledged.
#[derive(Debug)]
pub struct Subscriber {
    deliveries: mpsc::Receiver<Delivery>,
    attached: watch::Receiver<bool>,
    stop: CancellationToken,
    /// Ends the subscription when the subscriber is dropped.
    _gone: tokio_util::sync::DropGuard,
}

impl Subscriber {
    /// The taking end for a broker that sends `deliveries`, tells through `attached` whether the broker feeds it now,
    /// takes no more once `stop` is canceled, and gives back what is unacknowledged once `gone` is.
    pub(crate) fn new(
        deliveries: mpsc::Receiver<Delivery>,
        attached: watch::Receiver<bool>,
        stop: CancellationToken,
        gone: CancellationToken,
    ) -> Self {
        Self { deliveries, attached, stop, _gone: gone.drop_guard() }
    }

    /// The next message. `None` once the subscription was stopped or the broker closed, and all is taken.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.deliveries.recv().await
    }

    /// The next message, if it is here already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.deliveries.try_recv().ok()
    }

    /// Whether the broker feeds this subscription now, and whenever that changes.
    pub fn attached(&self) -> watch::Receiver<bool> {
        self.attached.clone()
    }

    /// Takes no more from the broker. What is here already is still told by `next`, and can be acknowledged as long
    /// as the subscriber lives.
    pub fn stop(&self) {
        self.stop.cancel();
    }
}

/// A message that was taken.
#[derive(Debug)]
pub struct Delivery {
    pub message: Message,
    /// How often it was delivered before, as far as the broker knows.
    pub redeliveries: u32,
    pub receipt: Receipt,
}

/// The right to acknowledge one delivery, once. Dropped, it acknowledges nothing.
#[derive(Debug)]
pub struct Receipt {
    tag: u64,
    acknowledger: Arc<dyn Acknowledger>,
}

impl Receipt {
    pub(crate) fn new(tag: u64, acknowledger: Arc<dyn Acknowledger>) -> Self {
        Self { tag, acknowledger }
    }

    /// Tells the broker that the message is dealt with. Without effect when the line it came on is gone: then the
    /// message comes again.
    pub fn acknowledge(self) {
        self.acknowledger.acknowledge(self.tag);
    }

    /// The same, and ends once the broker has it: from then on it will not deliver the message again. Ends without that
    /// when the line is gone, or the broker says nothing for the time of one operation.
    pub async fn acknowledge_for_good(self) {
        self.acknowledger.acknowledge(self.tag);
        self.acknowledger.settled().await;
    }
}

/// Takes acknowledgements for one line's deliveries. Never blocks.
pub(crate) trait Acknowledger: fmt::Debug + Send + Sync {
    fn acknowledge(&self, tag: u64);

    /// Ends once the broker has taken what was acknowledged so far, or never will.
    fn settled(&self) -> BoxFuture<'static, ()>;
}

/// Messages of a queue that are looked at. Dropped, they go back, if later than with [`close`](Self::close).
#[derive(Debug)]
pub struct Browsed {
    /// What is acknowledged of them leaves the queue.
    pub deliveries: Vec<Delivery>,
    /// How many wait in the queue, with these.
    pub waiting: usize,
    browsing: Box<dyn Browsing>,
}

impl Browsed {
    pub(crate) fn new(deliveries: Vec<Delivery>, waiting: usize, browsing: Box<dyn Browsing>) -> Self {
        Self { deliveries, waiting, browsing }
    }

    /// Gives back what was not acknowledged. `Ok` means that what was acknowledged is gone from the queue.
    pub async fn close(self) -> Result<(), BrowseError> {
        self.browsing.close().await
    }
}

/// Holds what is looked at, and gives it back.
#[async_trait]
pub(crate) trait Browsing: fmt::Debug + Send + Sync {
    async fn close(self: Box<Self>) -> Result<(), BrowseError>;
}
