//! What RabbitMQ gives without Buzzer: the raw two-hop baseline, with lapin itself.
//!
//! A publisher, with pipelined confirms, to a quorum queue; a consumer that publishes each message on, confirmed, to a
//! second quorum queue, and only then acknowledges; a consumer that acknowledges. 256 bytes a message. That is what a
//! job's request and its outcome need at least; Buzzer's own figures are measured against it.
//!
//! ```text
//! raw [--broker URL] [--messages N] [--depth N] [--json]
//! ```
//! Without a broker it starts a private node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::within;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hdrhistogram::Histogram;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, Consumer};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

const BODY: usize = 256;
const PERSISTENT: u8 = 2;
/// No run that works takes longer.
const LIMIT: Duration = Duration::from_secs(600);
/// 3.10 needs a moment with a fresh quorum queue; the first messages are not counted.
const WARM_UP: usize = 200;

#[derive(Debug)]
struct Arguments {
    broker: Option<String>,
    messages: usize,
    /// How many messages are under way at a time.
    depth: usize,
    json: bool,
}

/// What a run came to.
#[derive(Debug, serde::Serialize)]
struct Report {
    messages: usize,
    depth: usize,
    round_trips_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let (node, url) = match &arguments.broker {
        Some(url) => (None, url.clone()),
        None => {
            let node = RabbitNode::start().await;
            let url = node.url().to_string();
            (Some(node), url)
        }
    };
    let report = within("the run", LIMIT, run(&url, &arguments)).await?;
    if arguments.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        let Report { messages, depth, round_trips_per_second, p50_ms, p99_ms } = report;
        println!(
            "{messages} messages of {BODY} B, depth {depth}: {round_trips_per_second:.0} round trips/s, \
             p50 {p50_ms:.2} ms, p99 {p99_ms:.2} ms"
        );
    }
    drop(node);
    Ok(())
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { broker: None, messages: 20_000, depth: 1_000, json: false };
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word.as_str() {
                "--broker" => arguments.broker = Some(value()?),
                "--messages" => arguments.messages = value()?.parse().context("--messages")?,
                "--depth" => arguments.depth = value()?.parse().context("--depth")?,
                "--json" => arguments.json = true,
                _ => bail!("unknown argument {word}; known: --broker URL --messages N --depth N --json"),
            }
        }
        if arguments.depth == 0 || arguments.messages == 0 {
            bail!("--depth and --messages are at least 1");
        }
        Ok(arguments)
    }
}

async fn run(url: &str, arguments: &Arguments) -> Result<Report> {
    let bench = Bench::open(url, arguments.depth).await?;
    bench.exchange(WARM_UP.min(arguments.messages), arguments.depth).await?;
    let (took, latencies) = bench.exchange(arguments.messages, arguments.depth).await?;
    bench.close().await?;
    let millis = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1_000.0;
    Ok(Report {
        messages: arguments.messages,
        depth: arguments.depth,
        round_trips_per_second: arguments.messages as f64 / took.as_secs_f64(),
        p50_ms: millis(0.5),
        p99_ms: millis(0.99),
    })
}

/// Two queues and three parties, each with connections of its own, as API and worker have.
struct Bench {
    publishing: Connection,
    _consuming: Connection,
    publisher: Channel,
    there: String,
    back: String,
    clock: Clock,
    forwarder: JoinHandle<Result<()>>,
    taker: JoinHandle<Result<()>>,
    _worker: [Connection; 2],
}

impl Bench {
    async fn open(url: &str, depth: usize) -> Result<Self> {
        let connect = || Connection::connect(url, ConnectionProperties::default());
        let (publishing, consuming) = (connect().await?, connect().await?);
        let worker = [connect().await?, connect().await?];
        let unique = fastrand::u64(..);
        let (there, back) = (format!("raw-{unique:016x}-there"), format!("raw-{unique:016x}-back"));
        let publisher = confirming(&publishing).await?;
        for queue in [&there, &back] {
            let mut quorum = FieldTable::default();
            quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
            publisher.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), quorum).await?;
        }
        let clock = Clock::default();
        let forwarder = forward(consume(&worker[1], &there, depth).await?, confirming(&worker[0]).await?, back.clone());
        let taker = take(consume(&consuming, &back, depth).await?, clock.clone());
        let (forwarder, taker) = (tokio::spawn(forwarder), tokio::spawn(taker));
        Ok(Self { publishing, _consuming: consuming, publisher, there, back, clock, forwarder, taker, _worker: worker })
    }

    /// Sends that many messages there and back, so many at a time; how long that took, and how long each (µs).
    async fn exchange(&self, messages: usize, depth: usize) -> Result<(Duration, Histogram<u64>)> {
        let room = Arc::new(Semaphore::new(depth));
        self.clock.start(messages, Arc::clone(&room));
        let started = Instant::now();
        let body = [b'x'; BODY];
        let mut flying = FuturesUnordered::new();
        for number in 0..messages {
            let permit = loop {
                tokio::select! {
                    biased;
                    permit = room.acquire() => break permit?,
                    Some(confirmed) = flying.next() => confirmed?,
                }
            };
            // The taker gives it back, when the message is there.
            permit.forget();
            self.clock.sent(number);
            flying.push(publish(&self.publisher, &self.there, number.to_string(), &body));
            while let Some(Some(confirmed)) = flying.next().now_or_never() {
                confirmed?;
            }
        }
        while let Some(confirmed) = flying.next().await {
            confirmed?;
        }
        let _all = room.acquire_many(u32::try_from(depth)?).await?;
        if self.forwarder.is_finished() || self.taker.is_finished() {
            bail!("a consumer ended");
        }
        Ok((started.elapsed(), self.clock.latencies()))
    }

    async fn close(self) -> Result<()> {
        self.forwarder.abort();
        self.taker.abort();
        for queue in [self.there, self.back] {
            self.publisher.queue_delete(queue.into(), QueueDeleteOptions::default()).await?;
        }
        self.publishing.close(200, "OK".into()).await?;
        Ok(())
    }
}

async fn confirming(connection: &Connection) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

async fn consume(connection: &Connection, queue: &str, depth: usize) -> Result<(Channel, Consumer)> {
    let channel = connection.create_channel().await?;
    // RabbitMQ's own advice is at most 2,000 for a quorum queue.
    let prefetch = u16::try_from(depth.min(2_000))?;
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
    let consumer = channel.basic_consume(queue.into(), "raw".into(), options, none).await?;
    Ok((channel, consumer))
}

async fn publish(channel: &Channel, queue: &str, id: String, body: &[u8]) -> Result<()> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_delivery_mode(PERSISTENT).with_message_id(id.into());
    let confirm = channel.basic_publish("".into(), queue.into(), options, body, properties).await?.await?;
    if !confirm.is_ack() || confirm.take_message().is_some() {
        bail!("a message was not taken");
    }
    Ok(())
}

/// The worker's side: each message goes on, and is acknowledged once that is confirmed.
async fn forward((taking, mut consumer): (Channel, Consumer), publisher: Channel, back: String) -> Result<()> {
    let mut flying = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(forwarded) = flying.next() => acknowledge(&taking, forwarded?, false).await?,
            delivery = consumer.next() => {
                let delivery = delivery.context("the consumer was canceled")??;
                let (publisher, back) = (&publisher, &back);
                flying.push(async move {
                    publish(publisher, back, id(&delivery), &delivery.data).await.map(|()| delivery.delivery_tag)
                });
            }
        }
    }
}

/// The API's side: takes what is there, and acknowledges it together.
async fn take((channel, mut consumer): (Channel, Consumer), clock: Clock) -> Result<()> {
    loop {
        let mut next = Some(consumer.next().await);
        let mut last = 0;
        while let Some(delivery) = next {
            let delivery = delivery.context("the consumer was canceled")??;
            clock.arrived(id(&delivery).parse()?);
            last = delivery.delivery_tag;
            next = consumer.next().now_or_never();
        }
        acknowledge(&channel, last, true).await?;
    }
}

async fn acknowledge(channel: &Channel, tag: u64, multiple: bool) -> Result<()> {
    Ok(channel.basic_ack(tag, BasicAckOptions { multiple }).await?)
}

fn id(delivery: &Delivery) -> String {
    delivery.properties.message_id().as_ref().map(ToString::to_string).unwrap_or_default()
}

/// When each message left, and how long it was away.
#[derive(Debug, Clone, Default)]
struct Clock(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    left: HashMap<usize, Instant>,
    latencies: Option<Histogram<u64>>,
    room: Option<Arc<Semaphore>>,
}

impl Clock {
    fn start(&self, messages: usize, room: Arc<Semaphore>) {
        let mut times = self.lock();
        times.left = HashMap::with_capacity(messages);
        times.latencies = Histogram::new(3).ok();
        times.room = Some(room);
    }

    fn sent(&self, number: usize) {
        self.lock().left.insert(number, Instant::now());
    }

    fn arrived(&self, number: usize) {
        let mut times = self.lock();
        // A redelivery counts once.
        let Some(left) = times.left.remove(&number) else { return };
        let micros = u64::try_from(left.elapsed().as_micros()).unwrap_or(u64::MAX);
        if let Some(latencies) = &mut times.latencies {
            latencies.saturating_record(micros);
        }
        if let Some(room) = &times.room {
            room.add_permits(1);
        }
    }

    fn latencies(&self) -> Histogram<u64> {
        self.lock().latencies.take().expect("a run that was started")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
