use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::job::{Priority, State};
use buzzer_shared::kind::Kind;
use buzzer_shared::message::{ReturnReason, RunResult};

use super::{LEASE, NONE, NOW};
use super::{after, change, draft, failure, finished, keep, keep_claimed, lease, read, started, success, tell, types};
use crate::lifecycle::{Done, Event, Job, LogType, Phase, Suspicion};
use crate::store::{Applied, Backlog, Store};

fn echo() -> Kind {
    "echo".parse().unwrap()
}

fn urgent(priority: u8) -> Job {
    Job { priority: Priority::try_from(priority).unwrap(), ..draft("echo") }
}

pub async fn claims_take_higher_priority_first_then_the_oldest(store: Arc<dyn Store>) {
    let mut ids = Vec::new();
    for priority in [4, 9, 4, 0, 9, 31] {
        ids.push(keep(&*store, urgent(priority)).await.id);
    }
    keep(&*store, draft("other")).await;
    let first = store.claim(&echo(), 4, NOW + LEASE, NOW).await.unwrap();
    let claimed: Vec<_> = first.iter().map(|outgoing| outgoing.job.id).collect();
    assert_eq!(claimed, [ids[5], ids[1], ids[4], ids[0]]);
    for outgoing in first {
        assert_eq!(outgoing.job.phase, Phase::Sent { until: NOW + LEASE });
        assert_eq!(read(&*store, outgoing.job.id).await, outgoing.job, "it is out when the claim answers");
    }
    let rest = store.claim(&echo(), 100, NOW + LEASE, NOW).await.unwrap();
    assert_eq!(rest.iter().map(|outgoing| outgoing.job.id).collect::<Vec<_>>(), [ids[2], ids[3]]);
    // What comes back waits again in its old place.
    keep(&*store, draft("echo")).await;
    change(&*store, ids[2], finished(1, RunResult::Returned(ReturnReason::Stopping)), NOW).await;
    assert_eq!(store.claim(&echo(), 1, NOW + LEASE, NOW).await.unwrap()[0].job.id, ids[2]);
}

pub async fn no_job_is_claimed_twice(store: Arc<dyn Store>) {
    for _ in 0..200 {
        keep(&*store, draft("echo")).await;
    }
    let claim = |_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.claim(&echo(), 7, NOW + LEASE, NOW).await.unwrap() })
    };
    let mut ids = HashSet::new();
    for claimed in (0..64).map(claim).collect::<Vec<_>>() {
        for outgoing in claimed.await.unwrap() {
            assert!(ids.insert(outgoing.job.id), "claimed twice");
        }
    }
    assert_eq!(ids.len(), 200);
}

pub async fn a_job_may_come_claimed(store: Arc<dyn Store>) {
    let job = keep_claimed(&*store, draft("echo"), NOW + LEASE).await;
    assert_eq!(read(&*store, job.id).await, job);
    assert_eq!((job.dispatch, job.awaited), (1, true));
    assert!(store.claim(&echo(), 10, NOW + LEASE, NOW).await.unwrap().is_empty());
    assert_eq!(store.out().await.unwrap().get(&echo()), Some(&1));
    assert_eq!(store.end_leases(&NONE, NOW + LEASE, 10).await.unwrap().len(), 1);
}

pub async fn a_claim_of_an_unknown_kind_is_empty(store: Arc<dyn Store>) {
    assert!(store.claim(&echo(), 10, NOW + LEASE, NOW).await.unwrap().is_empty());
    assert!(store.claim(&keep(&*store, draft("echo")).await.kind, 0, NOW + LEASE, NOW).await.unwrap().is_empty());
}

pub async fn an_expired_job_does_not_go_out(store: Arc<dyn Store>) {
    keep(&*store, Job { expires_at: Some(after(5)), ..draft("echo") }).await;
    assert!(store.claim(&echo(), 10, after(60), after(5)).await.unwrap().is_empty());
    assert_eq!(store.claim(&echo(), 10, after(60), after(4)).await.unwrap().len(), 1);
}

pub async fn a_lease_that_ends_brings_the_job_back(store: Arc<dyn Store>) {
    let sent = keep_claimed(&*store, draft("echo"), after(10)).await.id;
    let running = keep_claimed(&*store, draft("echo"), after(5)).await.id;
    change(&*store, running, started(1, 1), NOW).await;
    keep_claimed(&*store, draft("echo"), after(100)).await;

    assert!(store.end_leases(&NONE, after(9), 10).await.unwrap().is_empty());
    let first = store.end_leases(&NONE, after(60), 1).await.unwrap();
    assert_eq!(first.len(), 1, "no more than asked");
    assert_eq!((first[0].job.id, first[0].was_out, first[0].job.phase), (sent, true, Phase::Ready), "the oldest first");
    assert_eq!(store.end_leases(&NONE, after(60), 10).await.unwrap()[0].job.id, running);
    assert!(store.end_leases(&NONE, after(60), 10).await.unwrap().is_empty());

    // The outcome may still come, and counts; then it does not go out again.
    change(&*store, sent, success(1), after(61)).await;
    let claimed = store.claim(&echo(), 10, after(90), after(61)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].job.id, claimed[0].job.dispatch), (running, 2));
    assert!(matches!(tell(&*store, running, failure(1), after(62)).await, Applied::Ignored(_)), "the fence");
}

pub async fn a_lease_that_is_renewed_does_not_end(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), after(10)).await.id;
    change(&*store, id, Event::Held { dispatch: 1, lease: lease(after(20)) }, after(9)).await;
    assert!(store.end_leases(&NONE, after(19), 10).await.unwrap().is_empty());
    assert_eq!(store.end_leases(&NONE, after(20), 10).await.unwrap().len(), 1);
}

pub async fn what_is_due_wakes(store: Arc<dyn Store>) {
    let later = keep(&*store, Job { run_at: after(9), ..draft("echo") }).await;
    let soon = keep(&*store, Job { run_at: after(5), ..draft("echo") }).await;
    assert_eq!(later.phase, Phase::Scheduled);
    assert!(store.wake_due(after(4), 10).await.unwrap().is_empty());
    let woken = store.wake_due(after(9), 1).await.unwrap();
    assert_eq!(woken.iter().map(|change| change.job.id).collect::<Vec<_>>(), [soon.id], "the longest due first");
    assert_eq!(store.wake_due(after(9), 10).await.unwrap().len(), 1);
    assert!(store.wake_due(after(9), 10).await.unwrap().is_empty());
    assert_eq!(store.claim(&echo(), 10, after(60), after(9)).await.unwrap().len(), 2);
}

pub async fn what_should_have_started_expires(store: Arc<dyn Store>) {
    let expiring = |kind, run_at| Job { run_at, expires_at: Some(after(5)), ..draft(kind) };
    let scheduled = keep(&*store, expiring("echo", after(5))).await.id;
    let ready = keep(&*store, expiring("echo", NOW)).await.id;
    let out = keep_claimed(&*store, expiring("echo", NOW), NOW + LEASE).await.id;
    // Has been with a worker and came back: it started in time.
    let begun = keep_claimed(&*store, expiring("echo", NOW), NOW + LEASE).await.id;
    change(&*store, begun, started(1, 1), NOW).await;
    change(&*store, begun, finished(1, RunResult::Returned(ReturnReason::Stopping)), NOW).await;

    assert!(store.wake_due(after(4), 10).await.unwrap().is_empty());
    let expired = store.wake_due(after(5), 10).await.unwrap();
    let ids: HashSet<_> = expired.iter().map(|change| change.job.id).collect();
    assert_eq!(ids, HashSet::from([scheduled, ready]));
    assert!(expired.iter().all(|change| change.job.phase == Phase::Done(Done::Expired)));
    assert_eq!(types(&*store, scheduled).await, [LogType::Accepted, LogType::Expired]);
    assert!(store.wake_due(after(5), 10).await.unwrap().is_empty(), "nothing is looked at for ever");
    assert_eq!(read(&*store, out).await.phase.state(), State::Queued);
    assert_eq!(store.claim(&echo(), 10, after(60), after(6)).await.unwrap()[0].job.id, begun);
}

pub async fn void_leases_bring_back_everything_that_is_out(store: Arc<dyn Store>) {
    for seconds in [1, 1000] {
        keep_claimed(&*store, draft("echo"), after(seconds)).await;
    }
    let running = keep_claimed(&*store, draft("echo"), after(5)).await.id;
    change(&*store, running, started(1, 1), NOW).await;
    keep(&*store, draft("echo")).await;
    assert_eq!(store.void_leases(after(2)).await.unwrap(), 3);
    assert_eq!(store.void_leases(after(2)).await.unwrap(), 0);
    assert!(store.out().await.unwrap().is_empty());
    assert_eq!(store.claim(&echo(), 10, after(60), after(2)).await.unwrap().len(), 4);
}

pub async fn who_was_out_when_a_worker_was_lost_is_noted(store: Arc<dyn Store>) {
    let [mine, other] = ["echo", "other"].map(|kind| keep_claimed(&*store, draft(kind), after(5)));
    let (mine, other) = (mine.await.id, other.await.id);
    let bereft = HashSet::from([echo()]);
    for vanished in 1..=2 {
        assert_eq!(store.end_leases(&bereft, after(5), 10).await.unwrap().len(), 2);
        let noted = Suspicion { alone: vanished == 2, vanished, crashes: 0 };
        assert_eq!(read(&*store, mine).await.suspicion, noted);
        assert_eq!(read(&*store, other).await.suspicion, Suspicion::default());
        for kind in ["echo", "other"] {
            store.claim(&kind.parse().unwrap(), 1, after(5), NOW).await.unwrap();
        }
    }
}

pub async fn a_place_is_how_many_go_before(store: Arc<dyn Store>) {
    let mut jobs = Vec::new();
    for priority in [4, 9, 4, 31, 0] {
        jobs.push(keep(&*store, urgent(priority)).await);
    }
    keep(&*store, Job { priority: Priority::try_from(31).unwrap(), ..draft("other") }).await;
    let mut places = Vec::new();
    for job in &jobs {
        places.push(store.place(job, 3).await.unwrap());
    }
    assert_eq!(places, [Some(2), Some(1), Some(3), Some(0), None], "beyond 3 nobody counts");
    let out = keep_claimed(&*store, draft("echo"), NOW + LEASE).await;
    assert_eq!(store.place(&out, 1000).await.unwrap(), None, "it waits no more");
    assert_eq!(store.place(&draft("echo"), 1000).await.unwrap(), None, "nobody knows it");
}

pub async fn the_backlog_counts_what_is_not_done(store: Arc<dyn Store>) {
    for i in 0..3 {
        keep(&*store, Job { created_at: after(i), run_at: after(i), ..urgent(u8::try_from(i).unwrap()) }).await;
    }
    keep(&*store, Job { run_at: after(60), ..draft("echo") }).await;
    keep_claimed(&*store, draft("echo"), NOW + LEASE).await;
    let running = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, running, started(1, 1), NOW).await;
    let retrying = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, retrying, failure(1), NOW).await;
    let done = keep_claimed(&*store, draft("done"), NOW + LEASE).await.id;
    change(&*store, done, success(1), NOW + Duration::from_secs(1)).await;
    keep_claimed(&*store, draft("other"), NOW + LEASE).await;

    let backlog = store.backlog().await.unwrap();
    let expected = Backlog { scheduled: 1, ready: 3, out: 2, retrying: 1, oldest: Some(NOW) };
    assert_eq!(backlog.get(&echo()), Some(&expected));
    assert_eq!(backlog.get("other"), Some(&Backlog { out: 1, ..Backlog::default() }));
    assert_eq!(backlog.len(), 2, "a kind whose jobs are all done has no backlog");
    let out = store.out().await.unwrap();
    assert_eq!((out.get(&echo()), out.get("other"), out.len()), (Some(&2), Some(&1), 2));
}
