//! What RabbitMQ gives without Buzzer, with lapin itself: the least that a job's request and its outcome need.
//!
//! A publisher sends each message, confirmed, to a quorum queue; a consumer publishes it on, confirmed, to a second
//! one, and only then acknowledges; a second consumer takes it there. Each party has connections of its own, as the API
//! and a worker have. Nothing of Buzzer's own road is used here: its figures are measured against this.

use std::time::{Duration, Instant};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Bytes in the body of each message.
pub const BODY: usize = 256;
const PERSISTENT: u8 = 2;
/// A queue that nobody uses for so long is deleted, in milliseconds.
const UNUSED_MS: i32 = 600_000;
/// RabbitMQ's own advice for a quorum queue is no more.
const PREFETCH_MAX: u16 = 2_000;

/// Two queues, and who publishes, forwards and takes. The queues are gone after [`close`](Self::close).
#[derive(Debug)]
pub struct TwoHops {
    depth: u16,
    publishing: Connection,
    publisher: Channel,
    queues: [String; 2],
    arrivals: mpsc::UnboundedReceiver<usize>,
    forwarder: JoinHandle<Result<(), BaselineError>>,
    taker: JoinHandle<Result<(), BaselineError>>,
    /// Open as long as their channels are used.
    _consuming: [Connection; 3],
}

/// What some messages came to.
#[derive(Debug)]
pub struct Exchange {
    /// From the first publish to the last arrival.
    pub took: Duration,
    /// One for each message, from its publish to its arrival, in the order of arrival.
    pub round_trips: Vec<Duration>,
}

/// Why there is no baseline.
#[derive(Debug, thiserror::Error)]
pub enum BaselineError {
    #[error("RabbitMQ: {0}")]
    Broker(#[from] lapin::Error),
    #[error("RabbitMQ did not take a message; see its log")]
    NotTaken,
    #[error("RabbitMQ ended a consumer; see its log")]
    Ended,
    #[error("a message came that is not of this measurement")]
    Foreign,
}

impl TwoHops {
    /// Makes the queues and connects everybody, for so many messages under way at a time. The queues get random names.
    ///
    /// # Errors
    /// When RabbitMQ is away or refuses.
    pub async fn open(url: &url::Url, depth: u16) -> Result<Self, BaselineError> {
        let connect = || Connection::connect(url.as_str(), ConnectionProperties::default());
        let publishing = connect().await?;
        let consuming = [connect().await?, connect().await?, connect().await?];
        let unique = fastrand::u64(..);
        let queues = [format!("raw-{unique:016x}-there"), format!("raw-{unique:016x}-back")];
        let publisher = confirming(&publishing).await?;
        for queue in &queues {
            let mut quorum = FieldTable::default();
            quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            // Should nobody be left to delete it.
            quorum.insert("x-expires".into(), AMQPValue::LongInt(UNUSED_MS));
            publisher.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), quorum).await?;
        }
        let [there, back] = &queues;
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let forwarding =
            forward(consume(&consuming[0], there, depth).await?, confirming(&consuming[1]).await?, back.clone());
        let taking = take(consume(&consuming[2], back, depth).await?, arrived);
        let (forwarder, taker) = (tokio::spawn(forwarding), tokio::spawn(taking));
        Ok(Self { depth, publishing, publisher, queues, arrivals, forwarder, taker, _consuming: consuming })
    }

    /// Sends so many messages there and back.
    ///
    /// # Errors
    /// When RabbitMQ refuses one, or goes away.
    pub async fn exchange(&mut self, messages: usize) -> Result<Exchange, BaselineError> {
        let Self { depth, publisher, queues: [there, _], arrivals, forwarder, taker, .. } = self;
        let body = [b'x'; BODY];
        let mut left = Vec::with_capacity(messages);
        let mut round_trips = Vec::with_capacity(messages);
        let mut flying = FuturesUnordered::new();
        let began = Instant::now();
        while round_trips.len() < messages || !flying.is_empty() {
            let under_way = left.len() - round_trips.len();
            tokio::select! {
                biased;
                Some(confirmed) = flying.next() => confirmed?,
                Some(number) = arrivals.recv() => {
                    let left: &Instant = left.get(number).ok_or(BaselineError::Foreign)?;
                    round_trips.push(left.elapsed());
                }
                () = std::future::ready(()), if left.len() < messages && under_way < usize::from(*depth) => {
                    flying.push(publish(publisher, there, left.len().to_string(), &body));
                    left.push(Instant::now());
                }
                ended = &mut *forwarder => return Err(reason(ended)),
                ended = &mut *taker => return Err(reason(ended)),
            }
        }
        Ok(Exchange { took: began.elapsed(), round_trips })
    }

    /// Deletes the queues.
    ///
    /// # Errors
    /// When RabbitMQ is away: then it deletes them by itself, ten minutes later. Their names begin with `raw-`.
    pub async fn close(self) -> Result<(), BaselineError> {
        self.forwarder.abort();
        self.taker.abort();
        for queue in self.queues {
            self.publisher.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        }
        Ok(self.publishing.close(200, "OK".into()).await?)
    }
}

fn reason(ended: Result<Result<(), BaselineError>, tokio::task::JoinError>) -> BaselineError {
    ended.ok().and_then(Result::err).unwrap_or(BaselineError::Ended)
}

async fn confirming(connection: &Connection) -> Result<Channel, BaselineError> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn consume(connection: &Connection, queue: &str, depth: u16) -> Result<(Channel, Consumer), BaselineError> {
    let channel = connection.create_channel().await?;
    channel.basic_qos(depth.min(PREFETCH_MAX), BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "raw".into(), options, none).await?;
    Ok((channel, consumer))
}

async fn publish(channel: &Channel, queue: &str, id: String, body: &[u8]) -> Result<(), BaselineError> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(id.into());
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    if !confirm.is_ack() || confirm.take_message().is_some() {
        return Err(BaselineError::NotTaken);
    }
    Ok(())
}

/// The worker's side: each message goes on, and is acknowledged once that is confirmed.
async fn forward(
    (taking, mut consumer): (Channel, Consumer),
    publisher: Channel,
    back: String,
) -> Result<(), BaselineError> {
    let mut flying = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(forwarded) = flying.next() => acknowledge(&taking, forwarded?, false).await?,
            delivery = consumer.next() => {
                let delivery = delivery.ok_or(BaselineError::Ended)??;
                let (publisher, back) = (&publisher, &back);
                flying.push(async move {
                    publish(publisher, back, id(&delivery), &delivery.data).await.map(|()| delivery.delivery_tag)
                });
            }
        }
    }
}

/// The API's side: takes what is there, and acknowledges it together.
async fn take(
    (channel, mut consumer): (Channel, Consumer),
    arrived: mpsc::UnboundedSender<usize>,
) -> Result<(), BaselineError> {
    loop {
        let mut next = Some(consumer.next().await);
        let mut last = 0;
        while let Some(delivery) = next {
            let delivery = delivery.ok_or(BaselineError::Ended)??;
            let number = id(&delivery).parse().map_err(|_| BaselineError::Foreign)?;
            arrived.send(number).map_err(|_| BaselineError::Ended)?;
            last = delivery.delivery_tag;
            next = consumer.next().now_or_never();
        }
        acknowledge(&channel, last, true).await?;
    }
}

async fn acknowledge(channel: &Channel, tag: u64, multiple: bool) -> Result<(), BaselineError> {
    Ok(channel.basic_ack(tag, BasicAckOptions { multiple }).await?)
}

fn id(delivery: &Delivery) -> String {
    delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
}
