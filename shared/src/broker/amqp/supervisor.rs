//! Keeps a connection to RabbitMQ up, for ever.
//!
//! lapin can reconnect by itself, but replays what it thinks that there was all or nothing, and gives up in the end.
//! So a connection that breaks is thrown away with all that hung on it, and a fresh one is made.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::backoff::Backoff;
use super::connection::{Address, Connection, Unopened};
use super::declare::Declarations;
use crate::broker::Line;

const SHORTEST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// A connection that lived for so long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// What a connection is for. Two, since a broker under an alarm stops reading one that publishes: acknowledgements
/// must not stand behind that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Publish,
    Consume,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Publish => "publish",
            Role::Consume => "consume",
        })
    }
}

/// Keeps the connection of one role up.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) role: Role,
    pub(super) address: Address,
    /// The process's, as RabbitMQ shows it.
    pub(super) name: String,
    pub(super) board: Board,
    /// The connection, while there is one.
    pub(super) current: watch::Sender<Option<Arc<Connection>>>,
    /// Made before the connection counts as up.
    pub(super) declarations: Option<Arc<Declarations>>,
    /// Nothing is connected before.
    pub(super) wanted: CancellationToken,
    pub(super) closed: CancellationToken,
}

impl Supervisor {
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.wanted.cancelled() => {}
            () = self.closed.cancelled() => return,
        }
        let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
        while !self.closed.is_cancelled() {
            let started = Instant::now();
            let reason = self.one_life().await;
            self.current.send_replace(None);
            debug!(role = %self.role, reason, "no connection");
            self.board.set(self.role, Line::Away(reason));
            if started.elapsed() > GOOD {
                backoff.reset();
            }
            let wait = backoff.next(fastrand::f64());
            tokio::select! {
                () = self.closed.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Connects and stays until that ends; says why it did.
    async fn one_life(&self) -> String {
        let name = format!("{} {}", self.name, self.role);
        let opened = tokio::select! {
            opened = Connection::open(&self.address, &name) => opened,
            () = self.closed.cancelled() => return "closed".into(),
        };
        let (connection, events) = match opened {
            Ok(opened) => opened,
            Err(Unopened::Refused(reason)) => {
                self.board.refused(&reason);
                return reason;
            }
            Err(Unopened::Away(reason)) => return reason,
        };
        if let Some(declarations) = &self.declarations
            && let Err(reason) = declarations.make_all(&connection).await
        {
            connection.give_up(&reason);
            return reason;
        }
        self.current.send_replace(Some(Arc::clone(&connection)));
        self.board.set(self.role, Line::Up);
        let blocked = |reason: Option<&str>| {
            self.board.set(self.role, reason.map_or(Line::Up, |reason| Line::Blocked(reason.into())));
        };
        tokio::select! {
            reason = connection.ended(events, blocked) => reason,
            () = self.closed.cancelled() => {
                connection.close().await;
                "closed".into()
            }
        }
    }
}

/// How the line is, put together from both connections. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Board(Arc<BoardState>);

#[derive(Debug)]
struct BoardState {
    address: String,
    line: watch::Sender<Line>,
    roles: Mutex<Roles>,
    /// From then on, that it is down is no news.
    closed: CancellationToken,
}

#[derive(Debug)]
struct Roles {
    publish: Line,
    consume: Line,
    /// Whether it has been up.
    known: bool,
    /// When it last went down, if it is down and that was told.
    down_since: Option<Instant>,
    /// Whether it is told that it cannot be had again at once.
    away: bool,
    /// Why the broker does not let us in, as far as that was told.
    refused: Option<String>,
}

impl Board {
    pub(super) fn new(address: &Address, closed: CancellationToken) -> Self {
        let connecting = || Line::Away("connecting".into());
        let roles = Roles {
            publish: connecting(),
            consume: connecting(),
            known: false,
            down_since: None,
            away: false,
            refused: None,
        };
        Self(Arc::new(BoardState {
            address: address.to_string(),
            line: watch::Sender::new(connecting()),
            roles: Mutex::new(roles),
            closed,
        }))
    }

    pub(super) fn line(&self) -> watch::Receiver<Line> {
        self.0.line.subscribe()
    }

    /// Logs that the broker is there and says no, once for each reason: other than an outage, that does not pass by
    /// itself.
    pub(super) fn refused(&self, reason: &str) {
        let mut roles = self.0.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.closed.is_cancelled() || roles.refused.as_deref() == Some(reason) {
            return;
        }
        roles.refused = Some(reason.into());
        roles.down_since.get_or_insert_with(Instant::now);
        roles.away = true;
        warn!(broker.address = %self.0.address, reason, "RabbitMQ does not let us in; trying again until it does");
    }

    /// Notes how the connection of one role is, and logs when that changes the whole.
    pub(super) fn set(&self, role: Role, line: Line) {
        let mut roles = self.0.roles.lock().unwrap_or_else(PoisonError::into_inner);
        match role {
            Role::Publish => roles.publish = line,
            Role::Consume => roles.consume = line,
        }
        let whole = roles.whole();
        if !self.0.closed.is_cancelled() {
            self.log(&mut roles, &whole);
        }
        self.0.line.send_if_modified(|line| {
            let changed = *line != whole;
            *line = whole;
            changed
        });
    }

    /// One line when it breaks, one when it cannot be had again at once, and one when it is back; not one per try.
    fn log(&self, roles: &mut Roles, whole: &Line) {
        let before = self.0.line.borrow().clone();
        let address = &self.0.address;
        match (&before, whole) {
            (_, Line::Away(reason)) if reason != CONNECTING => roles.log_away(address, reason),
            (Line::Up, Line::Blocked(reason)) => {
                warn!(broker.address = %address, reason, "RabbitMQ takes no messages for now");
            }
            (Line::Blocked(_), Line::Up) => info!(broker.address = %address, "RabbitMQ takes messages again"),
            (Line::Away(_), Line::Up) => match roles.down_since.take() {
                Some(since) => {
                    info!(broker.address = %address, away_s = since.elapsed().as_secs(), "RabbitMQ is back");
                }
                None => info!(broker.address = %address, "connected to RabbitMQ"),
            },
            _ => {}
        }
        if !matches!(whole, Line::Away(_)) {
            (roles.known, roles.away, roles.refused) = (true, false, None);
        }
    }
}

/// Before the first try has ended.
const CONNECTING: &str = "connecting";

impl Roles {
    /// RabbitMQ breaks a connection now and then for reasons of its own, for instance when a queue is taken from in the
    /// moment in which it is made. That is no outage before a fresh connection fails too.
    fn log_away(&mut self, address: &str, reason: &str) {
        if self.away {
            return;
        }
        if self.known && self.down_since.is_none() {
            self.down_since = Some(Instant::now());
            info!(broker.address = %address, reason, "a connection to RabbitMQ broke; making a fresh one");
            return;
        }
        self.away = true;
        self.down_since.get_or_insert_with(Instant::now);
        if self.known {
            warn!(broker.address = %address, reason, "RabbitMQ is away; trying again until it is back");
        } else {
            warn!(
                broker.address = %address,
                reason,
                "RabbitMQ cannot be reached; trying again until it can. Does it run, and does BUZZER_BROKER name it?"
            );
        }
    }

    fn whole(&self) -> Line {
        match (&self.publish, &self.consume) {
            (Line::Away(reason), Line::Away(_)) => Line::Away(reason.clone()),
            (Line::Away(reason), _) => away(Role::Publish, reason),
            (_, Line::Away(reason)) => away(Role::Consume, reason),
            (Line::Blocked(reason), _) | (_, Line::Blocked(reason)) => Line::Blocked(reason.clone()),
            (Line::Up, Line::Up) => Line::Up,
        }
    }
}

/// Only one of the two is missing: says which.
fn away(role: Role, reason: &str) -> Line {
    if reason == CONNECTING {
        Line::Away(CONNECTING.into())
    } else {
        Line::Away(format!("{role} connection: {reason}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(&Address::new(&"amqp://guest:s3cret@mq:5672/%2f".parse().unwrap()), CancellationToken::new())
    }

    #[test]
    fn the_line_is_up_when_both_connections_are() {
        let board = board();
        board.set(Role::Publish, Line::Up);
        assert_eq!(*board.line().borrow(), Line::Away("connecting".into()));
        board.set(Role::Consume, Line::Up);
        assert_eq!(*board.line().borrow(), Line::Up);
    }

    #[test]
    fn a_line_that_is_away_says_which_connection_is_missing() {
        let board = board();
        board.set(Role::Publish, Line::Up);
        board.set(Role::Consume, Line::Away("reset".into()));
        assert_eq!(*board.line().borrow(), Line::Away("consume connection: reset".into()));
        board.set(Role::Publish, Line::Blocked("low on memory".into()));
        board.set(Role::Consume, Line::Up);
        assert_eq!(*board.line().borrow(), Line::Blocked("low on memory".into()));
    }
}
