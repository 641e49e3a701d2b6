//! What every broker must do: the suite that both brokers pass, and any other has to.
//!
//! Call [`exercise_all`] from a test. Each case opens a line of its own and makes queues under a name of its own, so
//! it can run on a broker that others use; RabbitMQ deletes the queues when they have been idle for two minutes.
//! A promise that is broken panics, and says in which case.

mod browsing;
mod handing_over;
mod queues;
mod taking;

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Broker, Delivery, Line, PublishError, Receipts, Subscriber, Subscription};
use crate::message::Message;
use crate::topology::{Argument, Declaration, ExchangeType, Queue, QueueType, Route};

/// What not every broker can.
#[derive(Debug, Clone, Copy, Default)]
pub struct Capabilities {
    /// Whether of two messages in a quorum queue the one with the higher priority always comes first. RabbitMQ can
    /// from 4.3 on.
    pub strict_priorities: bool,
}

/// Runs every case, each on a line of its own that `connect` opens.
pub async fn exercise_all(connect: impl AsyncFn() -> Arc<dyn Broker>, capabilities: Capabilities) {
    for &(name, case) in CASES.into_iter().flatten() {
        let started = Instant::now();
        let bench = Bench::open(name, connect().await, capabilities).await;
        let broker = Arc::clone(&bench.broker);
        within(name, CASE_LIMIT, case(bench)).await;
        within(name, WAIT, broker.close()).await;
        println!("{name}: {:?}", started.elapsed());
    }
}

const CASES: [&[Case]; 4] = [handing_over::CASES, taking::CASES, queues::CASES, browsing::CASES];

/// A promise, and its proof.
type Case = (&'static str, fn(Bench) -> Pin<Box<dyn Future<Output = ()> + Send>>);

/// A list of cases: each function with its name, which is the promise.
macro_rules! cases {
    ($($case:ident),* $(,)?) => { &[$((stringify!($case), |bench| Box::pin($case(bench)))),*] };
}
use cases;

/// How long a case waits for something that must come.
const WAIT: Duration = Duration::from_secs(20);
const CASE_LIMIT: Duration = Duration::from_secs(90);
/// After so long unused the queues of a case vanish by themselves; longer than any case.
const IDLE_QUEUE_LIFE_MS: i64 = 120_000;

/// Waits for `future`, and panics with the case's name when it takes longer than `limit`.
pub async fn within<T>(case: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{case}: still waiting after {limit:?}"),
    }
}

/// What a case works with.
struct Bench {
    name: &'static str,
    broker: Arc<dyn Broker>,
    prefix: String,
    capabilities: Capabilities,
}

impl Bench {
    async fn open(name: &'static str, broker: Arc<dyn Broker>, capabilities: Capabilities) -> Self {
        let bench = Self { name, broker, prefix: format!("conformance-{:016x}", fastrand::u64(..)), capabilities };
        let mut line = bench.broker.line();
        let up = bench.soon("the line to be up", line.wait_for(|line| *line == Line::Up)).await;
        assert!(up.is_ok(), "{name}: the broker forgot its line");
        drop(up);
        bench.declare(vec![Declaration::Exchange { name: bench.exchange(), r#type: ExchangeType::Direct }]).await;
        bench
    }

    /// Waits for something that must come soon.
    async fn soon<T>(&self, what: &str, future: impl Future<Output = T>) -> T {
        within(&format!("{}: waiting for {what}", self.name), WAIT, future).await
    }

    fn id(&self, rest: &str) -> Arc<str> {
        format!("{}.{rest}", self.prefix).into()
    }

    fn exchange(&self) -> Arc<str> {
        self.id("direct")
    }

    /// To the queue of this name, wherever the case made one.
    fn route(&self, queue: &Arc<str>) -> Route {
        Route { exchange: self.exchange(), key: Arc::clone(queue), mandatory: true }
    }

    async fn declare(&self, declarations: Vec<Declaration>) {
        let declared = self.soon("a declaration", self.broker.declare(declarations)).await;
        assert!(declared.is_ok(), "{}: {declared:?}", self.name);
    }

    /// A queue, and the binding that [`route`](Self::route) takes.
    fn queue(&self, rest: &str, r#type: QueueType, arguments: &[(&'static str, Argument)]) -> Vec<Declaration> {
        let name = self.id(rest);
        let mut arguments = arguments.to_vec();
        if r#type != QueueType::Exclusive {
            arguments.push(("x-expires", Argument::Int(IDLE_QUEUE_LIFE_MS)));
        }
        vec![
            Declaration::Queue(Queue { name: Arc::clone(&name), r#type, arguments }),
            Declaration::Binding { queue: Arc::clone(&name), exchange: self.exchange(), key: name },
        ]
    }

    /// Makes a queue.
    async fn make(&self, rest: &str, r#type: QueueType, arguments: &[(&'static str, Argument)]) -> Arc<str> {
        self.declare(self.queue(rest, r#type, arguments)).await;
        self.id(rest)
    }

    /// Makes a quorum queue without particular arguments.
    async fn plain_queue(&self) -> Arc<str> {
        self.make("plain", QueueType::Quorum, &[]).await
    }

    async fn try_publish(&self, queue: &Arc<str>, message: Message) -> Result<(), PublishError> {
        self.soon("the answer to a publish", self.broker.publish(self.route(queue), message)).await
    }

    async fn publish(&self, queue: &Arc<str>, message: Message) {
        let answer = self.try_publish(queue, message).await;
        assert_eq!(answer, Ok(()), "{}", self.name);
    }

    /// Publishes messages with these bodies, one after the other.
    async fn publish_bodies(&self, queue: &Arc<str>, bodies: impl IntoIterator<Item = u32>) {
        for body in bodies {
            self.publish(queue, numbered(body)).await;
        }
    }

    fn take(&self, queue: &Arc<str>, receipts: Receipts) -> Subscriber {
        self.broker.subscribe(Subscription { queue: Arc::clone(queue), declare: Vec::new(), receipts })
    }

    fn take_manually(&self, queue: &Arc<str>, prefetch: u16) -> Subscriber {
        self.take(queue, Receipts::Manual { prefetch })
    }

    async fn next(&self, subscriber: &mut Subscriber) -> Delivery {
        let delivery = self.soon("a message", subscriber.next()).await;
        delivery.unwrap_or_else(|| panic!("{}: the subscription ended", self.name))
    }

    /// The next `count` messages.
    async fn next_few(&self, subscriber: &mut Subscriber, count: usize) -> Vec<Delivery> {
        let mut deliveries = Vec::with_capacity(count);
        for _ in 0..count {
            deliveries.push(self.next(subscriber).await);
        }
        deliveries
    }

    async fn attached(&self, subscriber: &Subscriber, wanted: bool) {
        let mut attached = subscriber.attached();
        let reached = self.soon("a subscription to attach or detach", attached.wait_for(|now| *now == wanted)).await;
        assert!(reached.is_ok(), "{}: the subscription ended", self.name);
    }
}

/// A persistent message with a number as its body and id.
fn numbered(number: u32) -> Message {
    Message {
        r#type: "buzzer.conformance.v1".into(),
        message_id: Some(number.to_string()),
        content_type: crate::message::JSON.into(),
        body: Bytes::from(number.to_string()),
        ..Message::default()
    }
}

fn number(delivery: &Delivery) -> u32 {
    let body = std::str::from_utf8(&delivery.message.body).unwrap_or_default();
    body.parse().unwrap_or_else(|_| panic!("a message that was never published: {:?}", delivery.message))
}

fn numbers(deliveries: &[Delivery]) -> Vec<u32> {
    deliveries.iter().map(number).collect()
}

fn acknowledge_all(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.receipt.acknowledge();
    }
}
