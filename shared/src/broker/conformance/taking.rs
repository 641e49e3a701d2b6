//! Subscribing: what is handed out, what comes again, and how a subscription ends.

use std::sync::Arc;

use super::{Bench, Case, acknowledge_all, cases, number, numbered, numbers};
use crate::broker::{PublishError, Receipts, Subscriber, Subscription};
use crate::topology::{Declaration, ExchangeType, QueueType, Route};

pub(super) const CASES: &[Case] = cases![
    no_more_is_handed_out_than_the_prefetch,
    acknowledgements_may_come_in_any_order,
    what_was_acknowledged_never_comes_again,
    what_was_acknowledged_in_the_last_moment_never_comes_again,
    what_was_not_acknowledged_comes_again_in_order_and_is_counted,
    what_the_broker_acknowledged_itself_never_comes_again,
    after_a_stop_what_is_here_can_be_taken_and_acknowledged,
    a_subscription_may_come_before_its_queue,
    subscribers_of_one_queue_share_it,
    an_exclusive_queue_hears_what_is_said_to_all_and_vanishes_with_its_subscriber,
    closing_ends_subscriptions_and_publishing,
];

async fn no_more_is_handed_out_than_the_prefetch(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=10).await;
    let mut first = bench.take_manually(&queue, 3);
    let mut held = bench.next_few(&mut first, 3).await;
    assert_eq!(numbers(&held), [1, 2, 3]);
    held.remove(0).receipt.acknowledge();
    held.push(bench.next(&mut first).await);
    assert_eq!(numbers(&held), [2, 3, 4]);
    // The other gets all the rest: so nothing more is on its way to the first.
    let mut other = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut other, 6).await), [5, 6, 7, 8, 9, 10]);
    assert!(first.try_next().is_none());
}

async fn acknowledgements_may_come_in_any_order(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=5).await;
    let mut subscriber = bench.take_manually(&queue, 5);
    let held = bench.next_few(&mut subscriber, 5).await;
    let (kept, settled): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| [2, 5].contains(&number(held)));
    for delivery in settled.into_iter().rev() {
        delivery.receipt.acknowledge();
    }
    drop((kept, subscriber));
    assert_left(&bench, &queue, &[2, 5]).await;
}

async fn what_was_acknowledged_never_comes_again(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=200).await;
    let mut subscriber = bench.take_manually(&queue, 50);
    for _ in 1..200 {
        bench.next(&mut subscriber).await.receipt.acknowledge();
    }
    // The last is not acknowledged. Whatever else comes again would come before it.
    bench.next(&mut subscriber).await;
    drop(subscriber);
    assert_left(&bench, &queue, &[200]).await;
}

/// More of it than a broker may take in at once, and nothing that could be said in few words.
async fn what_was_acknowledged_in_the_last_moment_never_comes_again(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=200).await;
    let mut subscriber = bench.take_manually(&queue, 200);
    let held = bench.next_few(&mut subscriber, 200).await;
    let (kept, settled): (Vec<_>, Vec<_>) = held.into_iter().partition(|held| number(held) % 2 == 1);
    acknowledge_all(settled);
    drop((kept, subscriber));
    let odd: Vec<_> = (1..=200).step_by(2).collect();
    assert_left(&bench, &queue, &odd).await;
}

async fn what_was_not_acknowledged_comes_again_in_order_and_is_counted(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=4).await;
    for redeliveries in 0..3 {
        let mut subscriber = bench.take_manually(&queue, 4);
        let held = bench.next_few(&mut subscriber, 4).await;
        assert_eq!(numbers(&held), [1, 2, 3, 4]);
        assert!(held.iter().all(|delivery| delivery.redeliveries == redeliveries), "{held:?}");
    }
}

async fn what_the_broker_acknowledged_itself_never_comes_again(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=3).await;
    let mut subscriber = bench.take(&queue, Receipts::Automatic);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 3).await), [1, 2, 3]);
    drop(subscriber);
    bench.publish_bodies(&queue, [4]).await;
    assert_left(&bench, &queue, &[4]).await;
}

async fn after_a_stop_what_is_here_can_be_taken_and_acknowledged(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=6).await;
    let mut subscriber = bench.take_manually(&queue, 3);
    let mut taken = bench.next_few(&mut subscriber, 2).await;
    subscriber.stop();
    while let Some(delivery) = bench.soon("the end of the subscription", subscriber.next()).await {
        taken.push(delivery);
    }
    bench.attached(&subscriber, false).await;
    let count = u32::try_from(taken.len()).unwrap_or(u32::MAX);
    assert!(count <= 3, "the prefetch was 3, and {count} came");
    assert_eq!(numbers(&taken), (1..=count).collect::<Vec<_>>());
    // The last is not acknowledged. Whatever else comes again would come before it.
    let last = taken.pop();
    acknowledge_all(taken);
    drop((last, subscriber));
    assert_left(&bench, &queue, &(count..=6).collect::<Vec<_>>()).await;
}

async fn a_subscription_may_come_before_its_queue(bench: Bench) {
    let mut subscriber = bench.take_manually(&bench.id("plain"), 1);
    bench.attached(&subscriber, false).await;
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, [1]).await;
    assert_eq!(number(&bench.next(&mut subscriber).await), 1);
    bench.attached(&subscriber, true).await;
}

async fn subscribers_of_one_queue_share_it(bench: Bench) {
    let queue = bench.plain_queue().await;
    let mut subscribers: Vec<_> = (0..2).map(|_| bench.take_manually(&queue, 100)).collect();
    for subscriber in &subscribers {
        bench.attached(subscriber, true).await;
    }
    bench.publish_bodies(&queue, 1..=100).await;
    // Either has room for all; that it waits for these proves that it gets its part.
    for subscriber in &mut subscribers {
        bench.next_few(subscriber, 30).await;
    }
}

async fn an_exclusive_queue_hears_what_is_said_to_all_and_vanishes_with_its_subscriber(bench: Bench) {
    let fanout = bench.id("fanout");
    bench.declare(vec![Declaration::Exchange { name: Arc::clone(&fanout), r#type: ExchangeType::Fanout }]).await;
    let to_all = Route { exchange: Arc::clone(&fanout), key: "".into(), mandatory: true };
    let listen = |rest: &str| {
        let queue = bench.id(rest);
        let mut declare = bench.queue(rest, QueueType::Exclusive, &[]);
        declare.push(Declaration::Binding { queue: Arc::clone(&queue), exchange: Arc::clone(&fanout), key: "".into() });
        bench.broker.subscribe(Subscription { queue, declare, receipts: Receipts::Automatic })
    };
    let mut listeners: Vec<Subscriber> = ["a", "b", "c"].into_iter().map(listen).collect();
    for listener in &listeners {
        bench.attached(listener, true).await;
    }
    for said in 1..=3 {
        bench.soon("a confirm", publish_beside_an_ending_queue(&bench, &to_all, said)).await;
        for listener in &mut listeners {
            // What was refused for one queue's sake has reached the others, and is said again.
            while number(&bench.next(listener).await) != said {}
        }
        listeners.pop();
    }
    let nobody_left = async {
        loop {
            match bench.broker.publish(to_all.clone(), numbered(4)).await {
                Err(PublishError::Returned(_)) => break,
                Ok(()) | Err(PublishError::Refused) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    bench.soon("the exclusive queues to vanish", nobody_left).await;
}

async fn closing_ends_subscriptions_and_publishing(bench: Bench) {
    let queue = bench.plain_queue().await;
    let mut subscriber = bench.take_manually(&queue, 1);
    bench.attached(&subscriber, true).await;
    bench.soon("the line to close", bench.broker.close()).await;
    assert!(bench.soon("the end of the subscription", subscriber.next()).await.is_none());
    assert_eq!(bench.try_publish(&queue, numbered(1)).await, Err(PublishError::Away));
}

/// Publishes until it is confirmed: RabbitMQ 4 refuses what a queue should have taken that ends in this moment.
async fn publish_beside_an_ending_queue(bench: &Bench, route: &Route, said: u32) {
    loop {
        match bench.broker.publish(route.clone(), numbered(said)).await {
            Ok(()) => return,
            Err(PublishError::Refused) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a new subscriber of the queue is given: these, in any order, and no other among them.
async fn assert_left(bench: &Bench, queue: &Arc<str>, expected: &[u32]) {
    let mut subscriber = bench.take_manually(queue, 100);
    let mut left = numbers(&bench.next_few(&mut subscriber, expected.len()).await);
    left.sort_unstable();
    assert_eq!(left, expected);
}
