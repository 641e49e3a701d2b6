//! A look at a RabbitMQ that changes nothing there: for `buzzer doctor`, before anything runs.

use futures_util::io::{AsyncReadExt, AsyncWriteExt};
use lapin::Channel;
use lapin::ExchangeKind;
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, ExchangeUnbindOptions, QueueDeclareOptions};
use lapin::types::parsing::parse_field_table;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use tokio::time::timeout;

use super::DEADLINE;
use super::codec::short;
use super::connection::{Address, Errand, Failed, Unopened, dial, within};
use super::declare::{close, make};
use crate::topology::Declaration;

/// What a client says first.
const HELLO: &[u8] = b"AMQP\x00\x00\x09\x01";
/// Type and channel of RabbitMQ's first frame; then comes its size.
const FIRST: &[u8] = &[1, 0, 0];
/// The method `connection.start`, and the version of AMQP; then comes what the server tells of itself.
const START: &[u8] = &[0, 10, 0, 10, 0, 9];
/// RabbitMQ's first frame is far smaller.
const GREETING_MAX: usize = 16 * 1024;
/// Every broker has this exchange.
const ANY_EXCHANGE: &str = "amq.direct";

/// A RabbitMQ that lets us in.
#[derive(Debug)]
pub struct Survey(Errand);

/// Why nothing can be seen. Without the password.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unseen {
    /// Nobody answers.
    #[error("{0}")]
    Away(String),
    /// It is there and says no. Says what to do.
    #[error("{0}")]
    Refused(String),
}

/// What RabbitMQ lets a user do with names that a pattern covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Configure,
    Write,
    Read,
}

/// How something that should exist is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    AsExpected,
    Absent,
    /// It exists with other arguments: what RabbitMQ says about that.
    Different(String),
    /// It exists; whether as expected, this user may not ask.
    Unclear,
    /// Whether it exists, this user may not ask.
    Hidden,
}

/// The version of the RabbitMQ at `url`, which it tells before anybody has logged in.
///
/// # Errors
/// When nobody answers, or not as RabbitMQ does.
pub async fn version(url: &url::Url) -> Result<String, Unseen> {
    let away = |reason: String| Unseen::Away(reason);
    let uri = Address::new(url).uri().map_err(Unseen::Refused)?;
    let asking = async {
        let mut socket = dial(&uri).await.map_err(|error| error.to_string())?;
        socket.write_all(HELLO).await.map_err(|error| error.to_string())?;
        socket.flush().await.map_err(|error| error.to_string())?;
        let mut greeting = Vec::new();
        while greeting.len() < GREETING_MAX {
            let mut part = [0; 1024];
            let read = socket.read(&mut part).await.map_err(|error| error.to_string())?;
            if read == 0 {
                break;
            }
            greeting.extend_from_slice(&part[..read]);
            if let Some(version) = told(&greeting) {
                return Ok(version);
            }
        }
        Err("what answers there is no RabbitMQ".to_owned())
    };
    timeout(DEADLINE, asking).await.unwrap_or_else(|_| Err("no answer".into())).map_err(away)
}

/// The version in RabbitMQ's first frame, once that is whole.
fn told(greeting: &[u8]) -> Option<String> {
    let table = greeting.strip_prefix(FIRST)?.get(4..)?.strip_prefix(START)?;
    let (_, properties) = parse_field_table(table).ok()?;
    match properties.inner().get("version")? {
        AMQPValue::LongString(version) => Some(String::from_utf8_lossy(version.as_bytes()).into_owned()),
        _ => None,
    }
}

/// What a look at a name has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight<T> {
    There(T),
    Absent,
    /// This user may not look: from RabbitMQ 4.3 on that takes a permission.
    Hidden,
}

impl<T> Sight<T> {
    pub fn map<U>(self, of: impl FnOnce(T) -> U) -> Sight<U> {
        match self {
            Self::There(there) => Sight::There(of(there)),
            Self::Absent => Sight::Absent,
            Self::Hidden => Sight::Hidden,
        }
    }
}

/// What an answer means; `None` where there was none.
fn sight<T>(answer: Result<T, Failed>) -> Option<Sight<T>> {
    match answer {
        Ok(there) => Some(Sight::There(there)),
        Err(Failed::Refused(reason)) if reason.starts_with("ACCESS_REFUSED") => Some(Sight::Hidden),
        Err(Failed::Refused(_)) => Some(Sight::Absent),
        Err(Failed::Silent) => None,
    }
}

impl Survey {
    /// Logs in, as a process of ours would.
    ///
    /// # Errors
    /// When nobody answers, and when it does not let this user in.
    pub async fn open(url: &url::Url) -> Result<Self, Unseen> {
        let opened = Errand::open(&Address::new(url), "buzzer doctor").await;
        opened.map(Self).map_err(|unopened| match unopened {
            Unopened::Refused(reason) => Unseen::Refused(reason),
            Unopened::Away(reason) => Unseen::Away(reason),
        })
    }

    /// Whether this user may do this with a name, at which nothing must exist. RabbitMQ looks at the permission first,
    /// and whether there is something second.
    ///
    /// # Errors
    /// When RabbitMQ does not answer.
    pub async fn permits(&self, permission: Permission, name: &str) -> Result<bool, Unseen> {
        let channel = self.channel().await?;
        let it = short("a name", name).map_err(|error| Unseen::Refused(error.to_string()))?;
        let answer = match permission {
            // Gone with the connection.
            Permission::Configure => {
                let options = QueueDeclareOptions::exclusive().auto_delete();
                within(channel.queue_declare(it, options, FieldTable::default())).await.map(drop)
            }
            // There is no such binding, so none goes.
            Permission::Write => {
                let source = ShortString::from(ANY_EXCHANGE);
                let options = ExchangeUnbindOptions::default();
                within(channel.exchange_unbind(it, source, name.into(), options, FieldTable::default())).await
            }
            Permission::Read => within(channel.basic_get(it, BasicGetOptions::default())).await.map(drop),
        };
        close(channel).await;
        match answer {
            Err(Failed::Silent) => Err(Unseen::Away(Failed::Silent.to_string())),
            // It says which name it is about: to unbind takes a permission on the other one too.
            Err(Failed::Refused(reason)) => Ok(!(reason.starts_with("ACCESS_REFUSED") && reason.contains(name))),
            Ok(()) => Ok(true),
        }
    }

    /// How this exchange or queue is. Bindings cannot be looked at, and count as expected.
    ///
    /// # Errors
    /// When RabbitMQ does not answer.
    pub async fn look(&self, declaration: &Declaration) -> Result<Found, Unseen> {
        match self.sight(declaration).await? {
            Sight::There(()) => {}
            Sight::Absent => return Ok(Found::Absent),
            Sight::Hidden => return Ok(Found::Hidden),
        }
        // To declare again what is there as it is changes nothing.
        let channel = self.channel().await?;
        let (_, failure) = make(&channel, std::slice::from_ref(declaration)).await;
        close(channel).await;
        Ok(match failure.map(|failure| failure.to_string()) {
            None => Found::AsExpected,
            Some(reason) if reason.starts_with("ACCESS_REFUSED") => Found::Unclear,
            Some(reason) => Found::Different(reason),
        })
    }

    /// How many messages wait in a queue.
    ///
    /// # Errors
    /// When RabbitMQ does not answer.
    pub async fn waiting(&self, queue: &str) -> Result<Sight<u32>, Unseen> {
        let channel = self.channel().await?;
        let name = short("the queue", queue).map_err(|error| Unseen::Refused(error.to_string()))?;
        let passive = QueueDeclareOptions::default().passive();
        let answer = within(channel.queue_declare(name, passive, FieldTable::default())).await;
        close(channel).await;
        let seen = sight(answer).ok_or_else(|| Unseen::Away(format!("queue {queue}: {}", Failed::Silent)))?;
        Ok(seen.map(|queue| queue.message_count()))
    }

    async fn sight(&self, declaration: &Declaration) -> Result<Sight<()>, Unseen> {
        let exchange = match declaration {
            Declaration::Queue(queue) => return Ok(self.waiting(&queue.name).await?.map(|_| ())),
            Declaration::Binding { .. } => return Ok(Sight::There(())),
            Declaration::Exchange { name, .. } => name,
        };
        let channel = self.channel().await?;
        let name = short("the exchange", exchange).map_err(|error| Unseen::Refused(error.to_string()))?;
        let passive = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
        let looking = channel.exchange_declare(name, ExchangeKind::Direct, passive, FieldTable::default());
        let answer = within(looking).await;
        close(channel).await;
        sight(answer).ok_or_else(|| Unseen::Away(format!("exchange {exchange}: {}", Failed::Silent)))
    }

    async fn channel(&self) -> Result<Channel, Unseen> {
        self.0.channel().await.map_err(Unseen::Away)
    }
}
