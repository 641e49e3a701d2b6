//! Publishing: what arrives, and what the publisher is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;

use super::{Bench, Case, acknowledge_all, cases, number, numbered};
use crate::broker::{PublishError, Receipts};
use crate::message::{Header, Message};
use crate::topology::{Declaration, ExchangeType, QueueType, Route};

pub(super) const CASES: &[Case] = cases![
    a_message_arrives_as_it_was_sent,
    a_message_with_nothing_but_a_type_arrives_so,
    any_body_arrives_byte_for_byte,
    a_mandatory_message_that_no_queue_takes_is_returned,
    a_message_that_no_queue_takes_and_none_must_is_dropped,
    a_fanout_exchange_gives_every_queue_its_copy,
    messages_of_one_publisher_stay_in_order,
    each_of_5000_pipelined_messages_has_its_own_answer,
];

async fn a_message_arrives_as_it_was_sent(bench: Bench) {
    let queue = bench.plain_queue().await;
    let sent = Message {
        r#type: "buzzer.request.v1".into(),
        message_id: Some("0190163d-8694-739b-aea5-966c26f8ad91/7".into()),
        correlation_id: Some("0190163d-8694-739b-aea5-966c26f8ad91".into()),
        content_type: "application/json".into(),
        expiration: Some(Duration::from_millis(61_234)),
        priority: Some(9),
        headers: vec![
            ("kind".into(), Header::Text("http.request".into())),
            ("text".into(), Header::Text("Grüße, 你好 🛎".into())),
            ("empty".into(), Header::Text(String::new())),
            ("small".into(), Header::Int(-1)),
            ("largest".into(), Header::Int(i64::MAX)),
            ("least".into(), Header::Int(i64::MIN)),
            ("yes".into(), Header::Bool(true)),
            ("no".into(), Header::Bool(false)),
        ],
        body: Bytes::from_static(br#"{"a":"\u0000","b":[1,2.50]}"#),
        ..Message::default()
    };
    bench.publish(&queue, sent.clone()).await;
    let mut subscriber = bench.take_manually(&queue, 1);
    let delivery = bench.next(&mut subscriber).await;
    assert_eq!(delivery.redeliveries, 0);
    assert_eq!(delivery.message.user_id.as_deref(), bench.broker.user());
    assert_eq!(as_handed_over(delivery.message), as_handed_over(sent));
}

async fn a_message_with_nothing_but_a_type_arrives_so(bench: Bench) {
    let queue = bench.plain_queue().await;
    let sent = Message { r#type: "buzzer.control.v1".into(), ..Message::default() };
    bench.publish(&queue, sent.clone()).await;
    let delivery = bench.next(&mut bench.take_manually(&queue, 1)).await;
    assert_eq!(as_handed_over(delivery.message), sent);
}

async fn any_body_arrives_byte_for_byte(bench: Bench) {
    let queue = bench.plain_queue().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    let mebibyte: Vec<u8> = every_byte.iter().copied().cycle().take(1024 * 1024).collect();
    let bodies = [Vec::new(), vec![0], b"\"\\u0000\"".to_vec(), every_byte, mebibyte];
    let mut subscriber = bench.take_manually(&queue, 10);
    for body in bodies.map(Bytes::from) {
        bench.publish(&queue, Message { body: body.clone(), ..numbered(0) }).await;
        let delivery = bench.next(&mut subscriber).await;
        assert!(delivery.message.body == body, "a body of {} bytes came back changed", body.len());
        delivery.receipt.acknowledge();
    }
}

async fn a_mandatory_message_that_no_queue_takes_is_returned(bench: Bench) {
    let nowhere = bench.id("nowhere");
    let answer = bench.try_publish(&nowhere, numbered(1)).await;
    assert!(matches!(answer, Err(PublishError::Returned(_))), "{answer:?}");
}

async fn a_message_that_no_queue_takes_and_none_must_is_dropped(bench: Bench) {
    let queue = bench.plain_queue().await;
    let nowhere = Route { mandatory: false, ..bench.route(&bench.id("nowhere")) };
    let answer = bench.soon("the answer to a publish", bench.broker.publish(nowhere, numbered(1))).await;
    assert_eq!(answer, Ok(()));
    bench.publish_bodies(&queue, [2]).await;
    assert_eq!(number(&bench.next(&mut bench.take_manually(&queue, 10)).await), 2);
}

async fn a_fanout_exchange_gives_every_queue_its_copy(bench: Bench) {
    let fanout = bench.id("fanout");
    bench.declare(vec![Declaration::Exchange { name: Arc::clone(&fanout), r#type: ExchangeType::Fanout }]).await;
    let mut subscribers = Vec::new();
    for rest in ["one", "two", "three"] {
        let queue = bench.make(rest, QueueType::Quorum, &[]).await;
        // The key plays no part: a queue that is bound with two still gets one copy.
        for key in ["", "key"] {
            let binding =
                Declaration::Binding { queue: Arc::clone(&queue), exchange: Arc::clone(&fanout), key: key.into() };
            bench.declare(vec![binding]).await;
        }
        subscribers.push(bench.take(&queue, Receipts::Automatic));
    }
    for body in [1, 2] {
        let route = Route { exchange: Arc::clone(&fanout), key: "whatever".into(), mandatory: true };
        let answer = bench.soon("the answer to a publish", bench.broker.publish(route, numbered(body))).await;
        assert_eq!(answer, Ok(()));
    }
    for subscriber in &mut subscribers {
        assert_eq!(number(&bench.next(subscriber).await), 1);
        assert_eq!(number(&bench.next(subscriber).await), 2);
    }
}

async fn messages_of_one_publisher_stay_in_order(bench: Bench) {
    let queue = bench.plain_queue().await;
    let mut subscriber = bench.take_manually(&queue, 10);
    bench.publish_bodies(&queue, 0..100).await;
    for expected in 0..100 {
        let delivery = bench.next(&mut subscriber).await;
        assert_eq!(number(&delivery), expected);
        delivery.receipt.acknowledge();
    }
}

async fn each_of_5000_pipelined_messages_has_its_own_answer(bench: Bench) {
    const COUNT: u32 = 5_000;
    let goes_nowhere = |number: u32| number.is_multiple_of(7) || number % 100 > 95;
    let (queue, nowhere) = (bench.plain_queue().await, bench.id("nowhere"));
    let publishes = (0..COUNT).map(|number| {
        let queue = if goes_nowhere(number) { &nowhere } else { &queue };
        bench.broker.publish(bench.route(queue), numbered(number))
    });
    let answers = bench.soon("all answers", join_all(publishes)).await;
    for (number, answer) in (0..COUNT).zip(&answers) {
        match answer {
            Err(PublishError::Returned(_)) => assert!(goes_nowhere(number), "message {number} was not returned"),
            Ok(()) => assert!(!goes_nowhere(number), "message {number} was returned, not kept"),
            Err(error) => panic!("message {number}: {error}"),
        }
    }
    let expected: BTreeSet<u32> = (0..COUNT).filter(|&number| !goes_nowhere(number)).collect();
    let mut subscriber = bench.take_manually(&queue, 500);
    let mut arrived = BTreeSet::new();
    for _ in 0..expected.len() {
        let delivery = bench.next(&mut subscriber).await;
        assert!(arrived.insert(number(&delivery)), "message {} arrived twice", number(&delivery));
        acknowledge_all(vec![delivery]);
    }
    assert_eq!(arrived, expected);
}

/// A broker may add headers of its own, and keeps no order among them.
/// Without what broker and line add.
fn as_handed_over(mut message: Message) -> Message {
    message.user_id = None;
    message.headers.retain(|(name, _)| !name.starts_with("x-"));
    message.headers.sort_by(|(one, _), (other, _)| one.cmp(other));
    message
}
