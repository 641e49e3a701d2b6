//! RabbitMQ, through lapin.
//!
//! Two connections, each kept up by a [`supervisor`]: one on which a [`publisher`] publishes and things are
//! [`declare`]d, one on which each subscription has a [`consumer`]. What is decided without the wire is apart:
//! [`confirms`] (whose confirm is it), [`acks`] (how few frames acknowledge it), [`backoff`], [`codec`]. What comes
//! from the broker passes [`readable`] first.

mod acks;
mod backoff;
pub mod baseline;
mod browse;
mod codec;
mod confirms;
mod connection;
mod consumer;
mod declare;
mod publisher;
mod readable;
pub mod removal;
mod stuck;
mod supervisor;
pub mod survey;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use self::connection::{Address, Connection};
use self::consumer::ConsumeTask;
use self::declare::Declarations;
use self::publisher::Publisher;
use self::stuck::Healer;
use self::supervisor::{Board, Role, Supervisor};
use crate::broker::{Broker, BrowseError, Browsed, DeclareError, Line, PublishError, Subscriber, Subscription};
use crate::message::Message;
use crate::topology::{Declaration, Route};

/// How long one operation may take. RabbitMQ promises no time for any of its answers, and after a crash some never
/// come.
pub(crate) const DEADLINE: Duration = Duration::from_secs(10);

/// Whether lapin can read this address: one that it cannot will never be reached.
pub(crate) fn is_readable(url: &url::Url) -> bool {
    Address::new(url).uri().is_ok()
}

/// One process's line to a RabbitMQ.
#[derive(Debug)]
pub struct AmqpBroker {
    address: Address,
    /// The process's, as RabbitMQ shows it.
    name: String,
    board: Board,
    publisher: Publisher,
    declarations: Arc<Declarations>,
    publishing: watch::Receiver<Option<Arc<Connection>>>,
    consuming: watch::Receiver<Option<Arc<Connection>>>,
    /// Somebody wants the line.
    wanted: CancellationToken,
    /// Whoever uses the line.
    users: TaskTracker,
    /// Whoever keeps it up.
    keepers: TaskTracker,
    /// Everybody finishes.
    closing: CancellationToken,
    /// The connections close.
    closed: CancellationToken,
    /// A broker that is dropped without [`Broker::close`] ends too, if less politely.
    _guards: [DropGuard; 2],
}

impl AmqpBroker {
    /// A line to the RabbitMQ at `url`, `amqp` or `amqps`, that RabbitMQ's own pages show as `name`. Returns at once;
    /// connects by itself as soon as it is used or its [`line`](Broker::line) is asked for, so that a process that cannot
    /// start for another reason has not begun. To be called inside a tokio runtime.
    pub fn connect(url: url::Url, name: &str) -> Arc<Self> {
        let (closing, closed) = (CancellationToken::new(), CancellationToken::new());
        let wanted = CancellationToken::new();
        let address = Address::new(&url);
        // It holds a password: the address's copy is the only one that stays.
        drop(url);
        let board = Board::new(&address, closed.clone());
        let declarations = Arc::new(Declarations::default());
        let (users, keepers) = (TaskTracker::new(), TaskTracker::new());
        let supervise = |role: Role, declarations: Option<Arc<Declarations>>| {
            let (current, connections) = watch::channel(None);
            let (address, name) = (address.clone(), name.to_owned());
            let (board, wanted, closed) = (board.clone(), wanted.clone(), closed.clone());
            keepers.spawn(Supervisor { role, address, name, board, current, declarations, wanted, closed }.run());
            connections
        };
        let publishing = supervise(Role::Publish, Some(Arc::clone(&declarations)));
        let consuming = supervise(Role::Consume, None);
        keepers.spawn(Arc::clone(&declarations).repair(publishing.clone(), closed.clone()));
        let healer = Healer {
            declarations: Arc::clone(&declarations),
            address: address.clone(),
            name: name.to_owned(),
            closed: closed.clone(),
        };
        keepers.spawn(healer.run());
        let (publisher, task) =
            Publisher::new(address.user(), publishing.clone(), Arc::clone(&declarations), closing.clone());
        users.spawn(task.run());
        let _guards = [closing.clone().drop_guard(), closed.clone().drop_guard()];
        Arc::new(Self {
            address,
            name: name.to_owned(),
            board,
            publisher,
            declarations,
            publishing,
            consuming,
            wanted,
            users,
            keepers,
            closing,
            closed,
            _guards,
        })
    }
}

#[async_trait]
impl Broker for AmqpBroker {
    async fn declare(&self, declarations: Vec<Declaration>) -> Result<(), DeclareError> {
        self.wanted.cancel();
        self.declarations.remember(&declarations);
        let mut publishing = self.publishing.clone();
        let made = async {
            self.declarations.mourn().await;
            match declare::connected(&mut publishing).await {
                Some(connection) => {
                    self.declarations.note_new(&connection, &declarations).await;
                    declare::make_now(&connection, &declarations).await
                }
                None => Err(DeclareError::Away("closed".into())),
            }
        };
        let late = |_| Err(DeclareError::Away(format!("no answer within {} s", DEADLINE.as_secs())));
        let made = timeout(DEADLINE, made).await.unwrap_or_else(late);
        if matches!(made, Err(DeclareError::Away(_))) {
            self.declarations.is_missing();
        }
        made
    }

    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        self.wanted.cancel();
        let published = self.publisher.publish(route, message).await;
        if matches!(published, Err(PublishError::Returned(_))) {
            self.declarations.is_missing();
        }
        published
    }

    fn subscribe(&self, subscription: Subscription) -> Subscriber {
        self.wanted.cancel();
        let (sender, deliveries) = mpsc::channel(consumer::prefetch(subscription.receipts).into());
        let (attached, is_attached) = watch::channel(false);
        let (stop, gone) = (CancellationToken::new(), CancellationToken::new());
        let task = ConsumeTask {
            subscription,
            current: self.consuming.clone(),
            declarations: Arc::clone(&self.declarations),
            deliveries: Some(sender),
            attached,
            stop: stop.clone(),
            gone: gone.clone(),
            closing: self.closing.clone(),
        };
        self.users.spawn(task.run());
        Subscriber::new(deliveries, is_attached, stop, gone)
    }

    async fn browse(&self, queue: Arc<str>, limit: u16) -> Result<Browsed, BrowseError> {
        if self.closing.is_cancelled() {
            return Err(BrowseError::Away("the line was closed".into()));
        }
        let name = format!("{} browse", self.name);
        Box::pin(browse::browse(&self.address, &name, &self.declarations, &queue, limit)).await
    }

    fn user(&self) -> Option<&str> {
        self.address.user()
    }

    fn line(&self) -> watch::Receiver<Line> {
        self.wanted.cancel();
        self.board.line()
    }

    async fn close(&self) {
        self.closing.cancel();
        self.users.close();
        // Whoever is not done within the deadline of one operation waits for a broker that does not answer.
        let _ = timeout(DEADLINE, self.users.wait()).await;
        self.closed.cancel();
        self.keepers.close();
        let _ = timeout(DEADLINE, self.keepers.wait()).await;
    }
}
