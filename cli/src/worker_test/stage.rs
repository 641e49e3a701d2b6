//! The API's part before a worker: it declares, sends requests and words, and keeps all that it hears.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::broker::amqp::removal;
use buzzer_shared::broker::{Broker, DeclareError, PublishError, Receipts, Subscriber, Subscription};
use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::kind::Kind;
use buzzer_shared::message::{
    Announce, Beat, Control, Message, Outcome, Pulse, Reply, Request, Signal, Started, Unreadable,
};
use buzzer_shared::topology::{Declaration, Topology};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

/// So long the tries wait for a request that is nobody's but theirs.
const BACK: Duration = Duration::from_secs(3);

/// A prefix on a broker, and a kind, that are the tries' own. It outlives them, so that it is cleared however they end.
#[derive(Debug)]
pub struct Venue {
    url: Url,
    broker: Arc<AmqpBroker>,
    topology: Topology,
    kind: Kind,
}

/// A Buzzer on a broker, of which only the queues are there.
#[derive(Debug)]
pub struct Stage {
    broker: Arc<AmqpBroker>,
    topology: Topology,
    kind: Kind,
    coming: mpsc::UnboundedReceiver<Word>,
    /// All that was heard, in the order in which it came.
    heard: Vec<Word>,
    /// Every run of which a request was sent.
    sent: Vec<RunId>,
    _listening: JoinSet<()>,
}

/// What a worker says.
#[derive(Debug)]
pub enum Word {
    Announce(Announce),
    Beat(Beat),
    Started(Started),
    Outcome(Outcome),
    Signal(Signal),
    Parked(Message),
    /// What it says cannot be read, and why.
    Unreadable(String),
}

/// A place in what was heard.
#[derive(Debug, Clone, Copy)]
pub struct Mark(usize);

impl Mark {
    /// Before all that is heard.
    pub const START: Self = Self(0);
}

/// A request was not handed over.
#[derive(Debug, thiserror::Error)]
#[error("the broker did not take a message of the tries: {0}")]
pub struct NotSent(#[from] PublishError);

impl Word {
    /// The run that it is about, if it tells of a single one.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Started(started) => Some(started.run),
            Self::Outcome(outcome) => Some(outcome.run),
            Self::Signal(signal) => Some(signal.run),
            Self::Announce(_) | Self::Beat(_) | Self::Parked(_) | Self::Unreadable(_) => None,
        }
    }

    /// The names of the kinds that it announces.
    pub fn kinds(&self) -> Vec<String> {
        let Self::Announce(announce) = self else { return Vec::new() };
        announce.kinds.iter().map(|spec| spec.name.to_string()).collect()
    }

    /// Who says it, as far as it can be read.
    pub fn worker(&self) -> Option<WorkerId> {
        match self {
            Self::Announce(announce) => Some(announce.worker),
            Self::Beat(beat) => Some(beat.worker),
            Self::Started(started) => Some(started.worker),
            Self::Outcome(outcome) => Some(outcome.worker),
            Self::Signal(signal) => Some(signal.worker),
            Self::Parked(_) | Self::Unreadable(_) => None,
        }
    }

    fn of_pulse(message: &Message) -> Result<Option<Self>, Unreadable> {
        Ok(match Pulse::read(message)? {
            Pulse::Announce(announce) => Some(Self::Announce(announce)),
            Pulse::Beat(beat) => Some(Self::Beat(beat)),
            Pulse::Knock => None,
        })
    }

    fn of_reply(message: &Message) -> Result<Option<Self>, Unreadable> {
        Ok(Some(match Reply::read(message)? {
            Reply::Outcome(outcome) => Self::Outcome(outcome),
            Reply::Started(started) => Self::Started(started),
        }))
    }

    fn of_signal(message: &Message) -> Result<Option<Self>, Unreadable> {
        Signal::read(message).map(|signal| Some(Self::Signal(signal)))
    }
}

impl Venue {
    /// Nothing is declared yet.
    pub fn new(url: Url, prefix: &str, kind: Kind) -> Self {
        let broker = AmqpBroker::connect(url.clone(), "buzzer worker-test");
        Self { url, broker, topology: Topology::new(prefix), kind }
    }

    /// Deletes all that was declared, and hangs up. Silent where the broker is away: then somebody else has to.
    pub async fn clear(self) {
        self.broker.close().await;
        removal::remove(&self.url, &self.declared()).await;
    }

    fn declared(&self) -> Vec<Declaration> {
        [self.topology.fixed(), self.topology.requests(&self.kind)].concat()
    }
}

impl Stage {
    /// Declares all that a worker of the kind needs, and listens.
    ///
    /// # Errors
    /// When the broker is away or refuses. Some may be declared then.
    pub async fn open(venue: &Venue) -> Result<Self, DeclareError> {
        venue.broker.declare(venue.declared()).await?;
        let (broker, topology, kind) = (Arc::clone(&venue.broker), venue.topology.clone(), venue.kind.clone());
        let (said, coming) = mpsc::unbounded_channel();
        let mut listening = JoinSet::new();
        let take = |queue| broker.subscribe(Subscription { queue, declare: Vec::new(), receipts: Receipts::Automatic });
        listening.spawn(listen(take(topology.pulse_queue()), Word::of_pulse, said.clone()));
        listening.spawn(listen(take(topology.replies_queue()), Word::of_reply, said.clone()));
        listening.spawn(listen(take(topology.signals_queue()), Word::of_signal, said.clone()));
        let parked = |message: &Message| Ok(Some(Word::Parked(message.clone())));
        listening.spawn(listen(take(topology.parking_queue()), parked, said));
        Ok(Self { broker, topology, kind, coming, heard: Vec::new(), sent: Vec::new(), _listening: listening })
    }

    /// Everything that is heard from now on comes behind this.
    pub fn mark(&mut self) -> Mark {
        while let Ok(word) = self.coming.try_recv() {
            self.heard.push(word);
        }
        Mark(self.heard.len())
    }

    /// What was heard since.
    pub fn since(&mut self, mark: Mark) -> &[Word] {
        self.mark();
        &self.heard[mark.0..]
    }

    /// The first word since `mark` of which `find` makes something. `None` when none comes within `limit`.
    pub async fn hear<T>(
        &mut self,
        mark: Mark,
        limit: Duration,
        mut find: impl FnMut(&Word) -> Option<T>,
    ) -> Option<T> {
        let (until, mut at) = (Instant::now() + limit, mark.0);
        loop {
            while let Some(word) = self.heard.get(at) {
                if let Some(found) = find(word) {
                    return Some(found);
                }
                at += 1;
            }
            let word = timeout_at(until, self.coming.recv()).await.ok()??;
            self.heard.push(word);
        }
    }

    /// Hears all that is said within `time`.
    pub async fn listen_for(&mut self, time: Duration) {
        let end = self.mark();
        self.hear(end, time, |_| None::<()>).await;
    }

    /// Why the last word that could not be read could not.
    pub fn complaint(&self) -> Option<&str> {
        self.heard.iter().rev().find_map(|word| match word {
            Word::Unreadable(why) => Some(why.as_str()),
            _ => None,
        })
    }

    /// # Errors
    /// When the broker does not take it.
    pub async fn send(&mut self, request: &Request) -> Result<(), NotSent> {
        self.sent.push(request.run);
        self.send_message(request.to_message()).await
    }

    /// Every run of which a request was sent.
    pub fn sent(&self) -> impl Iterator<Item = RunId> {
        self.sent.iter().copied()
    }

    /// Sends anything to the queue of the kind.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn send_message(&self, message: Message) -> Result<(), NotSent> {
        Ok(self.broker.publish(self.topology.request(&self.kind), message).await?)
    }

    /// Says something to all workers.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn say(&self, control: &Control) -> Result<(), NotSent> {
        Ok(self.broker.publish(self.topology.to_workers(), control.to_message()).await?)
    }

    /// Sends a request, and takes it `times` times without an acknowledgement: so often has it come back to the queue
    /// then. `Ok(false)` when somebody else takes it.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub async fn bring_back(&mut self, request: &Request, times: u32) -> Result<bool, NotSent> {
        self.send(request).await?;
        for expected in 0..times {
            let queue = self.topology.requests_queue(&self.kind);
            let receipts = Receipts::Manual { prefetch: 1 };
            let mut taking = self.broker.subscribe(Subscription { queue, declare: Vec::new(), receipts });
            match timeout(BACK, taking.next()).await {
                Ok(Some(delivery)) if delivery.redeliveries >= expected => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Hands on what comes from a queue, until nobody wants it any more.
async fn listen(
    mut from: Subscriber,
    read: impl Fn(&Message) -> Result<Option<Word>, Unreadable>,
    to: mpsc::UnboundedSender<Word>,
) {
    while let Some(delivery) = from.next().await {
        let message = &delivery.message;
        let word = read(message).unwrap_or_else(|why| {
            Some(Word::Unreadable(format!("a message of type {:?} cannot be read: {why}", message.r#type)))
        });
        if word.is_some_and(|word| to.send(word).is_err()) {
            return;
        }
    }
}
