use std::collections::BTreeMap;
use std::sync::Arc;

use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::message::Announce;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use serde_json::json;
use uuid::Uuid;

use super::{NOW, after, draft, keep};
use crate::store::{KnownKind, KnownWorker, Store};

fn spec(name: &str, slots: u16) -> KindSpec {
    KindSpec {
        name: name.parse().unwrap(),
        title: "Title".into(),
        description: "What it *does*".into(),
        input_schema: json!({ "type": "object" }),
        output_schema: json!(true),
        example: Some(json!({ "a": "\u{0}" })),
        retry: RetryPolicy::NEVER,
        timeout: Span::from_secs(90),
        slots,
        delivery: DeliveryMode::AtLeastOnce,
    }
}

fn announcement(worker: u128, started_at: Time, kinds: Vec<KindSpec>) -> Announce {
    let worker = WorkerId::from(Uuid::from_u128(worker));
    Announce { worker, host: "box".into(), version: "1.2.3".into(), started_at, kinds }
}

pub async fn a_worker_is_known_from_its_announcement_to_its_leaving(store: Arc<dyn Store>) {
    let old = announcement(2, NOW, vec![spec("echo", 64), spec("other", 1)]);
    let new = announcement(1, after(1), vec![]);
    assert!(!store.beat(old.worker, NOW).await.unwrap(), "who has not announced itself is not known");
    store.announce(&new, after(1)).await.unwrap();
    store.announce(&old, after(2)).await.unwrap();
    assert!(store.beat(old.worker, after(9)).await.unwrap());

    let workers = store.workers().await.unwrap();
    let kinds = BTreeMap::from([("echo".parse().unwrap(), 64), ("other".parse().unwrap(), 1)]);
    let expected = KnownWorker {
        id: old.worker,
        host: "box".into(),
        version: "1.2.3".into(),
        started_at: NOW,
        seen_at: after(9),
        kinds,
    };
    assert_eq!(workers[0], expected, "the longest running first");
    assert_eq!((workers[1].id, workers[1].seen_at), (new.worker, after(1)));

    store.dismiss(None, after(1)).await.unwrap();
    assert_eq!(store.workers().await.unwrap().len(), 2, "heard of since");
    store.dismiss(Some(old.worker), after(1)).await.unwrap();
    assert_eq!(store.workers().await.unwrap().len(), 1);
    store.dismiss(None, after(2)).await.unwrap();
    assert_eq!(store.workers().await.unwrap(), []);
    assert!(!store.beat(old.worker, after(9)).await.unwrap());
}

pub async fn a_kind_is_known_for_ever_as_last_announced(store: Arc<dyn Store>) {
    keep(&*store, draft("echo")).await;
    assert_eq!(store.kinds().await.unwrap(), [], "a job does not announce its kind");
    let first = announcement(1, NOW, vec![spec("echo", 1), spec("a.b", 1)]);
    store.announce(&first, NOW).await.unwrap();
    store.announce(&announcement(2, NOW, vec![spec("echo", 9)]), after(5)).await.unwrap();
    store.dismiss(Some(first.worker), after(60)).await.unwrap();
    let expected = [
        KnownKind { spec: spec("a.b", 1), announced_at: NOW },
        KnownKind { spec: spec("echo", 9), announced_at: after(5) },
    ];
    assert_eq!(store.kinds().await.unwrap(), expected, "by name");
    assert_eq!(store.claim(&spec("echo", 9).name, 1, after(60), NOW).await.unwrap().len(), 1);
}

pub async fn a_probe_finds_the_store_working(store: Arc<dyn Store>) {
    store.probe(NOW).await.unwrap();
    store.probe(after(1)).await.unwrap();
}
