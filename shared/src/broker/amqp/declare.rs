//! Exchanges, queues and bindings made on RabbitMQ, remembered, and made again.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, ErrorKind, ExchangeKind};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::DEADLINE;
use super::codec::short;
use super::connection::{Connection, shown, with_way_out};
use crate::broker::DeclareError;
use crate::topology::{Argument, Declaration, ExchangeType, Queue, QueueType};

/// Everything is made again at most so often when something seems to be missing.
const REPAIR_PAUSE: Duration = Duration::from_secs(2);
/// How often all is looked at, whether it is there. What this process does not use itself would never be missed: the
/// exchange that workers publish to, for instance.
const LOOK: Duration = Duration::from_secs(15);
/// A queue that is older has been on disk for long, and a crash does not damage it.
const LATELY: Duration = Duration::from_secs(600);
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// A queue that was deleted is made again only after so long. RabbitMQ tells a consumer some 30 ms after the deletion;
/// when the queue is there again by then, it moves the consumer over without a word, and its channel drops everything
/// that comes up to where the old queue had been (seen on 3.10: 12 of 12 times).
const MOURNING: Duration = Duration::from_secs(1);

/// What is to exist as long as this process has a line.
#[derive(Debug, Default)]
pub(super) struct Declarations {
    /// When something last seemed to be gone.
    missed_at: Mutex<Option<Instant>>,
    remembered: Mutex<Vec<Declaration>>,
    /// What was refused and told already.
    told: Mutex<HashSet<String>>,
    missing: Notify,
    /// The quorum queues that were looked for before they were first declared, and when this process made those that
    /// were not there.
    made: Mutex<HashMap<Arc<str>, Option<Instant>>>,
    /// Queues that this user may not take from.
    refused: Mutex<RefusedQueues>,
    /// Queues that did not answer, to be looked at by [`stuck`](super::stuck).
    silent: Mutex<HashSet<Arc<str>>>,
    falls_silent: Notify,
}

/// Queues that this user may not take from, and which of them were refused once more since another was let go.
#[derive(Debug, Default)]
struct RefusedQueues {
    all: BTreeSet<Arc<str>>,
    again: Option<BTreeSet<Arc<str>>>,
}

/// What is worth saying of a queue that was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No other is. Others are mostly refused for the same reason, and need no word.
    First,
    Another,
    /// One that was refused is taken from now, and each of these was refused since: nobody has helped them.
    Still(Vec<Arc<str>>),
}

impl RefusedQueues {
    fn note(&mut self, queue: &Arc<str>) -> Refusal {
        let first = self.all.is_empty();
        self.all.insert(Arc::clone(queue));
        if first {
            return Refusal::First;
        }
        if let Some(again) = &mut self.again {
            again.insert(Arc::clone(queue));
            if *again == self.all {
                self.again = None;
                return Refusal::Still(self.all.iter().map(Arc::clone).collect());
            }
        }
        Refusal::Another
    }

    fn forget(&mut self, queue: &str) {
        if self.all.remove(queue) {
            self.again = (!self.all.is_empty()).then(BTreeSet::new);
        }
    }
}

impl Declarations {
    pub(super) fn remember(&self, declarations: &[Declaration]) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        for declaration in declarations {
            if !remembered.contains(declaration) {
                remembered.push(declaration.clone());
            }
        }
    }

    /// Something that may be ours is not there: a queue or an exchange was deleted under us. All is made again soon.
    pub(super) fn is_missing(&self) {
        *self.missed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.missing.notify_one();
    }

    /// Waits until what was just deleted may be made again.
    pub(super) async fn mourn(&self) {
        let missed_at = *self.missed_at.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(missed_at) = missed_at {
            tokio::time::sleep(MOURNING.saturating_sub(missed_at.elapsed())).await;
        }
    }

    /// Messages to these queues of ours are not confirmed, though the broker is there.
    pub(super) fn nothing_confirmed(&self, exchange: &str, key: &str) {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        queues_behind(&remembered, exchange, key).into_iter().for_each(|queue| self.note_silence(queue));
    }

    /// This queue does not answer who wants to take from it. If it is not ours, its owner notices too.
    pub(super) fn nothing_taken(&self, queue: &str) {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        quorum_queues(&remembered).filter(|own| own.as_ref() == queue).for_each(|queue| self.note_silence(queue));
    }

    /// This user may not take from the queue.
    pub(super) fn is_refused(&self, queue: &Arc<str>) -> Refusal {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).note(queue)
    }

    /// This queue can be taken from.
    pub(super) fn is_taken(&self, queue: &str) {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).forget(queue);
    }

    /// Whether this process made the queue, and not long ago.
    pub(super) fn made_lately(&self, queue: &str) -> bool {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.get(queue).copied().flatten().is_some_and(|at| at.elapsed() < LATELY)
    }

    /// Notes which of these queues are not there, and so will be made now.
    pub(super) async fn note_new(&self, connection: &Connection, declarations: &[Declaration]) {
        for queue in quorum_queues(declarations) {
            if self.made.lock().unwrap_or_else(PoisonError::into_inner).contains_key(queue) {
                continue;
            }
            let Ok(channel) = connection.channel().await else { return };
            let is_new = is_missing(&channel, queue).await;
            close(channel).await;
            let made_at = is_new.then(Instant::now);
            self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(queue), made_at);
        }
    }

    fn note_silence(&self, queue: &Arc<str>) {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner).insert(Arc::clone(queue));
        self.falls_silent.notify_one();
    }

    /// Waits until there are queues that did not answer.
    pub(super) async fn fell_silent(&self) {
        self.falls_silent.notified().await;
    }

    /// The queues that did not answer since this was last asked.
    pub(super) fn take_silent(&self) -> HashSet<Arc<str>> {
        std::mem::take(&mut self.silent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes everything again whenever something is missing, and looks now and then whether it is.
    pub(super) async fn repair(
        self: Arc<Self>,
        mut current: watch::Receiver<Option<Arc<Connection>>>,
        closed: CancellationToken,
    ) {
        let repairing = async {
            loop {
                if timeout(LOOK, self.missing.notified()).await.is_err() {
                    let connection = current.borrow().clone();
                    // Without a connection all is made anyway, when it is back.
                    let Some(connection) = connection else { continue };
                    if !self.is_whole(&connection).await {
                        self.is_missing();
                    }
                }
                self.mourn().await;
                let Some(connection) = connected(&mut current).await else { return };
                if let Err(reason) = self.make_all(&connection).await {
                    connection.give_up(&reason);
                }
                tokio::time::sleep(REPAIR_PAUSE).await;
            }
        };
        closed.run_until_cancelled(repairing).await;
    }

    /// Whether all that is remembered is there, as far as the broker answers. Does not make a queue that is not there:
    /// it may have been deleted this moment.
    async fn is_whole(&self, connection: &Connection) -> bool {
        let all = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if all.is_empty() {
            return true;
        }
        let Ok(channel) = connection.channel().await else { return true };
        let (_, failure) = make_each(&channel, &all, Queues::Expect).await;
        close(channel).await;
        !matches!(failure, Some(Failure::Refused(_)))
    }

    /// Makes everything remembered. What is refused is told once and does not stop the rest.
    ///
    /// # Errors
    /// When the connection is of no use.
    pub(super) async fn make_all(&self, connection: &Connection) -> Result<(), String> {
        let all = self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.note_new(connection, &all).await;
        let mut rest = all.as_slice();
        let mut refused = false;
        while !rest.is_empty() {
            let channel = connection.channel().await?;
            let (done, failure) = make(&channel, rest).await;
            rest = rest.get(done..).unwrap_or_default();
            match failure {
                None => {}
                Some(failure) if !connection.is_open() && !failure.is_final() => return Err(failure.to_string()),
                Some(failure) => {
                    refused = true;
                    self.tell_once(&failure, rest.first());
                    rest = rest.get(1..).unwrap_or_default();
                }
            }
            close(channel).await;
        }
        if !refused && !std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner)).is_empty() {
            info!("RabbitMQ has declared what it refused before");
        }
        Ok(())
    }

    fn tell_once(&self, failure: &Failure, declaration: Option<&Declaration>) {
        let what = declaration.map(name).unwrap_or_default();
        let reason = failure.to_string();
        let text = format!("{what}: {reason}");
        // This is tried again with each look.
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).insert(text) {
            warn!(what, reason, "RabbitMQ did not declare this; going on without");
        }
    }
}

/// Makes these on a fresh channel, in order, up to the first that fails.
pub(super) async fn make_now(connection: &Connection, declarations: &[Declaration]) -> Result<(), DeclareError> {
    let channel = connection.channel().await.map_err(DeclareError::Away)?;
    let (done, failure) = make(&channel, declarations).await;
    close(channel).await;
    match failure {
        None => Ok(()),
        Some(failure) => {
            let what = declarations.get(done).map(name).unwrap_or_default();
            debug!(what, reason = %failure, "RabbitMQ did not declare this");
            Err(failure.into_error(what))
        }
    }
}

/// The connection, as soon as there is one. `None` when there never will be.
pub(super) async fn connected(current: &mut watch::Receiver<Option<Arc<Connection>>>) -> Option<Arc<Connection>> {
    current.wait_for(Option::is_some).await.ok().and_then(|connection| connection.clone())
}

/// Why a declaration failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Away(String),
    #[error("no answer within {} s; it may have been damaged in a crash of the broker, and is looked at", DEADLINE.as_secs())]
    Silent,
}

impl Failure {
    fn is_final(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn into_error(self, what: String) -> DeclareError {
        match self {
            Self::Refused(reason) => DeclareError::Refused { what, reason },
            Self::Away(reason) => DeclareError::Away(reason),
            Self::Silent => DeclareError::Away(format!("{what}: {self}")),
        }
    }
}

/// Makes these on this channel, in order, up to the first that fails; says how many were made. A channel on which
/// one failed is dead.
pub(super) async fn make(channel: &Channel, declarations: &[Declaration]) -> (usize, Option<Failure>) {
    make_each(channel, declarations, Queues::Make).await
}

async fn make_each(channel: &Channel, declarations: &[Declaration], queues: Queues) -> (usize, Option<Failure>) {
    for (done, declaration) in declarations.iter().enumerate() {
        let failure = match timeout(DEADLINE, make_one(channel, declaration, queues)).await {
            Ok(Ok(())) => continue,
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Silent,
        };
        return (done, Some(failure));
    }
    (declarations.len(), None)
}

/// Whether a queue that is not there is made.
#[derive(Debug, Clone, Copy)]
enum Queues {
    Make,
    Expect,
}

async fn make_one(channel: &Channel, declaration: &Declaration, queues: Queues) -> Result<(), Failure> {
    let name = |text: &str| short("a name", text).map_err(|error| Failure::Refused(error.to_string()));
    let made = match declaration {
        Declaration::Exchange { name: exchange, r#type } => {
            let kind = match r#type {
                ExchangeType::Direct => ExchangeKind::Direct,
                ExchangeType::Fanout => ExchangeKind::Fanout,
            };
            let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(name(exchange)?, kind, options, FieldTable::default()).await
        }
        Declaration::Queue(queue) => {
            let (options, arguments) = match queues {
                Queues::Make => (options(queue.r#type), arguments(queue)),
                Queues::Expect => (options(queue.r#type).passive(), FieldTable::default()),
            };
            channel.queue_declare(name(&queue.name)?, options, arguments).await.map(|_| ())
        }
        Declaration::Binding { queue, exchange, key } => {
            let (queue, exchange, key) = (name(queue)?, name(exchange)?, name(key)?);
            channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default()).await
        }
    };
    made.map_err(|error| failure(&error, declaration))
}

fn quorum_queues(declarations: &[Declaration]) -> impl Iterator<Item = &Arc<str>> {
    declarations.iter().filter_map(|declaration| match declaration {
        Declaration::Queue(queue) if queue.r#type == QueueType::Quorum => Some(&queue.name),
        _ => None,
    })
}

/// The quorum queues that a message with this exchange and key goes to.
fn queues_behind<'a>(declarations: &'a [Declaration], exchange: &str, key: &str) -> Vec<&'a Arc<str>> {
    let fanout = Declaration::Exchange { name: exchange.into(), r#type: ExchangeType::Fanout };
    let to_all = declarations.contains(&fanout);
    let bound = |queue: &&Arc<str>| {
        declarations.iter().any(|declaration| match declaration {
            Declaration::Binding { queue: own, exchange: from, key: with } => {
                own == *queue && from.as_ref() == exchange && (to_all || with.as_ref() == key)
            }
            _ => false,
        })
    };
    quorum_queues(declarations).filter(bound).collect()
}

/// Whether there is no queue of this name. Without an answer there may be one.
async fn is_missing(channel: &Channel, queue: &str) -> bool {
    let Ok(name) = short("a name", queue) else { return false };
    let options = QueueDeclareOptions::default().passive();
    let looking = channel.queue_declare(name, options, FieldTable::default());
    let found = timeout(DEADLINE, looking).await;
    matches!(found, Ok(Err(error)) if shown(&error).starts_with("NOT_FOUND"))
}

fn options(r#type: QueueType) -> QueueDeclareOptions {
    match r#type {
        QueueType::Quorum | QueueType::Classic => QueueDeclareOptions::durable(),
        QueueType::Exclusive => QueueDeclareOptions::exclusive().auto_delete(),
    }
}

fn arguments(queue: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    if queue.r#type == QueueType::Quorum {
        table.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    }
    for (name, value) in &queue.arguments {
        let value = match value {
            Argument::Int(number) => AMQPValue::LongLongInt(*number),
            Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
        };
        table.insert((*name).into(), value);
    }
    table
}

fn failure(error: &lapin::Error, declaration: &Declaration) -> Failure {
    let text = shown(error);
    let ErrorKind::ProtocolError(protocol) = error.kind() else { return Failure::Away(text) };
    match protocol.kind() {
        AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED) => Failure::Refused(format!(
            "{text} (it exists with other arguments: delete the {}, or use another BUZZER_PREFIX)",
            name(declaration)
        )),
        AMQPErrorKind::Soft(_) => Failure::Refused(with_way_out(&text)),
        AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED | AMQPHardError::INTERNALERROR) => Failure::Away(text),
        AMQPErrorKind::Hard(_) => Failure::Refused(text),
    }
}

/// A declaration as people call it.
fn name(declaration: &Declaration) -> String {
    match declaration {
        Declaration::Exchange { name, .. } => format!("exchange {name}"),
        Declaration::Queue(queue) => format!("queue {}", queue.name),
        Declaration::Binding { queue, exchange, key } => format!("binding of queue {queue} to {exchange} with {key:?}"),
    }
}

/// Closes a channel if it is open still.
pub(super) async fn close(channel: Channel) {
    if channel.status().connected() {
        // A channel that does not close goes with its connection.
        let _ = timeout(CLOSE_DEADLINE, channel.close(200, "OK".into())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn queues_that_are_refused_still_are_told_once_another_is_taken() {
        let (mut refused, [a, b, c]) = (RefusedQueues::default(), ["a", "b", "c"].map(Arc::<str>::from));
        assert_eq!([&a, &b, &c, &a].map(|queue| refused.note(queue)), {
            use Refusal::{Another, First};
            [First, Another, Another, Another]
        });
        refused.forget("a");
        assert_eq!([&b, &b].map(|queue| refused.note(queue)), [Refusal::Another, Refusal::Another]);
        assert_eq!(refused.note(&c), Refusal::Still(vec![Arc::clone(&b), Arc::clone(&c)]));
        assert_eq!([&b, &c].map(|queue| refused.note(queue)), [Refusal::Another, Refusal::Another], "once");
        // All are taken: the next one is the first again.
        refused.forget("b");
        refused.forget("c");
        assert_eq!(refused.note(&c), Refusal::First);
    }

    #[test]
    fn the_queues_behind_a_route_are_those_bound_to_it() {
        let topology = Topology::new("b");
        let all = [topology.fixed(), topology.requests(&"echo".parse().unwrap())].concat();
        let behind = |exchange: &str, key: &str| {
            queues_behind(&all, exchange, key).into_iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(behind("b.requests", "echo"), ["b.requests.echo.v1"]);
        assert_eq!(behind("b.replies", "outcome"), ["b.replies.v1"]);
        // A fanout exchange does not look at the key.
        assert_eq!(behind("b.parking", "whatever"), ["b.parking.v1"]);
        // A classic queue does not get stuck.
        assert!(behind("b.replies", "pulse").is_empty());
        assert!(behind("b.requests", "unknown").is_empty());
    }
}
