//! Looking into a queue: what is seen, and that it stays.

use std::sync::Arc;

use super::{Bench, Case, cases, number, numbers};
use crate::broker::{BrowseError, Browsed};

pub(super) const CASES: &[Case] = cases![
    what_is_looked_at_stays_in_its_place,
    what_is_acknowledged_is_gone_and_the_rest_stays,
    what_somebody_stopped_looking_at_goes_back_too,
    there_may_be_nothing_to_look_at,
];

async fn browse(bench: &Bench, queue: &Arc<str>, limit: u16) -> Browsed {
    match bench.soon("a look", bench.broker.browse(Arc::clone(queue), limit)).await {
        Ok(browsed) => browsed,
        Err(error) => panic!("{}: {error}", bench.name),
    }
}

async fn close(bench: &Bench, browsed: Browsed) {
    let closed = bench.soon("the end of a look", browsed.close()).await;
    assert_eq!(closed, Ok(()), "{}", bench.name);
}

async fn what_is_looked_at_stays_in_its_place(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=5).await;
    // Never fewer than before: RabbitMQ gives back behind what was given back before.
    for (limit, seen) in [(1, 1), (3, 3), (3, 3), (5, 5), (9, 5)] {
        let browsed = browse(&bench, &queue, limit).await;
        assert_eq!((numbers(&browsed.deliveries), browsed.waiting), ((1..=seen).collect(), 5));
        close(&bench, browsed).await;
    }
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 5).await), [1, 2, 3, 4, 5]);
}

async fn what_is_acknowledged_is_gone_and_the_rest_stays(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, 1..=5).await;
    let mut browsed = browse(&bench, &queue, 4).await;
    for delivery in browsed.deliveries.extract_if(.., |delivery| [2, 4].contains(&number(delivery))) {
        delivery.receipt.acknowledge();
    }
    close(&bench, browsed).await;
    let browsed = browse(&bench, &queue, 10).await;
    assert_eq!((numbers(&browsed.deliveries), browsed.waiting), (vec![1, 3, 5], 3));
    close(&bench, browsed).await;
}

async fn what_somebody_stopped_looking_at_goes_back_too(bench: Bench) {
    let queue = bench.plain_queue().await;
    bench.publish_bodies(&queue, [1, 2]).await;
    drop(browse(&bench, &queue, 2).await);
    let mut subscriber = bench.take_manually(&queue, 10);
    assert_eq!(numbers(&bench.next_few(&mut subscriber, 2).await), [1, 2]);
}

async fn there_may_be_nothing_to_look_at(bench: Bench) {
    let queue = bench.plain_queue().await;
    let browsed = browse(&bench, &queue, 10).await;
    assert_eq!((browsed.deliveries.len(), browsed.waiting), (0, 0));
    close(&bench, browsed).await;
    let nowhere = bench.id("nowhere");
    let looked = bench.soon("a look", bench.broker.browse(Arc::clone(&nowhere), 10)).await;
    assert_eq!(looked.err(), Some(BrowseError::NoQueue(nowhere)));
}
