use std::sync::Arc;

use buzzer_shared::id::JobId;
use futures_util::future::join_all;

use super::{NOW, after};
use crate::store::{Issued, KeyHash, Store, Ticket, TicketHash};

const MOST: usize = 3;

/// One that is good until then.
fn ticket(text: &str, seconds: u64) -> Ticket {
    let key = Some(KeyHash::of("bz_key"));
    Ticket { hash: TicketHash::of(text), key, job: None, expires_at: after(seconds) }
}

pub async fn a_ticket_is_found_by_its_hash_until_it_is_forgotten(store: Arc<dyn Store>) {
    let whole = ticket("bt_whole", 60);
    let bare = Ticket { key: None, job: Some(JobId::new(NOW)), ..ticket("bt_bare", 60) };
    for kept in [&whole, &bare] {
        assert_eq!(store.keep_ticket(kept, MOST, NOW).await.unwrap(), Issued::Kept);
        assert_eq!(store.ticket(&kept.hash).await.unwrap().as_ref(), Some(kept));
    }
    assert_eq!(store.ticket(&TicketHash::of("bt_other")).await.unwrap(), None);
    assert_eq!(store.forget_tickets(after(59), 10).await.unwrap(), 0);
    assert_eq!(store.ticket(&whole.hash).await.unwrap(), Some(whole.clone()));
    assert_eq!(store.forget_tickets(after(60), 10).await.unwrap(), 2);
    assert_eq!(store.ticket(&whole.hash).await.unwrap(), None);
}

pub async fn a_key_has_so_many_good_tickets_at_most(store: Arc<dyn Store>) {
    for (text, seconds) in [("bt_1", 30), ("bt_2", 20), ("bt_3", 40)] {
        assert_eq!(store.keep_ticket(&ticket(text, seconds), MOST, NOW).await.unwrap(), Issued::Kept);
    }
    let more = ticket("bt_4", 60);
    assert_eq!(store.keep_ticket(&more, MOST, after(19)).await.unwrap(), Issued::TooMany { until: after(20) });
    assert_eq!(store.ticket(&more.hash).await.unwrap(), None);
    let of_another = Ticket { key: Some(KeyHash::of("bz_other")), ..ticket("bt_5", 60) };
    let of_nobody = Ticket { key: None, ..ticket("bt_6", 60) };
    for other in [of_another, of_nobody] {
        assert_eq!(store.keep_ticket(&other, MOST, NOW).await.unwrap(), Issued::Kept, "each key has its own");
    }
    assert_eq!(store.keep_ticket(&more, MOST, after(20)).await.unwrap(), Issued::Kept, "one has expired");
}

pub async fn tickets_made_at_once_are_no_more_than_there_may_be(store: Arc<dyn Store>) {
    let keep = async |n: usize| store.keep_ticket(&ticket(&format!("bt_{n}"), 60), MOST, NOW).await.unwrap();
    let all = join_all((0..16).map(keep)).await;
    assert_eq!(all.iter().filter(|issued| **issued == Issued::Kept).count(), MOST, "{all:?}");
}

pub async fn only_tickets_that_have_expired_are_forgotten_and_a_few_at_a_time(store: Arc<dyn Store>) {
    for n in 1..=5 {
        store.keep_ticket(&ticket(&format!("bt_{n}"), n), 10, NOW).await.unwrap();
    }
    assert_eq!(store.forget_tickets(after(4), 3).await.unwrap(), 3);
    let first = ticket("bt_1", 1);
    assert_eq!(store.ticket(&first.hash).await.unwrap(), None, "the oldest first");
    assert_eq!(store.forget_tickets(after(4), 3).await.unwrap(), 1);
    assert!(store.ticket(&ticket("bt_5", 5).hash).await.unwrap().is_some());
}
