use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::State;
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::message::{Retry, ReturnReason, RunResult};
use buzzer_shared::time::Time;
use bytes::Bytes;
use serde_json::json;

use super::{LEASE, NONE, NOW, worker};
use super::{
    after, change, draft, failure, feed, finished, keep, keep_claimed, lease, log, problem, read, started, success,
    tell, types,
};
use crate::lifecycle::{Done, Early, Event, Ignored, Job, Late, LogType, Phase, Progress, Report, Suspicion, TOLD_MAX};
use crate::store::{Applied, Asked, Filter, Happening, Page, Store, Wish};

pub async fn a_whole_life_is_written_down(store: Arc<dyn Store>) {
    let id = keep(&*store, draft("echo")).await.id;
    let outgoing = store.claim(&"echo".parse().unwrap(), 5, NOW + LEASE, NOW).await.unwrap();
    assert_eq!(outgoing.len(), 1);
    assert_eq!((outgoing[0].job.dispatch, &outgoing[0].input[..]), (1, &b"{}"[..]));
    assert_eq!(outgoing[0].job, read(&*store, id).await);

    let running = change(&*store, id, started(1, 1), after(1)).await;
    assert!(running.was_out);
    assert_eq!(running.job.phase.state(), State::Running);
    let done = change(&*store, id, success(1), after(2)).await;
    assert!(done.was_out);
    assert_eq!(done.job.phase, Phase::Done(Done::Succeeded));

    let found = store.job_with_content(&Tenant::default(), id).await.unwrap().unwrap();
    assert_eq!(found.job, done.job);
    assert_eq!(found.output, Some(Bytes::from_static(b" {\"a\": 1.50} ")), "to the byte");
    assert_eq!(types(&*store, id).await, [LogType::Accepted, LogType::Started, LogType::Succeeded]);
    let log = log(&*store, id).await;
    assert!(log[1].data.is_some(), "who runs it");
    assert_eq!((log[2].at, &log[2].data), (after(2), &None));
}

pub async fn a_job_that_fails_is_tried_again_until_it_may_not(store: Arc<dyn Store>) {
    let mut draft = draft("echo");
    draft.retry.max_attempts = 2;
    let id = keep_claimed(&*store, draft, NOW + LEASE).await.id;
    let retrying = change(&*store, id, failure(1), after(1)).await.job;
    assert_eq!((retrying.phase, retrying.attempt, retrying.error.clone()), (Phase::Retrying, 2, Some(problem())));
    assert_eq!(read(&*store, id).await, retrying);
    assert!(store.claim(&retrying.kind, 1, NOW + LEASE, after(1)).await.unwrap().is_empty(), "not before its time");

    let woken = store.wake_due(retrying.run_at, 10).await.unwrap();
    assert_eq!(woken.len(), 1);
    assert_eq!((woken[0].job.id, woken[0].was_out), (id, false));
    assert_eq!(store.claim(&retrying.kind, 1, after(60), after(9)).await.unwrap()[0].job.dispatch, 2);
    let failed = change(&*store, id, failure(2), after(10)).await.job;
    assert_eq!((failed.phase, failed.attempt), (Phase::Done(Done::Failed), 2));
    assert_eq!(read(&*store, id).await, failed);
    let expected = [LogType::Accepted, LogType::Started, LogType::Retrying, LogType::Started, LogType::Failed];
    assert_eq!(types(&*store, id).await, expected);
}

pub async fn late_repeated_and_forged_outcomes_change_nothing(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let never = finished(1, RunResult::Failed { problem: problem(), retry: Retry::Never });
    change(&*store, id, never.clone(), NOW).await;
    let ended = read(&*store, id).await;
    for event in [never, success(1), success(2), failure(0), started(1, 9), Event::LeaseEnded { bereft: true }] {
        assert_eq!(tell(&*store, id, event, after(9)).await, Applied::Ignored(Ignored::Done));
    }
    let live = keep_claimed(&*store, draft("echo"), NOW + LEASE).await;
    let forged = tell(&*store, live.id, success(2), NOW).await;
    assert_eq!(forged, Applied::Ignored(Ignored::UnknownDispatch));
    change(&*store, live.id, finished(1, RunResult::Returned(ReturnReason::Stopping)), NOW).await;
    assert_eq!(tell(&*store, live.id, failure(1), NOW).await, Applied::Ignored(Ignored::OldDispatch));

    assert_eq!(read(&*store, id).await, ended);
    let found = store.job_with_content(&Tenant::default(), id).await.unwrap().unwrap();
    assert_eq!(found.output, None, "a success that comes too late leaves no output");
    assert_eq!(types(&*store, id).await.len(), 3);
}

pub async fn several_happenings_of_one_job_see_each_other(store: Arc<dyn Store>) {
    let one = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let other = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let happenings = [
        (one, started(1, 1)),
        (other, started(1, 1)),
        (one, started(1, 1)),
        (one, success(1)),
        (one, failure(1)),
        (other, failure(1)),
    ];
    let happenings = happenings.map(|(job, event)| Happening { job, event }).to_vec();
    let applied = store.apply(happenings, after(1)).await.unwrap();
    assert_eq!(applied.len(), 6);
    assert_eq!(applied[2], Applied::Ignored(Ignored::OldSignal));
    assert_eq!(applied[4], Applied::Ignored(Ignored::Done));
    for (i, state) in [(0, State::Running), (1, State::Running), (3, State::Succeeded), (5, State::Retrying)] {
        match &applied[i] {
            Applied::Changed(change) => assert_eq!((change.job.phase.state(), change.was_out), (state, true)),
            other => panic!("{i}: {other:?}"),
        }
    }
    assert_eq!(types(&*store, one).await, [LogType::Accepted, LogType::Started, LogType::Succeeded]);
    assert_eq!(types(&*store, other).await, [LogType::Accepted, LogType::Started, LogType::Retrying]);
    assert_eq!(read(&*store, one).await.seq, 3);
}

pub async fn an_unknown_job_does_not_hold_up_the_others(store: Arc<dyn Store>) {
    let known = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let happenings = [JobId::new(NOW), known].map(|job| Happening { job, event: success(1) }).to_vec();
    let applied = store.apply(happenings, after(1)).await.unwrap();
    assert_eq!(applied[0], Applied::Unknown);
    assert!(matches!(applied[1], Applied::Changed(_)));
    assert_eq!(store.apply(Vec::new(), NOW).await.unwrap(), []);
}

fn progressed(n: u32, at: Time, progress: &Progress) -> Event {
    reported(n, at, Report::Progress(progress.clone()))
}

pub async fn a_progress_is_kept_with_the_job(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, id, started(1, 1), NOW).await;
    let progress = Progress { percent: Some(40.25), message: Some("page 2 \u{0} ü".into()) };
    let event = progressed(2, after(1), &progress);
    change(&*store, id, event, after(2)).await;
    assert_eq!(read(&*store, id).await.progress, Some(progress.clone()));
    let last = log(&*store, id).await.pop().unwrap();
    assert_eq!((last.at, last.data), (after(1), Some(serde_json::to_value(progress).unwrap())));
}

fn reported(n: u32, at: Time, report: Report) -> Event {
    Event::Reported { dispatch: 1, n, worker: worker(), at, lease: lease(at + LEASE), report }
}

/// What the handlers of a job tell is kept as they told it, up to a bound that outlives the process.
pub async fn what_is_told_is_kept_up_to_a_bound(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, id, reported(1, after(1), Report::Log("a\n\u{0} ü".into())), after(1)).await;
    change(&*store, id, reported(2, after(2), Report::Output(" piece".into())), after(2)).await;
    let large = "x".repeat(TOLD_MAX as usize / 2);
    for n in 3..7 {
        let told = change(&*store, id, reported(n, after(3), Report::Output(large.clone())), after(3)).await;
        assert_eq!(told.job, read(&*store, id).await);
    }
    let log = log(&*store, id).await;
    let types: Vec<_> = log.iter().map(|entry| entry.r#type).collect();
    use LogType::{Accepted, Log, Output, Started, Truncated};
    assert_eq!(types, [Accepted, Started, Log, Output, Output, Truncated]);
    assert_eq!(log[2].data, Some(json!({ "text": "a\n\u{0} ü" })));
    assert_eq!(log[3].data, Some(json!({ "chunk": " piece" })));
    assert!(read(&*store, id).await.is_truncated());
}

/// What a handler told last comes with the outcome, once, even if all its signals were lost.
pub async fn what_was_told_last_comes_with_the_outcome(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, id, reported(1, after(1), Report::Log("one".into())), after(1)).await;
    let late =
        [(1, "one"), (2, "two")].map(|(n, text)| Late { n, at: after(n.into()), report: Report::Log(text.into()) });
    let Event::Finished { dispatch, worker, started_at, result, chance, .. } = success(1) else { unreachable!() };
    let event = Event::Finished { dispatch, worker, started_at, late: late.to_vec(), result, chance };
    change(&*store, id, event, after(3)).await;
    let texts: Vec<_> =
        log(&*store, id).await.into_iter().filter_map(|entry| entry.data?["text"].as_str().map(String::from)).collect();
    assert_eq!(texts, ["one", "two"]);
    let types = types(&*store, id).await;
    assert_eq!(types.last(), Some(&LogType::Succeeded));
}

pub async fn the_log_has_no_gaps_whoever_writes_at_once(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let speak = |n: u32| {
        let store = Arc::clone(&store);
        let progress = Progress { percent: Some(f64::from(n)), message: None };
        tokio::spawn(async move { tell(&*store, id, progressed(n, NOW, &progress), NOW).await })
    };
    let mut taken = 0;
    for told in (1..=100).map(speak).collect::<Vec<_>>() {
        taken += usize::from(matches!(told.await.unwrap(), Applied::Changed(_)));
    }
    let log = log(&*store, id).await;
    assert_eq!(log.len(), 2 + taken, "an entry for each that was taken, and one for the start");
    assert!(log.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "1, 2, 3, …");
    assert_eq!(read(&*store, id).await.seq as usize, log.len());
}

/// A reader that goes on from the last number it saw misses nothing, whatever is written meanwhile.
pub async fn the_feed_rises_in_the_order_of_commits(store: Arc<dyn Store>) {
    let writers: Vec<_> = (0..32)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for _ in 0..4 {
                    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
                    change(&*store, id, success(1), NOW).await;
                }
            })
        })
        .collect();
    let (mut seen, mut last) = (0, 0);
    while seen < 32 * 4 * 3 {
        let more = store.feed(&Tenant::default(), last, 50).await.unwrap();
        for fed in &more {
            assert!(fed.feed > last, "numbers rise");
            last = fed.feed;
        }
        seen += more.len();
        tokio::task::yield_now().await;
        if more.is_empty() && writers.iter().all(tokio::task::JoinHandle::is_finished) {
            seen += store.feed(&Tenant::default(), last, 1000).await.unwrap().len();
            break;
        }
    }
    assert_eq!(seen, 32 * 4 * 3, "none was passed by");
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(feed(&*store, &Tenant::default()).await.len(), 32 * 4 * 3);
}

pub async fn a_log_goes_on_from_any_number(store: Arc<dyn Store>) {
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, id, started(1, 1), NOW).await;
    change(&*store, id, success(1), NOW + Duration::from_secs(1)).await;
    let whole = log(&*store, id).await;
    let tenant = Tenant::default();
    assert_eq!(store.events(&tenant, id, 1, 10).await.unwrap(), whole[1..]);
    assert_eq!(store.events(&tenant, id, 0, 2).await.unwrap(), whole[..2]);
    assert_eq!(store.events(&tenant, id, 3, 10).await.unwrap(), []);
    let fed = feed(&*store, &tenant).await;
    assert!(fed.iter().all(|fed| fed.job == id));
    assert_eq!(fed.into_iter().map(|fed| fed.entry).collect::<Vec<_>>(), whole, "the feed shows the same");
}

pub async fn many_jobs_are_asked_at_once_how_far_they_are(store: Arc<dyn Store>) {
    let (new, unknown) = (keep(&*store, draft("demo.sleep")).await.id, JobId::new(NOW));
    let done = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    change(&*store, done, success(1), NOW).await;
    let ids = [done, unknown, new];
    let own = store.seqs(&Tenant::default(), &ids).await.unwrap();
    assert_eq!(own, [(new, 1), (done, read(&*store, done).await.seq)].into());
    assert_eq!(store.seqs(&"other".parse().unwrap(), &ids).await.unwrap(), [].into(), "nobody has them there");
    keep(&*store, Job { tenant: "other".parse().unwrap(), ..draft("echo") }).await;
    assert_eq!(store.seqs(&"other".parse().unwrap(), &ids).await.unwrap(), [].into(), "they are another's");
    assert_eq!(store.seqs(&Tenant::default(), &[]).await.unwrap(), [].into());
}

pub async fn what_is_known_about_a_run_is_kept_with_the_job(store: Arc<dyn Store>) {
    let draft = Job { retry_of: Some(JobId::new(NOW)), delivery: DeliveryMode::AtMostOnce, ..draft("echo") };
    let once = keep_claimed(&*store, draft.clone(), NOW + LEASE).await;
    assert_eq!(read(&*store, once.id).await, once);
    change(&*store, once.id, success(1), NOW).await;

    let twice = Job { id: JobId::new(NOW), delivery: DeliveryMode::AtLeastOnce, ..draft };
    let id = keep_claimed(&*store, twice, NOW + LEASE).await.id;
    for (dispatch, charged) in [(1, false), (2, false), (3, true)] {
        let early = lease(after(5));
        let event = Event::StartedEarly { dispatch, worker: worker(), at: NOW, lease: early, charged };
        change(&*store, id, event, NOW).await;
        assert_eq!(read(&*store, id).await.early, Some(Early { charged }));
        let ended = store.end_leases(&NONE, after(5), 10).await.unwrap();
        assert_eq!(ended.iter().map(|change| change.job.id).collect::<Vec<_>>(), [id]);
        store.claim(&"echo".parse().unwrap(), 1, after(30), NOW).await.unwrap();
    }
    let job = read(&*store, id).await;
    assert_eq!(job.suspicion, Suspicion { alone: true, vanished: 2, crashes: 1 });
    assert_eq!(job.early, None, "of an earlier dispatch");
}

pub async fn p5_a_cancel_is_kept_and_answered_by_what_became_of_the_job(store: Arc<dyn Store>) {
    let own = Tenant::default();
    let cancel = async |id| store.ask(&own, id, Wish::Cancel, after(1)).await.unwrap().unwrap();

    let waiting = keep(&*store, draft("echo")).await.id;
    let Asked::Changed(change_of_it) = cancel(waiting).await else { panic!("it waits") };
    assert_eq!((change_of_it.job.phase, change_of_it.was_out), (Phase::Done(Done::Canceled), false));
    assert_eq!(types(&*store, waiting).await, [LogType::Accepted, LogType::Canceled]);
    assert!(matches!(cancel(waiting).await, Asked::Refused(job, Ignored::Done) if job.id == waiting));
    assert!(store.claim(&"echo".parse().unwrap(), 1, after(60), after(2)).await.unwrap().is_empty());

    let out = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let Asked::Changed(change_of_it) = cancel(out).await else { panic!("it is out") };
    assert!(change_of_it.job.is_to_stop());
    assert_eq!(read(&*store, out).await.cancel_requested_at, Some(after(1)));
    assert!(matches!(cancel(out).await, Asked::Refused(_, Ignored::Known)));
    change(&*store, out, failure(1), after(2)).await;
    let job = read(&*store, out).await;
    assert_eq!((job.phase, job.finished_at), (Phase::Done(Done::Canceled), Some(after(2))));

    let done = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    cancel(done).await;
    change(&*store, done, success(1), after(2)).await;
    assert_eq!(read(&*store, done).await.phase, Phase::Done(Done::Succeeded), "the work was done");
    assert!(matches!(cancel(done).await, Asked::Refused(_, Ignored::Done)));

    let canceled = Filter { state: Some(State::Canceled), ..Filter::default() };
    let listed = store.jobs(&own, &canceled, Page { after: None, limit: 10 }).await.unwrap();
    assert_eq!(listed.iter().map(|listed| listed.job.id).collect::<Vec<_>>(), [out, waiting]);
}

pub async fn a_wish_is_answered_for_the_owner_alone(store: Arc<dyn Store>) {
    let id = keep(&*store, draft("echo")).await.id;
    let other: Tenant = "other".parse().unwrap();
    assert_eq!(store.ask(&other, id, Wish::Cancel, after(1)).await.unwrap(), None);
    assert_eq!(store.ask(&Tenant::default(), JobId::new(NOW), Wish::Retry, after(1)).await.unwrap(), None);
    assert_eq!(read(&*store, id).await.phase, Phase::Ready);
}

pub async fn a_retry_brings_the_next_attempt_forward(store: Arc<dyn Store>) {
    let own = Tenant::default();
    let id = keep_claimed(&*store, draft("echo"), NOW + LEASE).await.id;
    let retry = async || store.ask(&own, id, Wish::Retry, after(2)).await.unwrap().unwrap();
    assert!(matches!(retry().await, Asked::Refused(_, Ignored::NotNow)), "it is out");
    change(&*store, id, failure(1), after(1)).await;
    let Asked::Changed(change) = retry().await else { panic!("it waits for another attempt") };
    assert_eq!((change.job.phase, change.job.attempt, change.job.run_at), (Phase::Ready, 2, after(2)));
    assert_eq!(store.claim(&"echo".parse().unwrap(), 1, after(60), after(2)).await.unwrap().len(), 1);
}
