//! What only this broker can be asked, since its clock can be set and its queues looked into.

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::broker::conformance::{Capabilities, exercise_all};
use crate::time::{ManualClock, SystemClock};
use crate::topology::{Argument, ExchangeType, Queue, QueueType};

struct Bench {
    clock: Arc<ManualClock>,
    broker: EmbeddedBroker,
}

fn bench() -> Bench {
    let clock = Arc::new(ManualClock::at(Time::from_millis(1_000)));
    let broker = EmbeddedBroker::new(Arc::clone(&clock) as Arc<dyn Clock>);
    Bench { clock, broker }
}

impl Bench {
    /// A queue, and an exchange of the same name that leads to it.
    async fn queue(&self, name: &'static str, r#type: QueueType, arguments: Vec<(&'static str, Argument)>) {
        self.broker.declare(queue(name, r#type, arguments)).await.unwrap();
    }

    async fn publish(&self, exchange: &'static str, message: Message) -> Result<(), PublishError> {
        self.broker.publish(Route { exchange: exchange.into(), key: "k".into(), mandatory: true }, message).await
    }

    fn take(&self, queue: &'static str) -> Subscriber {
        let receipts = Receipts::Manual { prefetch: 100 };
        self.broker.subscribe(Subscription { queue: queue.into(), declare: Vec::new(), receipts })
    }

    fn waiting_in(&self, queue: &str) -> (usize, usize) {
        self.broker.shared.lock().lengths(queue)
    }
}

fn queue(name: &'static str, r#type: QueueType, arguments: Vec<(&'static str, Argument)>) -> Vec<Declaration> {
    vec![
        Declaration::Exchange { name: name.into(), r#type: ExchangeType::Direct },
        Declaration::Queue(Queue { name: name.into(), r#type, arguments }),
        Declaration::Binding { queue: name.into(), exchange: name.into(), key: "k".into() },
    ]
}

fn text(body: &'static str) -> Message {
    Message { body: Bytes::from_static(body.as_bytes()), ..Message::default() }
}

fn lasting(body: &'static str, expiration: Duration) -> Message {
    Message { expiration: Some(expiration), ..text(body) }
}

/// The bodies of all that is here already.
fn bodies(subscriber: &mut Subscriber) -> Vec<String> {
    let all = std::iter::from_fn(|| subscriber.try_next());
    all.map(|delivery| String::from_utf8(delivery.message.body.to_vec()).unwrap()).collect()
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_expired_message_is_not_handed_over() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, Vec::new()).await;
    bench.publish("q", lasting("short", MINUTE)).await.unwrap();
    bench.publish("q", lasting("long", 2 * MINUTE)).await.unwrap();
    bench.clock.advance(MINUTE);
    assert_eq!(bodies(&mut bench.take("q")), ["long"]);
}

#[tokio::test]
async fn the_shorter_of_expiration_and_ttl_holds() {
    let bench = bench();
    bench.queue("q", QueueType::Classic, vec![("x-message-ttl", Argument::Int(60_000))]).await;
    bench.publish("q", text("by the queue")).await.unwrap();
    bench.publish("q", lasting("by itself", MINUTE / 2)).await.unwrap();
    bench.publish("q", lasting("no longer than the queue says", 2 * MINUTE)).await.unwrap();
    bench.clock.advance(MINUTE - Duration::from_millis(1));
    let mut subscriber = bench.take("q");
    assert_eq!(bodies(&mut subscriber), ["by the queue", "no longer than the queue says"]);
}

#[tokio::test]
async fn expired_messages_do_not_stay_in_memory() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, Vec::new()).await;
    bench.publish("q", text("lasts")).await.unwrap();
    for _ in 0..10_000 {
        bench.publish("q", lasting("does not", Duration::from_secs(10))).await.unwrap();
        bench.clock.advance(Duration::from_secs(1));
    }
    let (ready, expiring) = bench.waiting_in("q");
    assert!(ready <= 11, "{ready} messages wait");
    assert_eq!(expiring, ready - 1);
}

#[tokio::test]
async fn what_is_taken_in_time_leaves_nothing_behind() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, Vec::new()).await;
    bench.publish("q", lasting("early", MINUTE)).await.unwrap();
    let mut subscriber = bench.take("q");
    bench.publish("q", lasting("later", MINUTE)).await.unwrap();
    for _ in 0..2 {
        subscriber.try_next().unwrap().receipt.acknowledge();
    }
    assert_eq!(bench.waiting_in("q"), (0, 0));
}

#[tokio::test]
async fn an_expired_message_is_dead_lettered_with_the_reason() {
    let bench = bench();
    bench.queue("parking", QueueType::Quorum, Vec::new()).await;
    bench.queue("q", QueueType::Quorum, vec![("x-dead-letter-exchange", Argument::Text("parking".into()))]).await;
    bench.publish("q", lasting("too late", MINUTE)).await.unwrap();
    bench.clock.advance(MINUTE);
    assert!(bodies(&mut bench.take("q")).is_empty());
    let parked = bench.take("parking").try_next().unwrap().message;
    assert_eq!(parked.expiration, None);
    assert!(parked.headers.contains(&("x-first-death-reason".into(), "expired".into())));
    assert!(parked.headers.contains(&("x-first-death-queue".into(), "q".into())));
}

#[tokio::test]
async fn a_ring_of_dead_letter_exchanges_ends() {
    let bench = bench();
    let ring =
        |next: &str| vec![("x-max-length", Argument::Int(0)), ("x-dead-letter-exchange", Argument::Text(next.into()))];
    bench.queue("a", QueueType::Classic, ring("b")).await;
    bench.queue("b", QueueType::Classic, ring("a")).await;
    bench.publish("a", text("round and round")).await.unwrap();
    assert_eq!((bench.waiting_in("a"), bench.waiting_in("b")), ((0, 0), (0, 0)));
}

#[tokio::test]
async fn the_limit_of_redeliveries_drops_where_nobody_takes_dead_letters() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, vec![("x-delivery-limit", Argument::Int(1))]).await;
    bench.publish("q", text("poison")).await.unwrap();
    for redeliveries in 0..2 {
        let mut subscriber = bench.take("q");
        assert_eq!(subscriber.next().await.unwrap().redeliveries, redeliveries);
        drop(subscriber);
        // The next one gets it once it is back; then it is in nobody's hands.
        let held = || bench.broker.shared.lock().held("q");
        while held() > 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(bench.waiting_in("q"), (0, 0));
}

#[tokio::test]
async fn a_full_queue_refuses_what_is_meant_for_several() {
    let bench = bench();
    let one = vec![("x-max-length", Argument::Int(1)), ("x-overflow", Argument::Text("reject-publish".into()))];
    bench.queue("q", QueueType::Quorum, one).await;
    bench.queue("other", QueueType::Quorum, Vec::new()).await;
    let both = Declaration::Binding { queue: "other".into(), exchange: "q".into(), key: "k".into() };
    bench.broker.declare(vec![both]).await.unwrap();
    bench.publish("q", text("1")).await.unwrap();
    assert_eq!(bench.publish("q", text("2")).await, Err(PublishError::Refused));
    assert_eq!(bodies(&mut bench.take("other")), ["1"]);
}

#[tokio::test]
async fn a_body_that_rabbitmq_would_not_take_is_refused() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, Vec::new()).await;
    let body = Bytes::from(vec![b' '; MAX_BODY + 1]);
    let answer = bench.publish("q", Message { body, ..Message::default() }).await;
    assert_eq!(answer, Err(PublishError::TooLarge { size: MAX_BODY + 1, limit: MAX_BODY }));
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_refused() {
    let bench = bench();
    for argument in [
        ("x-max-length", Argument::Int(-1)),
        ("x-overflow", Argument::Text("explode".into())),
        ("x-message-ttl", Argument::Text("soon".into())),
    ] {
        let declared = bench.broker.declare(queue("q", QueueType::Classic, vec![argument.clone()])).await;
        assert!(matches!(declared, Err(DeclareError::Refused { .. })), "{argument:?}");
    }
}

#[tokio::test]
async fn an_automatic_taker_that_is_slow_holds_a_bounded_number_and_gets_all() {
    let bench = bench();
    bench.queue("q", QueueType::Classic, Vec::new()).await;
    let mut slow =
        bench.broker.subscribe(Subscription { queue: "q".into(), declare: Vec::new(), receipts: Receipts::Automatic });
    for _ in 0..5_000 {
        bench.publish("q", text("x")).await.unwrap();
    }
    assert!(bench.waiting_in("q").0 >= 5_000 - AUTOMATIC_BUFFER);
    for _ in 0..5_000 {
        slow.next().await.unwrap();
    }
    assert_eq!(bench.waiting_in("q").0, 0);
}

#[tokio::test]
async fn closing_one_line_leaves_the_others_alone() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, Vec::new()).await;
    let worker = bench.broker.another_line();
    let everything = Receipts::Manual { prefetch: 10 };
    let take = Subscription { queue: "q".into(), declare: Vec::new(), receipts: everything };
    let mut of_worker = worker.subscribe(take.clone());
    bench.publish("q", text("1")).await.unwrap();
    assert!(of_worker.next().await.is_some());
    worker.close().await;
    assert!(of_worker.next().await.is_none());
    let after = worker.subscribe(take).next().await;
    assert!(after.is_none(), "a closed line gave {after:?}");
    assert_eq!(bodies(&mut bench.take("q")), ["1"]);
}

#[tokio::test]
async fn what_comes_back_stands_before_what_came_later() {
    let bench = bench();
    bench.queue("q", QueueType::Quorum, Vec::new()).await;
    for body in ["1", "2"] {
        bench.publish("q", text(body)).await.unwrap();
    }
    let first = bench.take("q");
    assert_eq!(bench.broker.shared.lock().held("q"), 2);
    drop(first);
    while bench.broker.shared.lock().held("q") > 0 {
        bench.publish("q", text("later")).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(bodies(&mut bench.take("q"))[..2], ["1", "2"]);
}

#[tokio::test]
async fn it_does_what_every_broker_must() {
    conform().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_so_on_several_threads_too() {
    conform().await;
}

async fn conform() {
    let broker = EmbeddedBroker::new(Arc::new(SystemClock));
    let connect = async || Arc::new(broker.another_line()) as Arc<dyn Broker>;
    exercise_all(connect, Capabilities { strict_priorities: true }).await;
}
