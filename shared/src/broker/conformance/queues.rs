//! Declaring, and what a queue's arguments do to the messages in it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Bench, Case, cases, number, numbered, numbers};
use crate::broker::{DeclareError, PublishError};
use crate::id::WorkerId;
use crate::kind::Kind;
use crate::message::Message;
use crate::time::Time;
use crate::topology::{Argument, Declaration, ExchangeType, QueueType, Topology};

pub(super) const CASES: &[Case] = cases![
    declaring_twice_changes_nothing,
    other_arguments_are_refused_and_the_line_stays_usable,
    buzzers_own_topology_is_accepted_and_leads_where_it_says,
    an_expired_message_is_not_handed_over,
    a_queues_time_to_live_drops_messages_too,
    a_full_queue_refuses_and_keeps_what_it_has,
    a_full_queue_that_may_drop_drops_its_oldest,
    higher_priority_comes_first_then_the_older,
    a_message_that_came_back_too_often_is_dead_lettered,
];

async fn declaring_twice_changes_nothing(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, [1, 2]).await;
    bench.plain_queue().await;
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 2).await), [1, 2]);
}

async fn other_arguments_are_refused_and_the_line_stays_usable(bench: Bench) {
    let limit = |limit| [("x-max-length", Argument::Int(limit))];
    let queue = bench.make("q", QueueType::Quorum, &limit(10)).await;
    let fanout = Declaration::Exchange { name: bench.exchange(), r#type: ExchangeType::Fanout };
    for other in [
        bench.queue("q", QueueType::Quorum, &limit(11)),
        bench.queue("q", QueueType::Quorum, &[]),
        bench.queue("q", QueueType::Classic, &limit(10)),
        vec![fanout],
    ] {
        let what = format!("{other:?}");
        let declared = bench.soon("a declaration", bench.broker.declare(other)).await;
        let Err(DeclareError::Refused { what: named, reason }) = declared else {
            panic!("{what} was answered with {declared:?}");
        };
        assert!(!named.is_empty() && !reason.is_empty());
        bench.publish_bodies(&queue, [1]).await;
    }
    bench.make("another", QueueType::Quorum, &[]).await;
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 4).await), [1, 1, 1, 1]);
}

async fn buzzers_own_topology_is_accepted_and_leads_where_it_says(bench: Bench) {
    let topology = Topology::new(&bench.prefix);
    let Ok(kind) = "conformance.kind".parse::<Kind>() else { panic!("this is the name of a kind") };
    let worker = WorkerId::new(Time::from_millis(1_795_000_000_000));
    for _ in 0..2 {
        bench.declare(topology.fixed()).await;
        bench.declare(topology.requests(&kind)).await;
    }
    let control = crate::broker::Subscription {
        queue: topology.control_queue(worker),
        declare: topology.control(worker),
        receipts: crate::broker::Receipts::Automatic,
    };
    let mut control = bench.broker.subscribe(control);
    bench.attached(&control, true).await;
    let ways = [
        (topology.request(&kind), topology.requests_queue(&kind)),
        (topology.outcome(), topology.replies_queue()),
        (topology.pulse(), topology.pulse_queue()),
        (topology.signal(), topology.signals_queue()),
        (topology.parking(), topology.parking_queue()),
    ];
    for (said, (route, queue)) in (1..).zip(ways) {
        let answer = bench.soon("an answer", bench.broker.publish(route, numbered(said))).await;
        assert_eq!(answer, Ok(()), "{queue}");
        let delivery = bench.next(&mut bench.take_manually(&queue, 1)).await;
        assert_eq!(number(&delivery), said, "{queue}");
    }
    let answer = bench.soon("an answer", bench.broker.publish(topology.to_workers(), numbered(9))).await;
    assert_eq!(answer, Ok(()));
    assert_eq!(number(&bench.next(&mut control).await), 9);
}

async fn an_expired_message_is_not_handed_over(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish(&queue, lasting(1, Duration::from_millis(50))).await;
    bench.publish(&queue, lasting(2, Duration::from_secs(600))).await;
    bench.publish(&queue, lasting(3, Duration::from_millis(50))).await;
    bench.publish(&queue, numbered(4)).await;
    pass(Duration::from_millis(50)).await;
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 2).await), [2, 4]);
}

async fn a_queues_time_to_live_drops_messages_too(bench: Bench) {
    let queue = bench.make("short", QueueType::Classic, &[("x-message-ttl", Argument::Int(50))]).await;
    bench.publish_bodies(&queue, [1, 2]).await;
    pass(Duration::from_millis(50)).await;
    let mut subscriber = bench.take_manually(&queue, 10);
    bench.attached(&subscriber, true).await;
    bench.publish_bodies(&queue, [3]).await;
    assert_eq!(number(&bench.next(&mut subscriber).await), 3);
}

async fn a_full_queue_refuses_and_keeps_what_it_has(bench: Bench) {
    const MAX: u32 = 20;
    // RabbitMQ lets some more in before it notices, never so many.
    const OVERSHOOT: u32 = 1_000;
    let arguments =
        [("x-max-length", Argument::Int(MAX.into())), ("x-overflow", Argument::Text("reject-publish".into()))];
    let queue = bench.make("full", QueueType::Quorum, &arguments).await;
    let mut kept = 0;
    loop {
        match bench.try_publish(&queue, numbered(kept)).await {
            Ok(()) => kept += 1,
            Err(PublishError::Refused) => break,
            Err(error) => panic!("{error}"),
        }
        assert!(kept <= MAX + OVERSHOOT, "a queue for {MAX} took {kept}");
    }
    assert!(kept >= MAX, "a queue for {MAX} took only {kept}");
    let mut subscriber = bench.take_manually(&queue, 100);
    for expected in 0..kept {
        let delivery = bench.next(&mut subscriber).await;
        assert_eq!(number(&delivery), expected);
        delivery.receipt.acknowledge();
    }
    let again = async {
        while let Err(error) = bench.broker.publish(bench.route(&queue), numbered(u32::MAX)).await {
            assert_eq!(error, PublishError::Refused);
            tokio::task::yield_now().await;
        }
    };
    bench.soon("an emptied queue to take messages again", again).await;
    assert_eq!(number(&bench.next(&mut subscriber).await), u32::MAX, "a refused message was kept");
}

async fn a_full_queue_that_may_drop_drops_its_oldest(bench: Bench) {
    let arguments = [("x-max-length", Argument::Int(3)), ("x-overflow", Argument::Text("drop-head".into()))];
    let queue = bench.make("bounded", QueueType::Classic, &arguments).await;
    bench.publish_bodies(&queue, 1..=10).await;
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 3).await), [8, 9, 10]);
}

async fn higher_priority_comes_first_then_the_older(bench: Bench) {
    if !bench.capabilities.strict_priorities {
        return;
    }
    let queue = bench.plain_queue().await;
    for (body, priority) in (1..).zip([Some(0), Some(4), None, Some(31), Some(5), Some(4), Some(31)]) {
        bench.publish(&queue, Message { priority, ..numbered(body) }).await;
    }
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 7).await), [4, 7, 5, 2, 3, 6, 1]);
}

async fn a_message_that_came_back_too_often_is_dead_lettered(bench: Bench) {
    let graveyard = bench.make("graveyard", QueueType::Quorum, &[]).await;
    let dead_letters = bench.id("dead");
    let arguments =
        [("x-delivery-limit", Argument::Int(2)), ("x-dead-letter-exchange", Argument::Text(dead_letters.to_string()))];
    bench
        .declare(vec![
            Declaration::Exchange { name: Arc::clone(&dead_letters), r#type: ExchangeType::Fanout },
            Declaration::Binding { queue: Arc::clone(&graveyard), exchange: dead_letters, key: "".into() },
        ])
        .await;
    let queue = bench.make("limited", QueueType::Quorum, &arguments).await;
    bench.publish_bodies(&queue, [1]).await;
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let mut subscriber = bench.take_manually(&queue, 1);
        seen.insert(bench.next(&mut subscriber).await.redeliveries);
    }
    assert_eq!(seen, BTreeSet::from([0, 1, 2]));
    let mut subscriber = bench.take_manually(&graveyard, 1);
    assert_eq!(number(&bench.next(&mut subscriber).await), 1);
}

fn lasting(body: u32, expiration: Duration) -> Message {
    Message { expiration: Some(expiration), ..numbered(body) }
}

/// Lets a time to live pass. No guess: from then on the message may not come, however slow the machine is.
async fn pass(time_to_live: Duration) {
    tokio::time::sleep(2 * time_to_live).await;
}
