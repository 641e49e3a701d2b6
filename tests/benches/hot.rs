//! What each job passes through, taken by itself: a move of its life, its two messages, the store's batches.
//!
//! ```text
//! cargo bench --package buzzer-tests
//! ```

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use buzzer_api::lifecycle::{Event, Job, Transition, accept, step};
use buzzer_api::store::sqlite::SqliteStore;
use buzzer_api::store::{Happening, Store, Submission};
use buzzer_shared::id::{JobId, RunId, Tenant, WorkerId};
use buzzer_shared::kind::KindSpec;
use buzzer_shared::message::{Outcome, Request, RunResult};
use buzzer_shared::time::{Clock, SystemClock, Time};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;
use tokio::runtime::Runtime;

/// As many as hand in at a time in `buzzer bench`.
const BATCH: usize = 64;
const LEASE: Duration = Duration::from_secs(30);
/// 256 bytes, as `buzzer bench` sends them.
const INPUT: Bytes = Bytes::from_static(&[b'1'; 256]);

criterion_group!(hot, lifecycle, messages, store);
criterion_main!(hot);

fn lifecycle(criterion: &mut Criterion) {
    let now = Time::from_millis(1_795_000_000_000);
    let worker = WorkerId::new(now);
    let job = claimed(now).job;
    let ended = finished(&job, worker, now);
    let mut group = criterion.benchmark_group("lifecycle");
    group.bench_function("accepted and claimed", |bencher| bencher.iter(|| claimed(now)));
    group.bench_function("finished", |bencher| bencher.iter(|| step(&job, &ended, now)));
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let now = Time::from_millis(1_795_000_000_000);
    let job = claimed(now).job;
    let run = RunId { job: job.id, dispatch: job.dispatch };
    let request = Request {
        run,
        kind: job.kind.clone(),
        attempt: job.attempt,
        priority: job.priority,
        timeout: job.timeout,
        expiration: LEASE,
        expires_in: None,
        at_most_once: false,
        alone: false,
        traceparent: None,
        input: INPUT,
    };
    let outcome = Outcome {
        run,
        worker: WorkerId::new(now),
        started_at: Some(now),
        told: Vec::new(),
        result: RunResult::Succeeded(INPUT),
    };
    let (asked, answered) = (request.to_message(), outcome.to_message());
    let mut group = criterion.benchmark_group("messages");
    group.bench_function("request, written", |bencher| bencher.iter(|| request.to_message()));
    group.bench_function("request, read", |bencher| bencher.iter(|| Request::read(&asked)));
    group.bench_function("outcome, written", |bencher| bencher.iter(|| outcome.to_message()));
    group.bench_function("outcome, read", |bencher| bencher.iter(|| Outcome::read(&answered)));
    group.finish();
}

/// With the disk's part: each batch is one commit, or a few.
fn store(criterion: &mut Criterion) {
    let (runtime, folder) = (Runtime::new().expect("a runtime"), tempfile::tempdir().expect("a folder"));
    let store = open(&folder.path().join("buzzer.db"));
    let worker = WorkerId::new(SystemClock.now());
    let mut group = criterion.benchmark_group("sqlite");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("64 submissions at once", |bencher| {
        bencher.iter_batched(submissions, |batch| runtime.block_on(submit(&*store, batch)), BatchSize::PerIteration);
    });
    group.bench_function("64 outcomes in one batch", |bencher| {
        let kept = || {
            let batch = submissions();
            let now = SystemClock.now();
            let ended = batch.iter().map(|submission| {
                let job = &submission.accepted.job;
                Happening { job: job.id, event: finished(job, worker, now) }
            });
            let ended: Vec<_> = ended.collect();
            runtime.block_on(submit(&*store, batch));
            ended
        };
        let apply = |ended| runtime.block_on(store.apply(ended, SystemClock.now())).expect("a commit");
        bencher.iter_batched(kept, apply, BatchSize::PerIteration);
    });
    group.finish();
}

fn open(path: &Path) -> Arc<dyn Store> {
    Arc::new(SqliteStore::open(path).expect("a store"))
}

async fn submit(store: &dyn Store, batch: Vec<Submission>) {
    for submitted in join_all(batch.into_iter().map(|submission| store.submit(submission))).await {
        submitted.expect("a commit");
    }
}

fn submissions() -> Vec<Submission> {
    let now = SystemClock.now();
    (0..BATCH).map(|_| Submission { accepted: claimed(now), input: INPUT, key: None }).collect()
}

/// A new job that goes out at once.
fn claimed(now: Time) -> Transition {
    let spec = KindSpec::any("echo".parse().expect("a kind"));
    let accepted = accept(Job::new(JobId::new(now), Tenant::default(), &spec, now));
    let claimed = step(&accepted.job, &Event::Claimed { until: now + LEASE }, now).expect("its turn");
    Transition { effects: [accepted.effects, claimed.effects].concat(), ..claimed }
}

fn finished(job: &Job, worker: WorkerId, now: Time) -> Event {
    let (dispatch, result) = (job.dispatch, RunResult::Succeeded(INPUT));
    Event::Finished { dispatch, worker, started_at: Some(now), late: Vec::new(), result, chance: 0.5 }
}
