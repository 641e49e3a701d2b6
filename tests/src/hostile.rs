//! A broker as it is on its worst days: it loses, doubles, delays and refuses messages, and forgets to confirm.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::broker::embedded::EmbeddedBroker;
use buzzer_shared::broker::{Broker, BrowseError, Browsed, DeclareError, Line, PublishError, Subscriber, Subscription};
use buzzer_shared::message::Message;
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::{Declaration, Route};
use tokio::runtime::Handle;
use tokio::sync::watch;

/// How often each misfortune strikes a message, each from 0 to 1; all together at most 1.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// Confirmed, and gone.
    pub lost: f64,
    /// Gone without an answer.
    pub vanished: f64,
    /// Kept without an answer.
    pub unconfirmed: f64,
    /// Not kept, and said so.
    pub refused: f64,
    /// Kept twice.
    pub doubled: f64,
    /// Confirmed, and kept only later: what comes after it overtakes it.
    pub delayed: f64,
    /// Kept at once, and confirmed only later.
    pub late: f64,
    /// The longest delay.
    pub delay: Duration,
}

impl Rates {
    pub const HONEST: Rates = Rates {
        lost: 0.0,
        vanished: 0.0,
        unconfirmed: 0.0,
        refused: 0.0,
        doubled: 0.0,
        delayed: 0.0,
        late: 0.0,
        delay: Duration::ZERO,
    };
}

/// An embedded broker with hostile lines to it. Cheap to clone. Another one in its place is a broker that has crashed:
/// all that this one carried is gone.
#[derive(Clone)]
pub struct HostileNode(Arc<Node>);

struct Node {
    broker: EmbeddedBroker,
    clock: Arc<dyn Clock>,
    rates: Box<dyn Fn(&Route) -> Rates + Send + Sync>,
    dice: Mutex<fastrand::Rng>,
    calm: AtomicBool,
    delayed: AtomicUsize,
    /// Where delayed messages wait: they outlive whoever published them.
    runtime: Handle,
}

/// One process's line to a [`HostileNode`].
#[derive(Debug)]
pub struct HostileBroker {
    line: EmbeddedBroker,
    node: HostileNode,
}

impl HostileBroker {
    /// The time by the clock of its node.
    pub fn now(&self) -> Time {
        self.node.0.clock.now()
    }
}

/// What becomes of one message.
enum Fate {
    Kept,
    Lost,
    Vanished,
    Unconfirmed,
    Refused(PublishError),
    Doubled,
    Delayed(Duration),
    Late(Duration),
}

impl HostileNode {
    /// `seed` is what its dice begin with; `rates` tells how it treats each route. Lives on the runtime that this is
    /// called on.
    pub fn new(clock: Arc<dyn Clock>, seed: u64, rates: impl Fn(&Route) -> Rates + Send + Sync + 'static) -> Self {
        Self(Arc::new(Node {
            broker: EmbeddedBroker::new(Arc::clone(&clock)),
            clock,
            rates: Box::new(rates),
            dice: Mutex::new(fastrand::Rng::with_seed(seed)),
            calm: AtomicBool::new(false),
            delayed: AtomicUsize::new(0),
            runtime: Handle::current(),
        }))
    }

    /// A line for one more process.
    pub fn line(&self) -> HostileBroker {
        HostileBroker { line: self.0.broker.another_line(), node: self.clone() }
    }

    /// From now on it is honest. What is delayed still comes.
    pub fn calm_down(&self) {
        self.0.calm.store(true, Ordering::SeqCst);
    }

    /// How many messages are delayed now.
    pub fn delayed(&self) -> usize {
        self.0.delayed.load(Ordering::SeqCst)
    }

    fn fate(&self, route: &Route) -> Fate {
        if self.0.calm.load(Ordering::SeqCst) {
            return Fate::Kept;
        }
        let Rates { lost, vanished, unconfirmed, refused, doubled, delayed, late, delay } = (self.0.rates)(route);
        let mut dice = self.0.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let mut chance = dice.f64();
        let mut strikes = |rate: f64| {
            chance -= rate;
            chance < 0.0
        };
        if strikes(lost) {
            Fate::Lost
        } else if strikes(vanished) {
            Fate::Vanished
        } else if strikes(unconfirmed) {
            Fate::Unconfirmed
        } else if strikes(refused) {
            let returned = PublishError::Returned("so the dice have it".into());
            Fate::Refused([PublishError::Refused, PublishError::Away, returned][dice.usize(..3)].clone())
        } else if strikes(doubled) {
            Fate::Doubled
        } else if strikes(delayed) {
            Fate::Delayed(delay.mul_f64(dice.f64()))
        } else if strikes(late) {
            Fate::Late(delay.mul_f64(dice.f64()))
        } else {
            Fate::Kept
        }
    }

    /// Keeps the message after a while, unless it has expired by then.
    fn keep_later(&self, route: Route, mut message: Message, delay: Duration) {
        if let Some(expiration) = message.expiration {
            let Some(left) = expiration.checked_sub(delay) else { return };
            message.expiration = Some(left);
        }
        let node = self.clone();
        node.0.delayed.fetch_add(1, Ordering::SeqCst);
        self.0.runtime.spawn(async move {
            tokio::time::sleep(delay).await;
            // Whoever published it was told long ago that it is kept: if no queue takes it now, it is lost.
            let _ = node.0.broker.publish(route, message).await;
            node.0.delayed.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

impl fmt::Debug for HostileNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostileNode").field("calm", &self.0.calm).finish_non_exhaustive()
    }
}

#[async_trait]
impl Broker for HostileBroker {
    async fn declare(&self, declarations: Vec<Declaration>) -> Result<(), DeclareError> {
        self.line.declare(declarations).await
    }

    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        match self.node.fate(&route) {
            Fate::Kept => self.line.publish(route, message).await,
            Fate::Lost => Ok(()),
            Fate::Vanished => Err(PublishError::Unknown),
            Fate::Unconfirmed => {
                let _ = self.line.publish(route, message).await;
                Err(PublishError::Unknown)
            }
            Fate::Refused(error) => Err(error),
            Fate::Doubled => {
                self.line.publish(route.clone(), message.clone()).await?;
                // The first one is kept whatever becomes of the second.
                let _ = self.line.publish(route, message).await;
                Ok(())
            }
            Fate::Delayed(delay) => {
                self.node.keep_later(route, message, delay);
                Ok(())
            }
            Fate::Late(delay) => {
                let kept = self.line.publish(route, message).await;
                tokio::time::sleep(delay).await;
                kept
            }
        }
    }

    fn subscribe(&self, subscription: Subscription) -> Subscriber {
        self.line.subscribe(subscription)
    }

    async fn browse(&self, queue: Arc<str>, limit: u16) -> Result<Browsed, BrowseError> {
        self.line.browse(queue, limit).await
    }

    fn user(&self) -> Option<&str> {
        self.line.user()
    }

    fn line(&self) -> watch::Receiver<Line> {
        self.line.line()
    }

    async fn close(&self) {
        self.line.close().await;
    }
}
