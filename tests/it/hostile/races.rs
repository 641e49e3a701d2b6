//! A cancel against everything that may happen to a job at the same moment, on the journal and the store.

use std::sync::Arc;
use std::time::Duration;

use buzzer_api::bell::Bell;
use buzzer_api::cancel::Cancels;
use buzzer_api::journal::Journal;
use buzzer_api::lanes::Lanes;
use buzzer_api::lifecycle::{Done, Event, Job, LogType, Phase, RunLease, accept, step};
use buzzer_api::store::sqlite::SqliteStore;
use buzzer_api::store::{Asked, Happening, Submission, Submitted, Wish};
use buzzer_api::tally::Tally;
use buzzer_api::wake::Wake;
use buzzer_shared::broker::Line;
use buzzer_shared::id::{JobId, Tenant, WorkerId};
use buzzer_shared::kind::KindSpec;
use buzzer_shared::message::{Retry, ReturnReason, RunResult};
use buzzer_shared::problem::Problem;
use buzzer_shared::time::{Clock, SystemClock, Time};
use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::{Barrier, watch};

const RACES: usize = 10_000;
const AT_ONCE: usize = 256;
const OUTPUT: &[u8] = b"\"the work was done\"";

/// Where the job stands when the race begins.
#[derive(Debug, Clone, Copy)]
enum Standing {
    /// On its way.
    Sent,
    /// A worker runs it.
    Running,
    /// Its lease has ended, and it waits for its turn; but the worker runs it still.
    GivenUp,
}

/// What comes from the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rival {
    Success,
    Failure,
    LastFailure,
    HandBack,
    Canceled,
}

/// What a client was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// 200
    Canceled,
    /// 202
    Asked,
    /// 409
    TooLate(Done),
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn p5_ten_thousand_races_of_cancel_against_result() {
    let arena = Arena::open();
    let races = (0..RACES).map(|n| {
        let mut dice = fastrand::Rng::with_seed(n as u64);
        let standing = [Standing::Sent, Standing::Running, Standing::GivenUp][dice.usize(..3)];
        // Half of them are what the promise is about.
        let rival = match dice.usize(..8) {
            0 => Rival::Failure,
            1 => Rival::LastFailure,
            2 => Rival::HandBack,
            3 => Rival::Canceled,
            _ => Rival::Success,
        };
        let arena = arena.clone();
        tokio::spawn(async move { arena.race(standing, rival, dice.u32(..200)).await })
    });
    let answers: Vec<_> =
        stream::iter(races).buffer_unordered(AT_ONCE).map(|answer| answer.expect("no panic")).collect().await;
    let count = |is: fn(&Answer) -> bool| answers.iter().filter(|answer| is(answer)).count();
    let canceled = count(|answer| *answer == Answer::Canceled);
    let asked = count(|answer| *answer == Answer::Asked);
    let late = count(|answer| matches!(answer, Answer::TooLate(_)));
    // Otherwise it was no race.
    assert!(canceled > 500 && asked > 500 && late > 500, "{canceled} canceled, {asked} asked to stop, {late} too late");
}

/// The journal on a store, as the API has it.
#[derive(Clone)]
struct Arena {
    journal: Journal,
    _folder: Arc<TempDir>,
}

impl Arena {
    fn open() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let store = SqliteStore::open(&folder.path().join("buzzer.db")).expect("a store");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let journal = Journal {
            store: Arc::new(store),
            lanes: Lanes::new(watch::channel(Line::Up).1, Arc::clone(&clock)),
            wake: Wake::default(),
            cancels: Cancels::new().0,
            bell: Bell::default(),
            tally: Tally::default(),
            clock,
        };
        Self { journal, _folder: Arc::new(folder) }
    }

    /// One race. Returns what the client was answered, once that was found to be true.
    async fn race(&self, standing: Standing, rival: Rival, head_start: u32) -> Answer {
        let job = self.submit(standing).await;
        let id = job.id;
        let start = Arc::new(Barrier::new(2));
        let (cancel, outcome) = (self.clone(), self.clone());
        let (ready, steady) = (Arc::clone(&start), start);
        let cancel = tokio::spawn(async move {
            ready.wait().await;
            // A few turns more or less, so that each of them is ahead in about half of the races.
            for _ in 0..head_start.saturating_sub(100) {
                tokio::task::yield_now().await;
            }
            cancel.cancel(id).await
        });
        let outcome = tokio::spawn(async move {
            steady.wait().await;
            for _ in 0..100_u32.saturating_sub(head_start) {
                tokio::task::yield_now().await;
            }
            outcome.finish(id, 1, rival).await;
        });
        let answer = cancel.await.expect("no panic");
        outcome.await.expect("no panic");
        let after = self.job(id).await;
        is_true(answer, rival, &after);
        self.nothing_comes_later(&after).await;
        answer
    }

    /// A job whose first dispatch stands as it should.
    async fn submit(&self, standing: Standing) -> Job {
        let now = self.now();
        let spec = KindSpec::any("race".parse().expect("a kind"));
        let mut accepted = accept(Job::new(JobId::new(now), Tenant::default(), &spec, now));
        let mut events = vec![Event::Claimed { until: now }];
        if !matches!(standing, Standing::Sent) {
            let lease = RunLease::new(now, Duration::ZERO);
            events.push(Event::Started { dispatch: 1, n: 1, worker: worker(), at: now, lease });
        }
        if matches!(standing, Standing::GivenUp) {
            events.push(Event::LeaseEnded { bereft: false });
        }
        for event in events {
            let next = step(&accepted.job, &event, now).expect("it is the time for it");
            accepted.job = next.job;
            accepted.effects.extend(next.effects);
        }
        let job = accepted.job.clone();
        let submission = Submission { accepted, input: "null".into(), key: None };
        assert_eq!(self.journal.store.submit(submission).await.expect("a store"), Submitted::New);
        job
    }

    async fn cancel(&self, id: JobId) -> Answer {
        let asked = self.journal.ask(&Tenant::default(), id, Wish::Cancel).await.expect("a store").expect("a job");
        let job = match asked {
            Asked::Changed(change) => change.job,
            Asked::Refused(job, _) => job,
        };
        match job.phase {
            Phase::Done(Done::Canceled) => Answer::Canceled,
            Phase::Done(done) => Answer::TooLate(done),
            _ => Answer::Asked,
        }
    }

    async fn finish(&self, job: JobId, dispatch: u32, rival: Rival) {
        let problem = || Problem::new("scripted", "As the race has it", "It failed.");
        let result = match rival {
            Rival::Success => RunResult::Succeeded(OUTPUT.into()),
            Rival::Failure => RunResult::Failed { problem: problem(), retry: Retry::After(Duration::ZERO) },
            Rival::LastFailure => RunResult::Failed { problem: problem(), retry: Retry::Never },
            Rival::HandBack => RunResult::Returned(ReturnReason::Stopping),
            Rival::Canceled => RunResult::Canceled,
        };
        let event = Event::Finished {
            dispatch,
            worker: worker(),
            started_at: Some(self.now()),
            late: Vec::new(),
            result,
            chance: 0.5,
        };
        self.journal.apply(vec![Happening { job, event }]).await.expect("a store");
    }

    /// Whatever comes when a job has ended changes nothing; and a job that was asked to stop does not go out again.
    async fn nothing_comes_later(&self, job: &Job) {
        let store = &self.journal.store;
        let log = store.events(&job.tenant, job.id, 0, 100).await.expect("a log");
        self.finish(job.id, 1, Rival::Success).await;
        self.finish(job.id, 1, Rival::Failure).await;
        let retried = self.journal.ask(&job.tenant, job.id, Wish::Retry).await.expect("a store");
        assert!(matches!(retried, Some(Asked::Refused(..))), "{retried:?}");
        assert_eq!(self.job(job.id).await, *job);
        assert_eq!(store.events(&job.tenant, job.id, 0, 100).await.expect("a log"), log);
        let seqs: Vec<_> = log.iter().map(|entry| entry.seq).collect();
        assert_eq!(seqs, (1..=job.seq).collect::<Vec<_>>());
        let ended = |r#type| matches!(r#type, LogType::Succeeded | LogType::Failed | LogType::Canceled);
        assert_eq!(log.iter().filter(|entry| ended(entry.r#type)).count(), 1, "{log:?}");
    }

    async fn job(&self, id: JobId) -> Job {
        self.journal.store.job(&Tenant::default(), id).await.expect("a store").expect("a job")
    }

    fn now(&self) -> Time {
        self.journal.clock.now()
    }
}

/// The client was told what then came true.
fn is_true(answer: Answer, rival: Rival, job: &Job) {
    let Phase::Done(done) = job.phase else { panic!("{answer:?} against {rival:?}, and not ended: {job:?}") };
    let expected = match answer {
        Answer::Canceled => Done::Canceled,
        // Whoever was asked to stop may have done the work all the same.
        Answer::Asked if rival == Rival::Success => Done::Succeeded,
        Answer::Asked => Done::Canceled,
        Answer::TooLate(done) => done,
    };
    assert_eq!(done, expected, "{answer:?} against {rival:?}: {job:?}");
    assert_eq!(done == Done::Canceled || answer == Answer::Asked, job.cancel_requested_at.is_some(), "{job:?}");
    if let Answer::TooLate(done) = answer {
        let ends = match rival {
            Rival::Success => Done::Succeeded,
            _ => Done::Failed,
        };
        assert_eq!(done, ends, "too late against {rival:?}: {job:?}");
    }
}

fn worker() -> WorkerId {
    WorkerId::new(Time::from_millis(1))
}
