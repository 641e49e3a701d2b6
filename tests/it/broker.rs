//! The line to a real RabbitMQ.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::broker::conformance::{Capabilities, exercise_all};
use buzzer_shared::broker::{
    Broker, DeclareError, Delivery, Line, PublishError, Receipts, Subscriber, Subscription, UNREADABLE,
};
use buzzer_shared::message::Message;
use buzzer_shared::topology::{Argument, Declaration, ExchangeType, Queue, QueueType, Route};
use buzzer_tests::foreign::{Foreign, Properties, nested};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use tokio::task::JoinSet;

/// For what takes a moment.
const SOON: Duration = Duration::from_secs(30);
/// From then on a queue survives a crash: 3.10 loses one that was declared a second or two before.
const AGE: Duration = Duration::from_secs(4);
/// Several operations' deadlines, one after the other.
const HEALED: Duration = Duration::from_secs(90);
/// One operation's deadline and something for a busy machine.
const ANSWER: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_does_what_every_broker_must() {
    let node = RabbitNode::shared().await;
    let connect = async || AmqpBroker::connect(node.url(), "conformance") as Arc<dyn Broker>;
    assert_eq!(connect().await.user(), Some("buzzer"));
    exercise_all(connect, Capabilities { strict_priorities: node.version().await >= (4, 3) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_a_crash_of_rabbitmq() {
    let node = RabbitNode::to_damage().await;
    let bench = Bench::open(&node).await;
    bench.declare().await.expect("a queue");
    let mut subscriber = bench.take(500);
    let publishers = Publishers::start(&bench);
    let started = Instant::now();
    let mut received = HashSet::new();
    while started.elapsed() < AGE {
        take(&mut subscriber, &mut received).await;
    }
    node.kill();
    bench.line_is("away", |line| matches!(line, Line::Away(_))).await;
    node.start_again().await;
    bench.line_is("up", |line| *line == Line::Up).await;
    let before = publishers.confirmed();
    eventually("publishing to go on", SOON, async || {
        take(&mut subscriber, &mut received).await;
        (publishers.confirmed() > before + 100).then_some(())
    })
    .await;
    let confirmed = publishers.stop().await;
    assert!(confirmed.len() > 200, "only {} messages were confirmed", confirmed.len());
    eventually("every confirmed message to arrive", SOON, async || {
        take(&mut subscriber, &mut received).await;
        confirmed.is_subset(&received).then_some(())
    })
    .await;
    bench.broker.close().await;
}

/// 3.10 may bring a queue that it crashed with right after its declaration back so that it never confirms, never
/// answers a consume, and holds up the channel that it is published on. Whether it does is chance; that nobody waits
/// for it longer than for one operation, and that it is whole again in the end, is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_damaged_in_a_crash_keeps_nobody_waiting_and_is_made_again() {
    let node = RabbitNode::to_damage().await;
    let bench = Bench::open(&node).await;
    bench.declare().await.expect("a queue");
    for body in 0..20 {
        bench.publish(body.to_string()).await.expect("a confirm");
    }
    node.kill();
    bench.line_is("away", |line| matches!(line, Line::Away(_))).await;
    node.start_again().await;
    bench.line_is("up", |line| *line == Line::Up).await;
    let mut subscriber = bench.take(100);
    let answer = bench.publish("to the damaged queue").await;
    println!("the queue is {}", if answer.is_ok() { "whole" } else { "damaged" });
    assert!(matches!(answer, Ok(()) | Err(PublishError::Unknown)), "{answer:?}");
    eventually("the queue to be whole", HEALED, async || bench.publish("whole").await.ok()).await;
    let mut received = HashSet::new();
    eventually("a message from the queue", HEALED, async || {
        take(&mut subscriber, &mut received).await;
        received.contains("whole").then_some(())
    })
    .await;
    bench.broker.close().await;
}

/// Made again at once, the queue would get a consumer that RabbitMQ 3.10 moves over and then feeds nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_made_again_and_taken_from() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    bench.declare().await.expect("a queue");
    let taker = AmqpBroker::connect(node.url(), "taker");
    let mut subscriber = Bench { broker: Arc::clone(&taker), ..bench.clone() }.take(10);
    let held = hold_some(&bench, &mut subscriber).await;
    node.delete_queue(&bench.queue).await;
    assert!(matches!(bench.publish("gone").await, Err(PublishError::Returned(_))));
    for delivery in held {
        delivery.receipt.acknowledge();
    }
    bench.declare().await.expect("a queue");
    bench.publish("back").await.expect("a confirm");
    let mut received = HashSet::new();
    eventually("a message from the new queue", SOON, async || {
        take(&mut subscriber, &mut received).await;
        received.contains("back").then_some(())
    })
    .await;
    taker.close().await;
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taker_that_rabbitmq_has_forgotten_notices() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    bench.declare().await.expect("a queue");
    let mut subscriber = bench.take(10);
    let held = hold_some(&bench, &mut subscriber).await;
    // A foreign hand deletes the queue and makes it again, at once.
    let connection = node.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    let (queue, exchange) = (bench.queue.as_str(), bench.route.exchange.as_ref());
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("a queue");
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), quorum).await.expect("a queue");
    let (key, options) = (bench.route.key.as_ref().into(), QueueBindOptions::default());
    channel.queue_bind(queue.into(), exchange.into(), key, options, FieldTable::default()).await.expect("a binding");
    for delivery in held {
        delivery.receipt.acknowledge();
    }
    for number in 0..30 {
        bench.publish(format!("again.{number}")).await.expect("a confirm");
    }
    let mut received = HashSet::new();
    eventually("every message from the new queue", HEALED, async || {
        take(&mut subscriber, &mut received).await;
        (0..30).all(|number| received.contains(&format!("again.{number}"))).then_some(())
    })
    .await;
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purged_queue_is_still_taken_from() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    bench.declare().await.expect("a queue");
    let mut subscriber = bench.take(1);
    for body in ["held", "purged"] {
        bench.publish(body).await.expect("a confirm");
    }
    let held = within("a message", SOON, subscriber.next()).await.expect("a subscription");
    node.purge(&bench.queue).await;
    bench.publish("after").await.expect("a confirm");
    held.receipt.acknowledge();
    let after = within("a message", SOON, subscriber.next()).await.expect("a subscription");
    assert_eq!(after.message.body, "after");
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_exchange_is_made_again() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    bench.declare().await.expect("a queue");
    let connection = node.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    let exchange = bench.route.exchange.as_ref();
    channel.exchange_delete(exchange.into(), Default::default()).await.expect("an exchange");
    assert_eq!(bench.publish("lost").await, Err(PublishError::Unknown));
    eventually("the exchange to be back", SOON, async || bench.publish("back").await.ok()).await;
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_arguments_are_one_clear_error() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    bench.declare().await.expect("a queue");
    let other = Queue {
        name: bench.queue.as_str().into(),
        r#type: QueueType::Quorum,
        arguments: vec![("x-max-length", Argument::Int(1))],
    };
    let refused = bench.broker.declare(vec![Declaration::Queue(other)]).await;
    let Err(DeclareError::Refused { what, reason }) = refused else { panic!("{refused:?}") };
    assert_eq!(what, format!("queue {}", bench.queue));
    assert!(reason.contains("x-max-length") && reason.contains("BUZZER_PREFIX"), "{reason}");
    assert_eq!(bench.publish("still").await, Ok(()));
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_harms_no_other() {
    let node = RabbitNode::to_damage().await;
    let bench = Bench::open(&node).await;
    bench.declare().await.expect("a queue");
    let large = (2 << 20, 1 << 20);
    let too_large = Err(PublishError::TooLarge { size: large.0, limit: large.1 });
    assert_eq!(bench.publish("x".repeat(large.0)).await, too_large);
    // From now on the limit is known, and its neighbours do not even notice.
    for round in 0..5 {
        let mut publishing = JoinSet::new();
        for number in 0..50 {
            let bench = bench.clone();
            publishing.spawn(async move { bench.publish(format!("{round}.{number}")).await });
        }
        assert_eq!(bench.publish("x".repeat(large.0)).await, too_large);
        assert!(publishing.join_all().await.iter().all(Result::is_ok));
    }
    assert_eq!(bench.publish("x".repeat(large.1)).await, Ok(()));
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lapin_cannot_parse_arrives_as_unreadable_and_harms_no_other() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    bench.declare().await.expect("a queue");
    let mut subscriber = bench.take(10);
    let mut foreign = Foreign::connect(node).await;
    bench.publish("before").await.expect("a confirm");
    let held = within("a message", SOON, subscriber.next()).await.expect("a subscription");
    let key = bench.route.key.as_bytes();
    let header = |name: &[u8], value| Properties { headers: vec![(name.into(), value)], ..Properties::default() };
    let garbage = [
        (
            Properties { correlation_id: Some(b"\xff\xfe".into()), ..Properties::default() },
            "its correlation id is not UTF-8",
        ),
        (Properties { r#type: Some(b"\xff".into()), ..Properties::default() }, "its type is not UTF-8"),
        (header(b"\xc3(", "value".into()), "one of its headers has a name that is not UTF-8"),
        (header(b"deep", nested(10_000)), "its headers are nested too deep"),
    ];
    for (properties, reason) in garbage {
        let sent = Instant::now();
        foreign.publish(&bench.route.exchange, key, &properties, b"body").await;
        let delivery = within("a message", SOON, subscriber.next()).await.expect("a subscription");
        assert_eq!((delivery.message.r#type, delivery.redeliveries), (format!("{UNREADABLE}{reason}").into(), 0));
        assert_eq!(delivery.message.body, "body");
        delivery.receipt.acknowledge();
        println!("{reason}: {:?} from the publish to the taker", sent.elapsed());
    }
    held.receipt.acknowledge();
    bench.publish("after").await.expect("a confirm");
    let after = within("a message", SOON, subscriber.next()).await.expect("a subscription");
    assert_eq!((after.message.body.as_ref(), after.redeliveries), (b"after".as_slice(), 0));
    assert_eq!(*bench.broker.line().borrow(), Line::Up);
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_too_long_for_amqp_are_refused() {
    let node = RabbitNode::shared().await;
    let bench = Bench::open(node).await;
    let message = Message { message_id: Some("x".repeat(256)), ..Message::default() };
    assert_eq!(bench.broker.publish(bench.route.clone(), message).await, Err(PublishError::Refused));
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_blocks_publishing_but_not_taking() {
    let node = RabbitNode::to_damage().await;
    let bench = Bench::open(&node).await;
    bench.declare().await.expect("a queue");
    for body in ["one", "two"] {
        bench.publish(body).await.expect("a confirm");
    }
    node.set_memory_watermark(0.000_001).await;
    // RabbitMQ says so to who publishes; that message waits for the end of the alarm, or for its deadline.
    let answer = within("an answer", ANSWER, bench.publish("into the alarm")).await;
    assert_eq!(answer, Err(PublishError::Unknown));
    bench.line_is("blocked", |line| matches!(line, Line::Blocked(reason) if reason.contains("memory"))).await;
    let asked = Instant::now();
    assert_eq!(bench.publish("refused").await, Err(PublishError::Away));
    assert!(asked.elapsed() < Duration::from_secs(1), "it waited for {:?}", asked.elapsed());
    let mut subscriber = bench.take(1);
    for body in ["one", "two"] {
        let delivery = within("a message", SOON, subscriber.next()).await.expect("a subscription");
        assert_eq!(delivery.message.body, body);
        delivery.receipt.acknowledge();
    }
    node.set_memory_watermark(0.4).await;
    bench.line_is("up", |line| *line == Line::Up).await;
    assert_eq!(bench.publish("after").await, Ok(()));
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_closed_by_hand_come_back() {
    let node = RabbitNode::to_damage().await;
    let bench = Bench::open(&node).await;
    bench.declare().await.expect("a queue");
    let mut subscriber = bench.take(10);
    bench.publish("unacknowledged").await.expect("a confirm");
    let first = within("a message", SOON, subscriber.next()).await.expect("a subscription");
    let mut line = bench.broker.line();
    let names = node.ctl(&["list_connections", "client_properties"]).await;
    assert!(names.contains("it publish") && names.contains("it consume"), "{names}");
    node.close_all_connections().await;
    within("the line to go", SOON, line.wait_for(|line| matches!(line, Line::Away(_)))).await.expect("a line");
    within("the line to come back", SOON, line.wait_for(|line| *line == Line::Up)).await.expect("a line");
    first.receipt.acknowledge();
    let again = within("the message again", SOON, subscriber.next()).await.expect("a subscription");
    assert_eq!((again.message.body.as_ref(), again.redeliveries), (b"unacknowledged".as_slice(), 1));
    again.receipt.acknowledge();
    assert_eq!(bench.publish("after").await, Ok(()));
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_rabbitmq_keeps_nobody_waiting() {
    let node = RabbitNode::to_damage().await;
    let bench = Bench::open(&node).await;
    bench.declare().await.expect("a queue");
    let mut subscriber = bench.take(10);
    bench.publish("before").await.expect("a confirm");
    node.pause();
    let answer = within("an answer", ANSWER, bench.publish("into the ice")).await;
    assert_eq!(answer, Err(PublishError::Unknown));
    // The two connections find out each for itself; as long as only the other has, this one still tries.
    eventually("a publish to be refused at once", Duration::from_secs(90), async || {
        let asked = Instant::now();
        let answer = bench.publish("refused").await;
        (answer == Err(PublishError::Away) && asked.elapsed() < Duration::from_secs(1)).then_some(())
    })
    .await;
    node.resume();
    bench.line_is("up", |line| *line == Line::Up).await;
    assert_eq!(bench.publish("after").await, Ok(()));
    let mut bodies = HashSet::new();
    eventually("the messages to arrive", SOON, async || {
        let delivery = subscriber.next().await?;
        bodies.insert(delivery.message.body);
        delivery.receipt.acknowledge();
        bodies.contains(b"after".as_slice()).then_some(())
    })
    .await;
    assert!(bodies.contains(b"before".as_slice()));
    bench.broker.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_never_there_is_away() {
    let url = "amqp://guest:s3cret@127.0.0.1:1/%2f".parse().expect("a URL");
    let broker = AmqpBroker::connect(url, "it");
    let mut line = broker.line();
    let refused = |line: &Line| matches!(line, Line::Away(reason) if reason.contains("refused"));
    within("a reason", SOON, line.wait_for(refused)).await.expect("a line");
    let route = Route { exchange: "x".into(), key: "k".into(), mandatory: true };
    assert_eq!(broker.publish(route, Message::default()).await, Err(PublishError::Away));
    assert!(!format!("{broker:?}").contains("s3cret"));
    broker.close().await;
}

/// A line, and a quorum queue of its own.
#[derive(Clone)]
struct Bench {
    broker: Arc<AmqpBroker>,
    queue: String,
    route: Route,
}

impl Bench {
    async fn open(node: &RabbitNode) -> Self {
        let queue = format!("it-{:016x}", fastrand::u64(..));
        let route = Route { exchange: format!("{queue}.x").into(), key: "key".into(), mandatory: true };
        let bench = Self { broker: AmqpBroker::connect(node.url(), "it"), queue, route };
        bench.line_is("up", |line| *line == Line::Up).await;
        bench
    }

    async fn declare(&self) -> Result<(), DeclareError> {
        let Route { exchange, key, .. } = self.route.clone();
        let queue: Arc<str> = self.queue.as_str().into();
        let declarations = vec![
            Declaration::Exchange { name: Arc::clone(&exchange), r#type: ExchangeType::Direct },
            Declaration::Queue(Queue { name: Arc::clone(&queue), r#type: QueueType::Quorum, arguments: Vec::new() }),
            Declaration::Binding { queue, exchange, key },
        ];
        self.broker.declare(declarations).await
    }

    async fn publish(&self, body: impl Into<String>) -> Result<(), PublishError> {
        let body: String = body.into();
        let message_id = body.get(..20).unwrap_or(&body).to_owned();
        let message = Message { message_id: Some(message_id), body: body.into(), ..Message::default() };
        within("an answer to a publish", ANSWER, self.broker.publish(self.route.clone(), message)).await
    }

    fn take(&self, prefetch: u16) -> Subscriber {
        let receipts = Receipts::Manual { prefetch };
        self.broker.subscribe(Subscription { queue: self.queue.as_str().into(), declare: Vec::new(), receipts })
    }

    async fn line_is(&self, what: &str, wanted: impl FnMut(&Line) -> bool) {
        let mut line = self.broker.line();
        within(&format!("the line to be {what}"), SOON, line.wait_for(wanted)).await.expect("a line");
    }
}

/// Publishes a few messages and takes some of them, without acknowledging any.
async fn hold_some(bench: &Bench, subscriber: &mut Subscriber) -> Vec<Delivery> {
    for number in 0..20 {
        bench.publish(number.to_string()).await.expect("a confirm");
    }
    let mut held = Vec::new();
    for _ in 0..5 {
        held.extend(within("a message", SOON, subscriber.next()).await);
    }
    held
}

/// Takes and acknowledges whatever is there, and waits a little for something.
async fn take(subscriber: &mut Subscriber, received: &mut HashSet<String>) {
    let Ok(first) = tokio::time::timeout(Duration::from_millis(50), subscriber.next()).await else { return };
    let mut next = first;
    while let Some(delivery) = next {
        received.insert(String::from_utf8_lossy(&delivery.message.body).into_owned());
        delivery.receipt.acknowledge();
        next = subscriber.try_next();
    }
}

/// Many at once, each publishing one message after the other, whatever is answered.
struct Publishers {
    tasks: JoinSet<HashSet<String>>,
    confirmed: Arc<std::sync::atomic::AtomicUsize>,
    stop: tokio_util::sync::CancellationToken,
}

impl Publishers {
    fn start(bench: &Bench) -> Self {
        use std::sync::atomic::Ordering;
        let stop = tokio_util::sync::CancellationToken::new();
        let confirmed = Arc::<std::sync::atomic::AtomicUsize>::default();
        let mut tasks = JoinSet::new();
        for task in 0..50 {
            let (bench, stop, count) = (bench.clone(), stop.clone(), Arc::clone(&confirmed));
            tasks.spawn(async move {
                let mut confirmed = HashSet::new();
                let mut number = 0;
                while !stop.is_cancelled() {
                    number += 1;
                    let body = format!("{task}.{number}");
                    match bench.publish(body.as_str()).await {
                        Ok(()) => {
                            confirmed.insert(body);
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                        // Nothing is there to publish to: not a reason to spin.
                        Err(PublishError::Away) => tokio::time::sleep(Duration::from_millis(20)).await,
                        Err(_) => {}
                    }
                }
                confirmed
            });
        }
        Self { tasks, confirmed, stop }
    }

    fn confirmed(&self) -> usize {
        self.confirmed.load(std::sync::atomic::Ordering::Relaxed)
    }

    async fn stop(self) -> HashSet<String> {
        self.stop.cancel();
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}
