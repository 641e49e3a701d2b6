use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::Priority;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Span;
use bytes::Bytes;

use super::{LEASE, NOW};
use super::{after, change, draft, feed, keep, keep_claimed, log, read, submission, success, with_key};
use crate::lifecycle::{Job, LogType};
use crate::retention::Retention;
use crate::store::{Deleted, Filter, Page, Store, StoreError, Submitted};

const DAY: u64 = 86_400;

pub async fn what_is_submitted_is_read_back_to_the_byte(store: Arc<dyn Store>) {
    let draft = Job {
        priority: Priority::try_from(31).unwrap(),
        tags: BTreeMap::from([("customer".into(), "7 \u{0} ü".into()), ("".into(), "".into())]),
        retry: RetryPolicy { max_attempts: 9, backoff: Span::from_millis(1), max_backoff: Span::from_secs(86_400) },
        run_at: after(5),
        expires_at: Some(after(9)),
        ..draft("image.transform")
    };
    let input =
        Bytes::from_static(b" {\"a\" : \"\\u0000\", \"b\":1e400,\n\"a\":2, \"\xc3\xbc\": \"\xf0\x9f\x94\x94\"} ");
    let submission = submission(draft, input.clone());
    let accepted = submission.accepted.job.clone();
    assert_eq!(store.submit(submission).await.unwrap(), Submitted::New);

    assert_eq!(read(&*store, accepted.id).await, accepted);
    let found = store.job_with_content(&Tenant::default(), accepted.id).await.unwrap().unwrap();
    assert_eq!((found.job, found.input, found.output), (accepted.clone(), input, None));
    let log = log(&*store, accepted.id).await;
    assert_eq!(log.len(), 1);
    assert_eq!((log[0].seq, log[0].at, log[0].r#type, log[0].attempt), (1, NOW, LogType::Accepted, 1));
    assert_eq!(store.job(&Tenant::default(), JobId::new(NOW)).await.unwrap(), None);
}

pub async fn a_large_input_is_kept_whole(store: Arc<dyn Store>) {
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|i| b'a' + u8::try_from(i % 23).unwrap()).collect();
    let submission = submission(draft("echo"), bytes.clone());
    let id = submission.accepted.job.id;
    store.submit(submission).await.unwrap();
    let found = store.job_with_content(&Tenant::default(), id).await.unwrap().unwrap();
    assert!(found.input == bytes, "five megabytes come back as they went in");
}

pub async fn small_jobs_are_read_together(store: Arc<dyn Store>) {
    let mut ids = vec![JobId::new(NOW)];
    for size in [6, 6, 100] {
        let submission = submission(draft("echo"), vec![b'1'; size]);
        ids.push(submission.accepted.job.id);
        store.submit(submission).await.unwrap();
    }
    let (waiting, done) = (ids[1], ids[2]);
    store.claim(&"echo".parse().unwrap(), 3, NOW + LEASE, NOW).await.unwrap();
    change(&*store, done, success(1), after(1)).await;
    let own = Tenant::default();
    let whole = async |id| store.job_with_content(&own, id).await.unwrap().unwrap();
    let read = async |tenant: &Tenant, most| {
        let found = store.small_jobs(tenant, &ids, most).await.unwrap();
        found.into_iter().map(|whole| (whole.job.id, whole)).collect::<BTreeMap<_, _>>()
    };
    let (waiting, done) = (whole(waiting).await, whole(done).await);
    let both = 6 + done.output.as_ref().unwrap().len();

    assert_eq!(read(&own, 5).await, BTreeMap::new());
    let alone = BTreeMap::from([(waiting.job.id, waiting.clone())]);
    assert_eq!(read(&own, 6).await, alone, "the output of the other counts, too");
    assert_eq!(read(&own, both).await, BTreeMap::from([(waiting.job.id, waiting), (done.job.id, done)]));
    assert_eq!(read(&own, usize::MAX).await.len(), 3);
    assert_eq!(read(&"other".parse().unwrap(), usize::MAX).await, BTreeMap::new(), "they are another's");
}

pub async fn the_same_key_answers_with_the_same_job(store: Arc<dyn Store>) {
    let first = with_key(draft("echo"), "k", 1);
    let id = first.accepted.job.id;
    assert_eq!(store.submit(first).await.unwrap(), Submitted::New);
    store.claim(&"echo".parse().unwrap(), 1, NOW + LEASE, NOW).await.unwrap();
    change(&*store, id, success(1), after(1)).await;

    let repeated = store.submit(with_key(draft("echo"), "k", 1)).await.unwrap();
    assert_eq!(repeated, Submitted::Repeated(Box::new(read(&*store, id).await)), "as it is now");
    assert_eq!(store.submit(with_key(draft("echo"), "K", 1)).await.unwrap(), Submitted::New, "keys are not folded");
}

pub async fn a_key_used_for_something_else_is_refused(store: Arc<dyn Store>) {
    store.submit(with_key(draft("echo"), "k", 1)).await.unwrap();
    let other = with_key(draft("echo"), "k", 2);
    let id = other.accepted.job.id;
    assert_eq!(store.submit(other).await.unwrap(), Submitted::KeyReused);
    assert_eq!(store.job(&Tenant::default(), id).await.unwrap(), None, "nothing of it is kept");
    assert_eq!(feed(&*store, &Tenant::default()).await.len(), 1);
}

pub async fn a_key_can_be_asked_for(store: Arc<dyn Store>) {
    let (own, other): (_, Tenant) = (Tenant::default(), "other".parse().unwrap());
    let (first, changed) = (with_key(draft("echo"), "k", 1), with_key(draft("echo"), "k", 2));
    let (key, changed) = (first.key.clone().unwrap(), changed.key.unwrap());
    let id = first.accepted.job.id;
    assert_eq!(store.keyed(&own, &key).await.unwrap(), None);
    store.submit(first).await.unwrap();
    let job = read(&*store, id).await;
    assert_eq!(store.keyed(&own, &key).await.unwrap(), Some(Submitted::Repeated(Box::new(job))));
    assert_eq!(store.keyed(&own, &changed).await.unwrap(), Some(Submitted::KeyReused));
    assert_eq!(store.keyed(&other, &key).await.unwrap(), None);
}

pub async fn a_key_belongs_to_its_tenant(store: Arc<dyn Store>) {
    let other: Tenant = "other".parse().unwrap();
    store.submit(with_key(draft("echo"), "k", 1)).await.unwrap();
    let foreign = with_key(Job { tenant: other, ..draft("echo") }, "k", 2);
    assert_eq!(store.submit(foreign).await.unwrap(), Submitted::New);
}

pub async fn one_key_at_once_sixty_four_times_makes_one_job(store: Arc<dyn Store>) {
    let submit = |_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let submission = with_key(draft("echo"), "k", 1);
            let id = submission.accepted.job.id;
            match store.submit(submission).await.unwrap() {
                Submitted::New => (true, id),
                Submitted::Repeated(job) => (false, job.id),
                Submitted::KeyReused => panic!("it is the same"),
            }
        })
    };
    let running: Vec<_> = (0..64).map(submit).collect();
    let (mut new, mut ids) = (0, HashSet::new());
    for answer in running {
        let (is_new, id) = answer.await.unwrap();
        new += usize::from(is_new);
        ids.insert(id);
    }
    assert_eq!((new, ids.len()), (1, 1));
    let all = store.jobs(&Tenant::default(), &Filter::default(), Page { after: None, limit: 100 }).await.unwrap();
    assert_eq!(all.len(), 1);
}

/// Whatever shares a commit with it is kept all the same.
pub async fn an_id_that_is_taken_is_refused_alone(store: Arc<dyn Store>) {
    let taken = keep(&*store, draft("echo")).await;
    let submit = |i: u32| {
        let (store, taken) = (Arc::clone(&store), taken.clone());
        tokio::spawn(async move {
            let own = Job { tenant: format!("t{i}").parse().unwrap(), ..draft(&format!("kind{i}")) };
            let draft = if i.is_multiple_of(4) { Job { seq: 0, ..taken } } else { own.clone() };
            let refused = store.submit(submission(draft, "{}")).await;
            (i, own, refused)
        })
    };
    for answer in (0..64).map(submit).collect::<Vec<_>>() {
        let (i, own, answer) = answer.await.unwrap();
        if i.is_multiple_of(4) {
            assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
            continue;
        }
        assert_eq!(answer.unwrap(), Submitted::New);
        let kept = store.job(&own.tenant, own.id).await.unwrap().unwrap();
        assert_eq!((kept.kind, kept.tenant.clone()), (own.kind, own.tenant));
        assert_eq!(feed(&*store, &kept.tenant).await.len(), 1);
    }
    assert_eq!(feed(&*store, &Tenant::default()).await.len(), 1);
    assert_eq!(read(&*store, taken.id).await, taken);
}

pub async fn tenants_cannot_see_each_others_jobs(store: Arc<dyn Store>) {
    let (own, other): (_, Tenant) = (Tenant::default(), "other".parse().unwrap());
    let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let mine = keep(&*store, Job { tags: tags.clone(), ..draft("echo") }).await;
    let theirs = keep_claimed(&*store, Job { tenant: other.clone(), tags, ..draft("echo") }, NOW + LEASE).await;
    change(&*store, theirs.id, success(1), after(1)).await;

    assert_eq!(store.job(&own, theirs.id).await.unwrap(), None);
    assert_eq!(store.job_with_content(&own, theirs.id).await.unwrap(), None);
    assert_eq!(store.events(&own, theirs.id, 0, 10).await.unwrap(), []);
    assert_eq!(store.job(&"nobody".parse().unwrap(), mine.id).await.unwrap(), None);
    for filter in [
        Filter::default(),
        Filter { kind: Some(mine.kind.clone()), ..Filter::default() },
        Filter { tag: Some(("a".into(), "b".into())), ..Filter::default() },
        Filter { state: Some(mine.phase.state()), ..Filter::default() },
    ] {
        let listed = store.jobs(&own, &filter, Page { after: None, limit: 10 }).await.unwrap();
        assert_eq!(listed.iter().map(|listed| listed.job.id).collect::<Vec<_>>(), [mine.id], "{filter:?}");
    }
    assert!(feed(&*store, &own).await.iter().all(|fed| fed.job == mine.id));
    let numbers: Vec<i64> = feed(&*store, &other).await.iter().map(|fed| fed.feed).collect();
    assert_eq!(numbers, [1, 2, 3], "a tenant's feed says nothing of how much the others do");
}

pub async fn forgetting_removes_a_job_with_all_its_rows(store: Arc<dyn Store>) {
    let tags = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let old = with_key(Job { tags: tags.clone(), ..draft("echo") }, "old", 1);
    let id = old.accepted.job.id;
    store.submit(old).await.unwrap();
    store.claim(&"echo".parse().unwrap(), 1, NOW + LEASE, NOW).await.unwrap();
    change(&*store, id, success(1), after(1)).await;
    let young = keep_claimed(&*store, Job { tags, ..draft("echo") }, NOW + LEASE).await;
    change(&*store, young.id, success(1), after(3)).await;

    assert_eq!(store.forget(&Retention::new("1d".parse().unwrap()), after(2 + DAY), 10).await.unwrap(), 1);
    assert_eq!(store.job(&Tenant::default(), id).await.unwrap(), None);
    assert_eq!(store.events(&Tenant::default(), id, 0, 10).await.unwrap(), []);
    assert!(feed(&*store, &Tenant::default()).await.iter().all(|fed| fed.job == young.id));
    let tagged = Filter { tag: Some(("a".into(), "b".into())), ..Filter::default() };
    let listed = store.jobs(&Tenant::default(), &tagged, Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!(listed.len(), 1);
    let found = store.job_with_content(&Tenant::default(), young.id).await.unwrap().unwrap();
    assert!(found.output.is_some());
    // Another job under the same id and key has nothing of the old one.
    let again = with_key(Job { id, ..draft("echo") }, "old", 2);
    assert_eq!(store.submit(again).await.unwrap(), Submitted::New);
    let found = store.job_with_content(&Tenant::default(), id).await.unwrap().unwrap();
    assert_eq!((found.output, log(&*store, id).await.len()), (None, 1));
}

pub async fn forgetting_spares_what_is_young_unfinished_or_keyed(store: Arc<dyn Store>) {
    let keyed = with_key(draft("echo"), "k", 1);
    let id = keyed.accepted.job.id;
    store.submit(keyed).await.unwrap();
    store.claim(&"echo".parse().unwrap(), 1, NOW + LEASE, NOW).await.unwrap();
    change(&*store, id, success(1), after(1)).await;
    let waiting = keep(&*store, draft("echo")).await;
    for i in 0..3 {
        let job = keep_claimed(&*store, draft("echo"), NOW + LEASE).await;
        change(&*store, job.id, success(1), after(i)).await;
    }
    let a_second = Retention::new(Span::from_secs(1));
    assert_eq!(store.forget(&a_second, after(2), 10).await.unwrap(), 1, "done before, not at");
    assert_eq!(store.forget(&a_second, after(9), 1).await.unwrap(), 1, "no more than asked");
    assert_eq!(store.forget(&a_second, after(9), 10).await.unwrap(), 1);
    assert_eq!(store.forget(&a_second, after(DAY), 10).await.unwrap(), 0, "the key is as young as its job");
    let repeated = store.submit(with_key(draft("echo"), "k", 1)).await.unwrap();
    assert!(matches!(repeated, Submitted::Repeated(job) if job.id == id));
    assert_eq!(store.forget(&a_second, after(DAY) + Duration::from_millis(1), 10).await.unwrap(), 1);
    assert_eq!(store.submit(with_key(draft("echo"), "k", 2)).await.unwrap(), Submitted::New);
    assert_eq!(read(&*store, waiting.id).await, waiting);
}

pub async fn each_kind_is_kept_as_long_as_it_should_be(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for kind in ["short", "usual", "long"] {
        let job = keep_claimed(&*store, draft(kind), NOW + LEASE).await;
        change(&*store, job.id, success(1), NOW).await;
        ids.push(job.id);
    }
    let retention: Retention = "1h,short=1m,long=1d".parse().unwrap();
    for (now, left) in [(60, &ids[..]), (61, &ids[1..]), (3601, &ids[2..]), (DAY + 1, &ids[3..])] {
        store.forget(&retention, after(now), 10).await.unwrap();
        for id in &ids {
            let kept = store.job(&Tenant::default(), *id).await.unwrap().is_some();
            assert_eq!(kept, left.contains(id), "{id} after {now} s");
        }
    }
}

pub async fn only_what_is_done_is_deleted(store: Arc<dyn Store>) {
    let (own, other): (_, Tenant) = (Tenant::default(), "other".parse().unwrap());
    let submission = with_key(draft("echo"), "k", 1);
    let id = submission.accepted.job.id;
    store.submit(submission).await.unwrap();
    assert!(matches!(store.delete(&own, id).await.unwrap(), Deleted::NotDone(job) if job.id == id));
    store.claim(&"echo".parse().unwrap(), 1, NOW + LEASE, NOW).await.unwrap();
    change(&*store, id, success(1), after(1)).await;
    assert_eq!(store.delete(&other, id).await.unwrap(), Deleted::Unknown, "not its own");
    let before = store.job_with_content(&own, id).await.unwrap().unwrap();
    assert_eq!(store.delete(&own, id).await.unwrap(), Deleted::Gone(before));
    assert_eq!(store.delete(&own, id).await.unwrap(), Deleted::Unknown);
    assert_eq!(store.events(&own, id, 0, 10).await.unwrap(), []);
    assert_eq!(store.submit(with_key(draft("echo"), "k", 2)).await.unwrap(), Submitted::New, "its key went with it");
}

pub async fn usage_counts_what_is_not_done_and_grows(store: Arc<dyn Store>) {
    let empty = store.usage().await.unwrap();
    assert_eq!(empty.unfinished, 0);
    keep(&*store, draft("echo")).await;
    keep(&*store, Job { run_at: after(9), ..draft("echo") }).await;
    let done = keep_claimed(&*store, draft("echo"), NOW + LEASE).await;
    keep_claimed(&*store, draft("other"), NOW + LEASE).await;
    store.submit(submission(draft("echo"), vec![b'1'; 1_000_000])).await.unwrap();
    assert_eq!(store.usage().await.unwrap().unfinished, 5);
    change(&*store, done.id, success(1), after(1)).await;
    let used = store.usage().await.unwrap();
    assert_eq!(used.unfinished, 4);
    assert!(used.bytes >= empty.bytes + 900_000, "{} to {} bytes", empty.bytes, used.bytes);
}
