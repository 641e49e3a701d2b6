use std::collections::BTreeMap;
use std::sync::Arc;

use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{DeliveryMode, KindSpec, Refusal};
use buzzer_shared::message::Announce;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use serde_json::json;
use uuid::Uuid;

use super::{NOW, after, draft, keep};
use crate::store::{CONTRACTS_MAX, KnownContract, KnownKind, KnownWorker, Store};

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
    Announce { worker, host: "box".into(), version: "1.2.3".into(), started_at, kinds, refused: Vec::new() }
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
        contracts: BTreeMap::from([("echo".parse().unwrap(), 1), ("other".parse().unwrap(), 1)]),
        refused: Vec::new(),
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

pub async fn a_kind_is_known_for_ever_as_it_was_announced(store: Arc<dyn Store>) {
    keep(&*store, draft("echo")).await;
    assert_eq!(store.kinds().await.unwrap(), [], "a job does not announce its kind");
    let first = announcement(1, NOW, vec![spec("echo", 1), spec("a.b", 1)]);
    store.announce(&first, NOW).await.unwrap();
    store.announce(&announcement(2, NOW, vec![spec("echo", 9)]), after(5)).await.unwrap();
    store.dismiss(Some(first.worker), after(60)).await.unwrap();
    let known = |spec: KindSpec, seen_at| KnownKind {
        name: spec.name.clone(),
        contracts: vec![KnownContract { version: 1, spec, announced_at: NOW, seen_at }],
    };
    let expected = [known(spec("a.b", 1), NOW), known(spec("echo", 9), after(5))];
    assert_eq!(store.kinds().await.unwrap(), expected, "by name");
    assert_eq!(store.claim(&spec("echo", 9).name, 1, after(60), NOW).await.unwrap().len(), 1);
}

pub async fn who_says_something_else_of_a_kind_makes_a_version_of_it(store: Arc<dyn Store>) {
    let said = |title: &str| KindSpec { title: title.into(), ..spec("echo", 1) };
    let say = async |worker, title: &str, at| {
        store.announce(&announcement(worker, NOW, vec![said(title)]), after(at)).await.unwrap();
    };
    // A rolling upgrade, which is taken back: what was said before is the same version as before.
    for (worker, title, at) in [(1, "old", 1), (2, "new", 2), (1, "old", 3), (3, "old", 4)] {
        say(worker, title, at).await;
    }
    let versions = async || {
        let kinds = store.kinds().await.unwrap();
        let contracts = kinds.into_iter().flat_map(|kind| kind.contracts);
        let told = contracts.map(|known| (known.version, known.spec.title, known.announced_at, known.seen_at));
        told.collect::<Vec<_>>()
    };
    let expected = [(1, "old".into(), after(1), after(4)), (2, "new".into(), after(2), after(2))];
    assert_eq!(versions().await, expected);
    let runs: Vec<_> = store.workers().await.unwrap().into_iter().map(|worker| worker.contracts["echo"]).collect();
    assert_eq!(runs, [1, 2, 1]);

    // Those that nobody announces any more make room, and no version is given twice.
    for more in 3..=u64::from(CONTRACTS_MAX) + 2 {
        say(2, &more.to_string(), 10 + more).await;
        say(1, "old", 10 + more).await;
    }
    let kept: Vec<_> = versions().await.into_iter().map(|(version, ..)| version).collect();
    assert_eq!(kept.len(), CONTRACTS_MAX as usize);
    assert_eq!((kept[0], kept[1], kept.last()), (1, 4, Some(&(CONTRACTS_MAX + 2))));
}

pub async fn what_is_not_taken_of_a_worker_is_known(store: Arc<dyn Store>) {
    let refused = vec![Refusal { kind: "No Kind".into(), reason: "it has \u{0} no name".into() }];
    let announce = Announce { refused: refused.clone(), ..announcement(1, NOW, vec![spec("echo", 1)]) };
    store.announce(&announce, NOW).await.unwrap();
    assert_eq!(store.workers().await.unwrap()[0].refused, refused);
    store.announce(&announcement(1, NOW, vec![spec("echo", 1)]), after(1)).await.unwrap();
    assert_eq!(store.workers().await.unwrap()[0].refused, []);
}

pub async fn a_probe_finds_the_store_working(store: Arc<dyn Store>) {
    store.probe(NOW).await.unwrap();
    store.probe(after(1)).await.unwrap();
}
