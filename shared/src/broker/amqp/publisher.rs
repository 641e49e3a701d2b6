//! Publishing: one task, one confirm channel at a time, many messages in flight.
//!
//! One task, since lapin takes a message's tag and its place in the line in two steps: two publishers on one channel
//! may swap their confirms.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::options::BasicPublishOptions;
use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, ErrorKind};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::DEADLINE;
use super::codec::{self, short};
use super::confirms::{Address, Confirm, Confirms, Verdict};
use super::connection::{Connection, shown};
use super::declare::Declarations;
use crate::broker::PublishError;
use crate::message::Message;
use crate::topology::Route;

/// So many messages are sent and not yet confirmed.
const WINDOW: usize = 2_000;
/// So many bytes, unless one message has more: lapin keeps a copy of each until it is written.
const WINDOW_BYTES: usize = 64 << 20;
/// So many of them may be given up on before the channel counts as broken.
const GIVEN_UP: usize = 500;
/// So many wait to be sent.
const QUEUE: usize = 4_000;
/// So many are taken from the queue in one turn.
const BATCH: usize = 256;
/// How often deadlines are looked at. They are kept exactly by [`Publisher::publish`].
const LOOK: Duration = Duration::from_millis(500);
/// A warning names so many at most.
const ROUTES_TOLD: usize = 5;
/// What is rejected with its channel is rejected at once.
const DRAIN_DEADLINE: Duration = Duration::from_secs(1);

/// Hands messages to the publishing task. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Publisher {
    queue: mpsc::Sender<Publication>,
    /// In whose name it publishes.
    user: Option<ShortString>,
}

/// A message on its way.
#[derive(Debug)]
struct Publication {
    address: Address,
    exchange: ShortString,
    key: ShortString,
    mandatory: bool,
    properties: BasicProperties,
    body: Bytes,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

/// Who waits for a message's fate.
#[derive(Debug)]
struct Waiting {
    size: usize,
    sent_at: Instant,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl Waiting {
    fn tell(self, answer: Result<(), PublishError>) {
        // Whoever asked has gone.
        let _ = self.answer.send(answer);
    }
}

impl Publisher {
    /// The handle, and the task that it hands messages to.
    pub(super) fn new(
        user: Option<&str>,
        current: watch::Receiver<Option<Arc<Connection>>>,
        declarations: Arc<Declarations>,
        closing: CancellationToken,
    ) -> (Self, PublishTask) {
        let (sender, queue) = mpsc::channel(QUEUE);
        let user = user.and_then(|name| ShortString::try_new(name).ok());
        (Self { queue: sender, user }, PublishTask { queue, current, declarations, closing })
    }

    pub(super) async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        let (answer, answered) = oneshot::channel();
        let publication = Publication::new(route, message, self.user.as_ref(), answer).map_err(|error| {
            warn!(%error, "a message cannot be published");
            PublishError::Refused
        })?;
        let published = async {
            self.queue.send(publication).await.map_err(|_| PublishError::Away)?;
            answered.await.unwrap_or(Err(PublishError::Unknown))
        };
        timeout(DEADLINE, published).await.unwrap_or(Err(PublishError::Unknown))
    }
}

impl Publication {
    fn new(
        route: Route,
        message: Message,
        user: Option<&ShortString>,
        answer: oneshot::Sender<Result<(), PublishError>>,
    ) -> Result<Self, codec::TooLong> {
        Ok(Self {
            exchange: short("the exchange", &route.exchange)?,
            key: short("the routing key", &route.key)?,
            mandatory: route.mandatory,
            properties: codec::properties(&message, user)?,
            body: message.body,
            address: Address { exchange: route.exchange, key: route.key, message_id: message.message_id },
            answer,
        })
    }

    fn refuse(self, error: PublishError) {
        // Whoever asked has gone.
        let _ = self.answer.send(Err(error));
    }
}

/// The publishing task.
#[derive(Debug)]
pub(super) struct PublishTask {
    queue: mpsc::Receiver<Publication>,
    current: watch::Receiver<Option<Arc<Connection>>>,
    declarations: Arc<Declarations>,
    closing: CancellationToken,
}

/// Why a channel was left.
enum Left {
    /// The channel broke, and what was on it is answered.
    Broken,
    /// The publisher was closed, and everything is answered.
    Closed,
}

impl PublishTask {
    pub(super) async fn run(mut self) {
        while let Some(connection) = self.connection().await {
            if let Left::Closed = self.serve(&connection).await {
                return;
            }
        }
        self.queue.close();
        while let Some(publication) = self.queue.recv().await {
            publication.refuse(PublishError::Away);
        }
    }

    /// The next usable connection. Until there is one, whoever publishes hears that there is none. `None` once closed.
    async fn connection(&mut self) -> Option<Arc<Connection>> {
        loop {
            let found = self.current.borrow_and_update().clone();
            if let Some(connection) = found.filter(|connection| connection.is_open()) {
                return Some(connection);
            }
            tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                changed = self.current.changed() => changed.ok()?,
                publication = self.queue.recv() => publication?.refuse(PublishError::Away),
            }
        }
    }

    /// Publishes on one connection, on as many channels as it takes.
    async fn serve(&mut self, connection: &Connection) -> Left {
        let mut limit = None;
        while connection.is_open() {
            let channel = match connection.confirm_channel().await {
                Ok(channel) => channel,
                Err(reason) => {
                    connection.give_up(&reason);
                    break;
                }
            };
            if let Left::Closed = ChannelLife::new(channel, limit).run(self, connection, &mut limit).await {
                return Left::Closed;
            }
        }
        Left::Broken
    }
}

/// What a future in flight came to.
enum Step {
    Confirmed {
        number: u64,
        size: usize,
        confirm: lapin::Result<Confirm>,
    },
    /// All that was ready before it has been seen.
    Barrier,
}

/// One confirm channel, from its opening to its end.
struct ChannelLife {
    channel: Arc<Channel>,
    confirms: Confirms<Waiting>,
    /// In flight.
    bytes: usize,
    last_confirm: Instant,
    /// The largest message that the broker takes, once it has said so.
    limit: Option<usize>,
    broken: Option<lapin::Error>,
}

impl ChannelLife {
    fn new(channel: Channel, limit: Option<usize>) -> Self {
        let (confirms, last_confirm) = (Confirms::default(), Instant::now());
        Self { channel: Arc::new(channel), confirms, bytes: 0, last_confirm, limit, broken: None }
    }

    async fn run(mut self, task: &mut PublishTask, connection: &Connection, limit: &mut Option<usize>) -> Left {
        let blocked = connection.blocked();
        let mut look = tokio::time::interval(LOOK);
        let mut flying = FuturesUnordered::new();
        let mut closing = false;
        while self.broken.is_none() {
            if closing && flying.is_empty() && task.queue.is_empty() {
                return Left::Closed;
            }
            let room = if self.bytes < WINDOW_BYTES { WINDOW.saturating_sub(flying.len()) } else { 0 };
            tokio::select! {
                biased;
                Some(step) = flying.next(), if !flying.is_empty() => {
                    self.see(step);
                    while let Some(Some(step)) = flying.next().now_or_never() {
                        self.see(step);
                    }
                    if self.confirms.wants_barrier() {
                        flying.push(fly(None, 0));
                    }
                }
                Some(publication) = task.queue.recv(), if room > 0 => {
                    let mut next = Some(publication);
                    let mut left = BATCH.min(room);
                    while let Some(publication) = next {
                        if blocked.borrow().is_some() {
                            publication.refuse(PublishError::Away);
                        } else if let Some((number, outgoing)) = self.admit(publication) {
                            flying.push(fly(Some((Arc::clone(&self.channel), outgoing)), number));
                        }
                        left -= 1;
                        let more = left > 0 && self.bytes < WINDOW_BYTES;
                        next = if more { task.queue.try_recv().ok() } else { None };
                    }
                }
                () = task.closing.cancelled(), if !closing => {
                    task.queue.close();
                    closing = true;
                }
                changed = task.current.changed() => {
                    if changed.is_err() || !connection.is_open() {
                        break;
                    }
                }
                _ = look.tick() => {
                    if let Some(reason) = self.look(&task.declarations, blocked.borrow().is_some()) {
                        connection.give_up(&reason);
                        break;
                    }
                }
            }
        }
        // All that is in flight was rejected with the channel; some of it may have been confirmed before.
        let drain = async {
            loop {
                while let Some(step) = flying.next().await {
                    self.see(step);
                    if self.confirms.wants_barrier() {
                        break;
                    }
                }
                if flying.is_empty() {
                    break;
                }
                flying.push(fly(None, 0));
            }
        };
        // A connection that was given up with messages unwritten may hold them for a moment.
        let _ = timeout(DRAIN_DEADLINE, drain).await;
        drop(flying);
        *limit = self.bury(&task.declarations);
        Left::Broken
    }

    /// Numbers a message that goes out; `None` when it does not.
    fn admit(&mut self, publication: Publication) -> Option<(u64, Outgoing)> {
        if publication.answer.is_closed() {
            return None;
        }
        let size = publication.body.len();
        if let Some(limit) = self.limit.filter(|limit| size > *limit) {
            publication.refuse(PublishError::TooLarge { size, limit });
            return None;
        }
        let Publication { address, exchange, key, mandatory, properties, body, answer } = publication;
        self.bytes += size;
        let number = self.confirms.send(address, Waiting { size, sent_at: Instant::now(), answer });
        Some((number, Outgoing { exchange, key, mandatory, properties, body }))
    }

    fn see(&mut self, step: Step) {
        match step {
            Step::Confirmed { number, size, confirm: Ok(confirm) } => {
                self.bytes -= size;
                self.last_confirm = Instant::now();
                self.confirms.confirm(number, confirm);
            }
            Step::Confirmed { size, confirm: Err(error), .. } => {
                self.bytes -= size;
                // The broker's own words say more than that the channel is closing.
                if self.broken.is_none() || matches!(error.kind(), ErrorKind::ProtocolError(_)) {
                    self.broken = Some(error);
                }
            }
            Step::Barrier => {
                for (waiting, verdict) in self.confirms.barrier() {
                    waiting.tell(match verdict {
                        Verdict::Kept => Ok(()),
                        Verdict::Refused => Err(PublishError::Refused),
                        Verdict::Returned(words) => Err(PublishError::Returned(words)),
                    });
                }
            }
        }
    }

    /// Gives up on what is overdue. Says why the connection is of no use, if it is of none.
    fn look(&mut self, declarations: &Declarations, blocked: bool) -> Option<String> {
        let now = Instant::now();
        let overdue = self.confirms.give_up_while(|waiting| now.duration_since(waiting.sent_at) >= DEADLINE);
        let silent = overdue.iter().any(|(_, waiting)| waiting.sent_at >= self.last_confirm);
        if !overdue.is_empty() {
            let routes: BTreeSet<_> = overdue.iter().map(|(to, _)| format!("{}/{}", to.exchange, to.key)).collect();
            warn!(
                routes = routes.into_iter().take(ROUTES_TOLD).collect::<Vec<_>>().join(" "),
                messages = overdue.len(),
                "RabbitMQ confirms nothing to these routes; if a queue of theirs is stuck, the API makes it again"
            );
        }
        for (to, waiting) in overdue {
            // A broker under an alarm confirms nothing to anybody.
            if !blocked {
                declarations.nothing_confirmed(&to.exchange, &to.key);
            }
            waiting.tell(Err(PublishError::Unknown));
        }
        // A blocked broker answers once the alarm is over; a new connection to it would be blocked as well.
        if blocked {
            return None;
        }
        if silent {
            return Some(format!("no message was confirmed for {} s", DEADLINE.as_secs()));
        }
        (self.confirms.given_up() > GIVEN_UP).then(|| "too many messages were not confirmed".into())
    }

    /// Answers whoever still waits on a dead channel. Returns the largest message that the broker takes, if known.
    fn bury(self, declarations: &Declarations) -> Option<usize> {
        let words = self.broken.as_ref().map(shown).unwrap_or_default();
        if is(self.broken.as_ref(), &AMQPSoftError::NOTFOUND) {
            declarations.is_missing();
        }
        let too_large = is(self.broken.as_ref(), &AMQPSoftError::PRECONDITIONFAILED);
        let limit = if too_large { size_limit(&words).or(self.limit) } else { self.limit };
        debug!(reason = words, "the publishing channel is gone");
        for waiting in self.confirms.abandon() {
            let answer = match limit {
                Some(limit) if waiting.size > limit => PublishError::TooLarge { size: waiting.size, limit },
                _ => PublishError::Unknown,
            };
            waiting.tell(Err(answer));
        }
        limit
    }
}

/// What is sent of a message.
struct Outgoing {
    exchange: ShortString,
    key: ShortString,
    mandatory: bool,
    properties: BasicProperties,
    body: Bytes,
}

/// One message from its sending to its confirm, or, with none, a barrier. lapin takes its tag and its place in the
/// line when the future is first polled, and polls happen in the order in which the futures were made.
async fn fly(outgoing: Option<(Arc<Channel>, Outgoing)>, number: u64) -> Step {
    let Some((channel, outgoing)) = outgoing else { return Step::Barrier };
    let Outgoing { exchange, key, mandatory, properties, body } = outgoing;
    let options = BasicPublishOptions { mandatory, ..BasicPublishOptions::default() };
    let confirmed = async {
        let confirm = channel.basic_publish(exchange, key, options, &body, properties).await?;
        confirm.await.map(read)
    };
    Step::Confirmed { number, size: body.len(), confirm: confirmed.await }
}

fn read(confirmation: Confirmation) -> Confirm {
    let kept = !confirmation.is_nack();
    let returned = confirmation.take_message().map(|message| {
        let delivery = &message.delivery;
        let address = Address {
            exchange: delivery.exchange.as_str().into(),
            key: delivery.routing_key.as_str().into(),
            message_id: delivery.properties.message_id().as_ref().map(ToString::to_string),
        };
        (address, message.reply_text.to_string())
    });
    Confirm { kept, returned }
}

fn is(error: Option<&lapin::Error>, code: &AMQPSoftError) -> bool {
    let Some(ErrorKind::ProtocolError(error)) = error.map(lapin::Error::kind) else { return false };
    matches!(error.kind(), AMQPErrorKind::Soft(own) if own == code)
}

/// The limit that RabbitMQ names: `message size 5 larger than max size 4` (3.x),
/// `message size 5 is larger than configured max size 4` (4.x).
fn size_limit(words: &str) -> Option<usize> {
    let (_, rest) = words.split_once("larger than")?;
    let digits = rest.trim_start_matches(|c: char| !c.is_ascii_digit());
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_limit_is_read_from_the_brokers_words() {
        let old = "PRECONDITION_FAILED - message size 2097152 larger than max size 1048576";
        let new = "PRECONDITION_FAILED - message size 2097152 is larger than configured max size 1048576";
        assert_eq!(size_limit(old), Some(1_048_576));
        assert_eq!(size_limit(new), Some(1_048_576));
        assert_eq!(size_limit("PRECONDITION_FAILED - user_id property set to 'a'"), None);
    }
}
