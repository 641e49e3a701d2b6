//! Every phase against every event, and what holds whatever happens.

use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant, WorkerId};
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::message::{Retry, ReturnReason, RunResult};
use buzzer_shared::problem::{self, Problem};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Time;
use bytes::Bytes;
use proptest::prelude::*;

use super::{
    Done, Early, Effect, Entry, Event, Ignored, Job, Late, LogType, Phase, Progress, Report, RunLease, Suspicion,
    TOLD_MAX, Transition, accept, step,
};

const NOW: Time = Time::from_millis(1_795_000_000_000);
const LATER: Time = Time::from_millis(1_795_000_060_000);

const LEASE_ENDED: Event = Event::LeaseEnded { bereft: false };
const LEASE: RunLease = RunLease { until: LATER, early_until: LATER };

/// What the table says of one phase and one event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cell {
    Scheduled,
    Ready,
    Sent,
    Running,
    Retrying,
    Succeeded,
    Failed,
    Canceled,
    Expired,
    /// Moves nowhere, but remembers what was wished.
    Noted,
    /// [`Ignored::Done`]
    Over,
    /// [`Ignored::OldDispatch`]
    Old,
    /// [`Ignored::UnknownDispatch`]
    Never,
    /// [`Ignored::OldSignal`]
    Stale,
    /// [`Ignored::NotNow`]
    NotNow,
    /// [`Ignored::Known`]
    Known,
}

use Cell::{
    Canceled, Expired, Failed, Known, Never, NotNow, Noted, Old, Over, Ready, Retrying, Running, Scheduled, Sent,
    Stale, Succeeded,
};

/// The columns: one event of each sort that could count.
const EVENTS: usize = 16;

/// The rows: a job in each phase; ready three times, since one whose lease ended may still be answered, and may have
/// begun; out twice more, since one that is to stop comes back to its end.
#[rustfmt::skip]
const TABLE: [(&str, [Cell; EVENTS]); 13] = [
    //                 due     expired  claimed unsent    unsendable started  st. early progressed held     succeeded  failed    canceled  returned  lease ended cancel    retry
    ("scheduled",    [Ready,  Expired, NotNow, Never,    Never,     Never,   Never,    Never,     Never,   Never,     Never,    Never,    Never,    NotNow,   Canceled, NotNow]),
    ("ready",        [NotNow, Expired, Sent,   Never,    Never,     Never,   Never,    Never,     Never,   Never,     Never,    Never,    Never,    NotNow,   Canceled, NotNow]),
    ("ready again",  [NotNow, Expired, Sent,   NotNow,   Failed,    Running, Running,  Running,   Sent,    Succeeded, Retrying, Retrying,    Ready,    NotNow,   Canceled, NotNow]),
    ("ready, begun", [NotNow, NotNow,  Sent,   NotNow,   Failed,    Running, Running,  Running,   Running, Succeeded, Retrying, Retrying,    Ready,    NotNow,   Canceled, NotNow]),
    ("sent",         [NotNow, NotNow,  NotNow, Ready,    Failed,    Running, Running,  Running,   Sent,    Succeeded, Retrying, Retrying,    Ready,    Ready,    Noted,    NotNow]),
    ("running",      [NotNow, NotNow,  NotNow, NotNow,   Failed,    Running, Running,  Running,   Running, Succeeded, Retrying, Retrying,    Ready,    Ready,    Noted,    NotNow]),
    ("sent, to stop",    [NotNow, NotNow, NotNow, Canceled, Canceled, Running, Running, Running, Sent,    Succeeded, Canceled, Canceled, Canceled, Canceled, Known, NotNow]),
    ("running, to stop", [NotNow, NotNow, NotNow, NotNow,   Canceled, Running, Running, Running, Running, Succeeded, Canceled, Canceled, Canceled, Canceled, Known, NotNow]),
    ("retrying",     [Ready,  NotNow,  NotNow, Old,      Old,       Old,     Old,      Old,       Old,     Succeeded, Old,      Old,      Old,      NotNow,   Canceled, Ready]),
    ("succeeded",    [Over;   EVENTS]),
    ("failed",       [Over;   EVENTS]),
    ("canceled",     [Over;   EVENTS]),
    ("expired",      [Over;   EVENTS]),
];

/// The column of an event. Has no wildcard: an event that is added does not compile until it has a column.
fn column(event: &Event) -> usize {
    match event {
        Event::Due => 0,
        Event::Expired => 1,
        Event::Claimed { .. } => 2,
        Event::Unsent { .. } => 3,
        Event::Unsendable { .. } => 4,
        Event::Started { .. } => 5,
        Event::StartedEarly { .. } => 6,
        Event::Reported { .. } => 7,
        Event::Held { .. } => 8,
        Event::Finished { result, .. } => match result {
            RunResult::Succeeded(_) => 9,
            RunResult::Failed { .. } => 10,
            RunResult::Canceled => 11,
            RunResult::Returned(_) => 12,
        },
        Event::LeaseEnded { .. } => 13,
        Event::CancelRequested => 14,
        Event::RetryRequested => 15,
    }
}

/// The row of a job. Has no wildcard either.
fn row(job: &Job) -> usize {
    match job.phase {
        Phase::Scheduled => 0,
        Phase::Ready if !job.awaited => 1,
        Phase::Ready if !job.has_begun() => 2,
        Phase::Ready => 3,
        Phase::Sent { .. } if job.is_to_stop() => 6,
        Phase::Running { .. } if job.is_to_stop() => 7,
        Phase::Sent { .. } => 4,
        Phase::Running { .. } => 5,
        Phase::Retrying => 8,
        Phase::Done(Done::Succeeded) => 9,
        Phase::Done(Done::Failed) => 10,
        Phase::Done(Done::Canceled) => 11,
        Phase::Done(Done::Expired) => 12,
    }
}

fn cell(event: &Event, outcome: &Result<Transition, Ignored>) -> Cell {
    match outcome {
        Ok(transition) if *event == Event::CancelRequested && transition.job.is_to_stop() => Noted,
        Ok(transition) => match transition.job.phase {
            Phase::Scheduled => Scheduled,
            Phase::Ready => Ready,
            Phase::Sent { .. } => Sent,
            Phase::Running { .. } => Running,
            Phase::Retrying => Retrying,
            Phase::Done(Done::Succeeded) => Succeeded,
            Phase::Done(Done::Failed) => Failed,
            Phase::Done(Done::Canceled) => Canceled,
            Phase::Done(Done::Expired) => Expired,
        },
        Err(Ignored::Done) => Over,
        Err(Ignored::OldDispatch) => Old,
        Err(Ignored::UnknownDispatch) => Never,
        Err(Ignored::OldSignal) => Stale,
        Err(Ignored::NotNow) => NotNow,
        Err(Ignored::Known) => Known,
    }
}

fn worker() -> WorkerId {
    WorkerId::from(uuid::Uuid::from_u128(7))
}

fn problem() -> Problem {
    Problem::new("mine", "Mine", "because")
}

/// A job whose times have all come, in each phase as its life leaves it.
fn jobs() -> [Job; 13] {
    let spec = KindSpec::any("echo".parse().unwrap());
    let new = Job::new(JobId::from(uuid::Uuid::from_u128(1)), Tenant::default(), &spec, NOW - Duration::from_secs(9));
    let base = Job { run_at: NOW, expires_at: Some(NOW), seq: 1, ..new };
    let in_phase = |phase| Job { phase, ..base.clone() };
    let out = |phase| Job { phase, dispatch: 1, awaited: true, ..base.clone() };
    let begun = |phase| Job { started_at: Some(NOW), signal: 1, seq: 2, ..out(phase) };
    let to_stop = |job: Job| Job { cancel_requested_at: Some(NOW), ..job };
    let done = |done| Job { dispatch: 1, finished_at: Some(NOW), ..in_phase(Phase::Done(done)) };
    [
        in_phase(Phase::Scheduled),
        in_phase(Phase::Ready),
        out(Phase::Ready),
        begun(Phase::Ready),
        out(Phase::Sent { until: NOW }),
        begun(Phase::Running { until: NOW }),
        to_stop(out(Phase::Sent { until: NOW })),
        to_stop(begun(Phase::Running { until: NOW })),
        Job { dispatch: 1, attempt: 2, started_at: Some(NOW), error: Some(problem()), ..in_phase(Phase::Retrying) },
        done(Done::Succeeded),
        done(Done::Failed),
        done(Done::Canceled),
        done(Done::Expired),
    ]
}

/// One of each event, from the first dispatch.
fn events(dispatch: u32) -> [Event; EVENTS] {
    let finished = |result| Event::Finished {
        dispatch,
        worker: worker(),
        started_at: Some(NOW),
        late: Vec::new(),
        result,
        chance: 0.5,
    };
    [
        Event::Due,
        Event::Expired,
        Event::Claimed { until: LATER },
        Event::Unsent { dispatch },
        Event::Unsendable { dispatch, problem: problem() },
        Event::Started { dispatch, n: 2, worker: worker(), at: NOW, lease: LEASE },
        Event::StartedEarly { dispatch, worker: worker(), at: NOW, lease: LEASE, charged: true },
        progressed(dispatch, 3),
        Event::Held { dispatch, lease: LEASE },
        finished(RunResult::Succeeded(Bytes::from_static(b"1"))),
        finished(RunResult::Failed { problem: problem(), retry: Retry::Policy }),
        finished(RunResult::Canceled),
        finished(RunResult::Returned(ReturnReason::Stopping)),
        LEASE_ENDED,
        Event::CancelRequested,
        Event::RetryRequested,
    ]
}

fn progressed(dispatch: u32, n: u32) -> Event {
    reported(dispatch, n, Report::Progress(Progress { percent: Some(4.0), message: None }))
}

fn reported(dispatch: u32, n: u32, report: Report) -> Event {
    Event::Reported { dispatch, n, worker: worker(), at: NOW, lease: LEASE, report }
}

#[test]
fn every_phase_has_its_answer_to_every_event() {
    for (r, job) in jobs().iter().enumerate() {
        assert_eq!(row(job), r, "the jobs stand in the order of the rows");
        for (c, event) in events(1).iter().enumerate() {
            assert_eq!(column(event), c, "the events stand in the order of the columns");
            let (name, cells) = TABLE[r];
            assert_eq!(cell(event, &step(job, event, NOW)), cells[c], "{name} × {event:?}");
        }
    }
}

#[test]
fn only_the_current_dispatch_counts_except_for_success() {
    let sent = |dispatch, awaited| Job { dispatch, awaited, ..jobs()[3].clone() };
    let fenced = 3..13;
    for (job, from, expected) in
        [(sent(2, true), 1, Old), (sent(2, true), 3, Never), (sent(2, true), 0, Never), (sent(1, false), 1, Old)]
    {
        for event in &events(from)[fenced.clone()] {
            let success = matches!(event, Event::Finished { result: RunResult::Succeeded(_), .. });
            let expected = if success && expected == Old { Succeeded } else { expected };
            assert_eq!(
                cell(event, &step(&job, event, NOW)),
                expected,
                "dispatch {from} of {} × {event:?}",
                job.dispatch
            );
        }
    }
}

#[test]
fn a_signal_that_is_not_above_the_last_is_stale() {
    let job = Job { signal: 3, ..jobs()[5].clone() };
    for event in [&events(1)[5], &events(1)[7]] {
        assert_eq!(cell(event, &step(&job, event, NOW)), Stale, "{event:?}");
    }
}

#[test]
fn what_was_told_last_is_written_once_and_before_the_end() {
    let log = |text: &str| Report::Log(text.into());
    let late = |n: u32, text: &str| Late { n, at: NOW, report: log(text) };
    let finished = |dispatch| Event::Finished {
        dispatch,
        worker: worker(),
        started_at: Some(NOW),
        late: vec![late(2, "two"), late(3, "three")],
        result: RunResult::Succeeded(Bytes::from_static(b"1")),
        chance: 0.5,
    };
    let types = |job: &Job, event: &Event| {
        let effects = step(job, event, NOW).unwrap().effects;
        entries(&effects).map(|entry| entry.r#type).collect::<Vec<_>>()
    };
    let [sent, running] = [&jobs()[4], &jobs()[5]];
    let (start, end) = (LogType::Started, LogType::Succeeded);
    assert_eq!(types(sent, &finished(1)), [start, LogType::Log, LogType::Log, end], "no signal came");
    let two_taken = step(running, &reported(1, 2, log("two")), NOW).unwrap().job;
    assert_eq!(types(&two_taken, &finished(1)), [LogType::Log, end], "the second came by itself");
    let sent_again = Job { dispatch: 2, signal: 0, ..sent.clone() };
    assert_eq!(types(&sent_again, &finished(1)), [start, end], "another run is under way now");
}

#[test]
fn a_log_that_is_full_says_so_once_and_progress_goes_on() {
    let mut job = jobs()[5].clone();
    let mut types = Vec::new();
    let mut tell = |n, report| {
        let told = step(&job, &reported(1, n, report), NOW).unwrap();
        types.extend(entries(&told.effects).map(|entry| entry.r#type));
        job = told.job;
        job.clone()
    };
    let fits = TOLD_MAX as usize - "{\"text\":\"\"}".len() - 64;
    assert_eq!(tell(2, Report::Log("x".repeat(fits))).told, TOLD_MAX);
    tell(3, Report::Output("y".into()));
    tell(4, Report::Log("z".into()));
    let progress = Progress { percent: Some(99.0), message: None };
    assert_eq!(tell(5, Report::Progress(progress.clone())).progress, Some(progress));
    assert_eq!(types, [LogType::Log, LogType::Truncated]);
}

#[test]
fn nothing_wakes_expires_or_comes_back_before_its_time() {
    let early = NOW - Duration::from_millis(1);
    for job in jobs() {
        for event in [Event::Due, Event::Expired, LEASE_ENDED] {
            assert!(step(&job, &event, early).is_err(), "{:?} × {event:?}", job.phase);
        }
    }
}

#[test]
fn a_failure_is_tried_again_as_policy_and_handler_say() {
    let run = |attempt, retry| {
        let job = Job { attempt, ..jobs()[4].clone() };
        let result = RunResult::Failed { problem: problem(), retry };
        let event =
            Event::Finished { dispatch: 1, worker: worker(), started_at: None, late: Vec::new(), result, chance: 0.5 };
        step(&job, &event, NOW).unwrap().job
    };
    let again = run(1, Retry::Policy);
    assert_eq!((again.phase, again.attempt, again.run_at), (Phase::Retrying, 2, NOW + Duration::from_millis(500)));
    let again = run(4, Retry::After(Duration::from_secs(9)));
    assert_eq!((again.phase, again.attempt, again.run_at), (Phase::Retrying, 5, NOW + Duration::from_secs(9)));
    for ended in [run(1, Retry::Never), run(5, Retry::Policy), run(5, Retry::After(Duration::ZERO))] {
        assert_eq!((ended.phase, ended.error), (Phase::Done(Done::Failed), Some(problem())));
    }
}

fn ends_of_its_lease(job: &Job) -> Job {
    step(job, &LEASE_ENDED, NOW).unwrap().job
}

#[test]
fn p1_three_crashes_of_its_own_doing_end_a_job_as_poison() {
    let crashed = |crashes| Job {
        early: Some(Early { charged: true }),
        suspicion: Suspicion { crashes, ..Suspicion::default() },
        ..jobs()[5].clone()
    };
    for crashes in 0..2 {
        let job = ends_of_its_lease(&crashed(crashes));
        assert_eq!((job.phase, job.suspicion.crashes), (Phase::Ready, crashes + 1));
    }
    let job = ends_of_its_lease(&crashed(2));
    assert_eq!(job.phase, Phase::Done(Done::Failed));
    assert_eq!(job.error.unwrap().r#type, problem::job::POISON);
}

#[test]
fn who_vanishes_in_company_becomes_a_suspect_and_is_never_charged() {
    for early in [None, Some(Early { charged: false })] {
        let mut job = Job { early, ..jobs()[5].clone() };
        for vanished in 1..10 {
            job = Job { phase: Phase::Running { until: NOW }, ..ends_of_its_lease(&job) };
            assert_eq!(job.suspicion, Suspicion { alone: vanished >= 2, vanished, crashes: 0 });
        }
        assert_eq!(ends_of_its_lease(&job).error.unwrap().r#type, problem::job::POISON, "and yet it ends");
    }
}

#[test]
fn a_request_that_was_lost_with_a_worker_is_suspicious_and_one_that_only_waited_is_not() {
    let sent = &jobs()[4];
    assert_eq!(ends_of_its_lease(sent).suspicion, Suspicion::default());
    let lost = step(sent, &Event::LeaseEnded { bereft: true }, NOW).unwrap().job;
    assert_eq!((lost.phase, lost.suspicion.vanished), (Phase::Ready, 1));
    let often = Suspicion { alone: true, vanished: 2, crashes: 0 };
    let lost = step(&Job { suspicion: often, ..sent.clone() }, &Event::LeaseEnded { bereft: true }, NOW).unwrap().job;
    assert_eq!(lost.suspicion, often, "it is a suspect, and no more");
}

#[test]
fn a_worker_may_take_a_charge_back_but_not_make_one() {
    let told = |charged| Event::StartedEarly { dispatch: 1, worker: worker(), at: NOW, lease: LEASE, charged };
    let charged = Job { early: Some(Early { charged: true }), ..jobs()[5].clone() };
    let taken_back = step(&charged, &told(false), NOW).unwrap();
    assert_eq!((taken_back.job.early, taken_back.effects), (Some(Early { charged: false }), vec![]));
    assert_eq!(step(&taken_back.job, &told(true), NOW), Err(Ignored::Known));
    let lost = Job { phase: Phase::Ready, ..charged };
    assert_eq!(step(&lost, &told(false), NOW), Err(Ignored::Known), "its lease has ended");
}

#[test]
fn a_suspect_that_is_handed_back_goes_out_alone() {
    let result = RunResult::Returned(ReturnReason::Suspect);
    let event =
        Event::Finished { dispatch: 1, worker: worker(), started_at: None, late: Vec::new(), result, chance: 0.5 };
    let job = step(&jobs()[4], &event, NOW).unwrap().job;
    assert_eq!((job.phase, job.suspicion.alone, job.attempt), (Phase::Ready, true, 1));
}

#[test]
fn what_must_not_run_twice_is_lost_when_its_end_stays_unknown() {
    let once = |job: &Job| Job { delivery: DeliveryMode::AtMostOnce, ..job.clone() };
    let returned = |started_at| Event::Finished {
        dispatch: 1,
        worker: worker(),
        started_at,
        late: Vec::new(),
        result: RunResult::Returned(ReturnReason::Stopping),
        chance: 0.5,
    };
    for (job, event) in [(&jobs()[4], LEASE_ENDED), (&jobs()[5], LEASE_ENDED), (&jobs()[5], returned(Some(NOW)))] {
        let job = step(&once(job), &event, NOW).unwrap().job;
        assert_eq!(job.phase, Phase::Done(Done::Failed), "{event:?}");
        assert_eq!(job.error.unwrap().r#type, problem::job::LOST);
    }
    let job = step(&once(&jobs()[4]), &returned(None), NOW).unwrap().job;
    assert_eq!(job.phase, Phase::Ready, "nobody has begun it");
}

#[test]
fn an_early_run_lives_on_the_shorter_lease_and_is_taken_once() {
    let lease = RunLease::new(NOW, Duration::from_secs(60));
    let taken = |charged| Event::StartedEarly { dispatch: 1, worker: worker(), at: NOW, lease, charged };
    let job = step(&jobs()[4], &taken(true), NOW).unwrap().job;
    assert_eq!(job.phase, Phase::Running { until: NOW + Duration::from_secs(30) });
    assert_eq!((job.early, job.started_at), (Some(Early { charged: true }), Some(NOW)));
    assert_eq!(step(&job, &taken(true), NOW), Err(Ignored::Known));
    let held = step(&job, &Event::Held { dispatch: 1, lease }, NOW).unwrap().job;
    assert_eq!(held.phase, job.phase);
    let again = ends_of_its_lease(&Job { phase: Phase::Running { until: NOW }, ..job });
    let claimed = step(&again, &Event::Claimed { until: LATER }, NOW).unwrap().job;
    assert_eq!(claimed.early, None);
}

/// Of a size that fills a log after some of them.
fn report() -> impl Strategy<Value = Report> {
    let text = || (0..400_000_usize).prop_map(|size| "x".repeat(size));
    prop_oneof![
        4 => (0.0..100.0).prop_map(|percent| Report::Progress(Progress { percent: Some(percent), message: None })),
        1 => text().prop_map(Report::Log),
        1 => text().prop_map(Report::Output),
    ]
}

/// A life as chance has it: an event, and how much later it comes.
#[derive(Debug, Clone)]
struct Act {
    event: Event,
    after: Duration,
}

fn act() -> impl Strategy<Value = Act> {
    let dispatch = 0..4_u32;
    let time = || (0..120_000_i64).prop_map(|ms| NOW + Duration::from_millis(ms.unsigned_abs()));
    let retry = prop_oneof![
        3 => Just(Retry::Policy),
        1 => Just(Retry::Never),
        1 => (0..10_000_u64).prop_map(|ms| Retry::After(Duration::from_millis(ms))),
    ];
    let result = prop_oneof![
        1 => Just(RunResult::Succeeded(Bytes::from_static(b"{}"))),
        4 => retry.prop_map(|retry| RunResult::Failed { problem: problem(), retry }),
        1 => Just(RunResult::Canceled),
        2 => prop_oneof![Just(ReturnReason::Stopping), Just(ReturnReason::Suspect)].prop_map(RunResult::Returned),
    ];
    let late = prop::collection::vec((0..9_u32, report()).prop_map(|(n, report)| Late { n, at: NOW, report }), 0..3);
    let finished = (dispatch.clone(), proptest::option::of(time()), late, result, 0.0..1.0).prop_map(
        |(dispatch, started_at, late, result, chance)| Event::Finished {
            dispatch,
            worker: worker(),
            started_at,
            late,
            result,
            chance,
        },
    );
    let event = prop_oneof![
        3 => Just(Event::Due),
        1 => Just(Event::Expired),
        6 => time().prop_map(|until| Event::Claimed { until }),
        1 => dispatch.clone().prop_map(|dispatch| Event::Unsent { dispatch }),
        1 => dispatch.clone().prop_map(|dispatch| Event::Unsendable { dispatch, problem: problem() }),
        3 => (dispatch.clone(), 0..9_u32, time(), time())
            .prop_map(|(dispatch, n, at, until)| Event::Started { dispatch, n, worker: worker(), at, lease: lease(until) }),
        2 => (dispatch.clone(), time(), time(), any::<bool>()).prop_map(|(dispatch, at, until, charged)| {
            Event::StartedEarly { dispatch, worker: worker(), at, lease: lease(until), charged }
        }),
        2 => (dispatch.clone(), 0..9_u32, report()).prop_map(|(dispatch, n, report)| reported(dispatch, n, report)),
        2 => (dispatch, time()).prop_map(|(dispatch, until)| Event::Held { dispatch, lease: lease(until) }),
        4 => finished,
        3 => any::<bool>().prop_map(|bereft| Event::LeaseEnded { bereft }),
        1 => Just(Event::CancelRequested),
        1 => Just(Event::RetryRequested),
    ];
    (event, 0..20_000_u64).prop_map(|(event, ms)| Act { event, after: Duration::from_millis(ms) })
}

fn lease(until: Time) -> RunLease {
    RunLease { until, early_until: until }
}

fn fresh() -> impl Strategy<Value = Job> {
    let delivery = prop_oneof![4 => Just(DeliveryMode::AtLeastOnce), 1 => Just(DeliveryMode::AtMostOnce)];
    let parts = (1..4_u32, 0..30_000_u64, proptest::option::of(0..90_000_u64), delivery);
    parts.prop_map(|(max_attempts, delay, expires, delivery)| Job {
        delivery,
        run_at: NOW + Duration::from_millis(delay),
        created_at: NOW,
        expires_at: expires.map(|ms| NOW + Duration::from_millis(ms)),
        retry: match delivery {
            DeliveryMode::AtLeastOnce => RetryPolicy { max_attempts, ..RetryPolicy::default() },
            DeliveryMode::AtMostOnce => RetryPolicy::NEVER,
        },
        seq: 0,
        ..jobs()[0].clone()
    })
}

fn entries(effects: &[Effect]) -> impl Iterator<Item = &Entry> {
    effects.iter().filter_map(|effect| match effect {
        Effect::Log(entry) => Some(entry),
        Effect::KeepOutput(_) => None,
    })
}

/// What one move may change, whatever it is.
fn check_move(before: &Job, event: &Event, transition: &Transition) {
    let after = &transition.job;
    assert!(!matches!(before.phase, Phase::Done(_)), "a job that is done never changes");
    let written = entries(&transition.effects).count();
    assert_eq!(after.seq as usize, before.seq as usize + written, "seq rises by one with each entry");
    let failed = matches!(event, Event::Finished { result: RunResult::Failed { .. } | RunResult::Canceled, .. });
    assert!(after.attempt == before.attempt || (failed && after.attempt == before.attempt + 1), "attempt");
    assert!(after.attempt <= after.retry.max_attempts, "no attempt beyond the last");
    let claimed = matches!(event, Event::Claimed { .. });
    assert_eq!(after.dispatch, before.dispatch + u32::from(claimed), "dispatch rises with each claim and only then");
    if let Phase::Sent { .. } | Phase::Running { .. } = after.phase {
        assert!(after.awaited, "what is out is awaited");
    }
    if let Phase::Scheduled | Phase::Retrying | Phase::Done(_) = after.phase {
        assert!(!after.awaited, "{:?} waits for no outcome", after.phase);
    }
    if before.cancel_requested_at.is_some() {
        assert_eq!(after.cancel_requested_at, before.cancel_requested_at, "a wish is kept");
        let goes_on = matches!(after.phase, Phase::Scheduled | Phase::Ready | Phase::Retrying) || claimed;
        assert!(!goes_on, "no further attempt starts once it is to stop");
    }
    if before.delivery == DeliveryMode::AtMostOnce && before.signal > 0 {
        assert!(!claimed, "what has begun is not sent again");
    }
    assert!(after.suspicion.crashes <= 3, "no run after the third crash");
    let done = matches!(after.phase, Phase::Done(_));
    assert_eq!(after.finished_at.is_some(), done, "finished_at says that it is done");
    let kept = transition.effects.iter().filter(|effect| matches!(effect, Effect::KeepOutput(_))).count();
    let succeeded = after.phase == Phase::Done(Done::Succeeded);
    assert_eq!(kept, usize::from(succeeded), "an output comes with success and only then");
    let unchanging = |job: &Job| (job.id, job.kind.clone(), job.priority, job.created_at, job.expires_at, job.retry);
    assert_eq!(unchanging(before), unchanging(after), "what was submitted stays");
}

/// What the log of a whole life must look like.
fn check_log(log: &[Entry], job: &Job, reported_start: bool) {
    assert!(log.iter().zip(1..).all(|(entry, seq)| entry.seq == seq), "1, 2, 3, … without gaps");
    assert_eq!(log[0].r#type, LogType::Accepted);
    let terminal: Vec<usize> = (0..log.len()).filter(|&i| log[i].r#type.is_terminal()).collect();
    match job.phase {
        Phase::Done(_) => assert_eq!(terminal, [log.len() - 1], "one terminal entry, the last"),
        _ => assert!(terminal.is_empty(), "no terminal entry while it lives"),
    }
    let told = |entry: &&Entry| matches!(entry.r#type, LogType::Progress | LogType::Log | LogType::Output);
    let bytes: usize = log.iter().filter(told).map(|entry| entry.data.as_ref().unwrap().to_string().len()).sum();
    assert!(bytes <= TOLD_MAX as usize, "{bytes} bytes of reports");
    let marks: Vec<usize> = (0..log.len()).filter(|&i| log[i].r#type == LogType::Truncated).collect();
    assert_eq!(marks.len(), usize::from(job.is_truncated()), "one mark, where something was left out");
    if let [mark] = marks[..] {
        assert!(!log[mark..].iter().any(|entry| told(&entry)), "nothing told after the mark");
    }
    if job.phase == Phase::Done(Done::Succeeded) && reported_start {
        assert!(log.iter().any(|entry| entry.r#type == LogType::Started), "who succeeds has started");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn whatever_happens_a_life_is_in_order(job in fresh(), acts in prop::collection::vec(act(), 0..60)) {
        let Transition { mut job, effects } = accept(job);
        let mut log: Vec<Entry> = entries(&effects).cloned().collect();
        let (mut now, mut reported_start) = (NOW, false);
        for Act { event, after } in acts {
            now = now + after;
            let Ok(transition) = step(&job, &event, now) else { continue };
            check_move(&job, &event, &transition);
            if let Event::Finished { started_at, .. } = &event {
                reported_start = started_at.is_some();
            }
            log.extend(entries(&transition.effects).cloned());
            job = transition.job;
        }
        check_log(&log, &job, reported_start);
    }

    #[test]
    fn a_second_outcome_of_a_dispatch_changes_nothing(
        job in fresh(),
        acts in prop::collection::vec(act(), 0..60),
        second in act(),
    ) {
        let mut job = accept(job).job;
        let mut now = NOW;
        let mut answered = None;
        for Act { event, after } in acts {
            now = now + after;
            let Ok(transition) = step(&job, &event, now) else { continue };
            if let Event::Finished { dispatch, .. } = event {
                answered = Some(dispatch);
            }
            job = transition.job;
        }
        let (Some(answered), Event::Finished { worker, started_at, late, result, chance, .. }) = (answered, second.event)
        else {
            return Ok(());
        };
        let live_success = matches!(result, RunResult::Succeeded(_)) && !matches!(job.phase, Phase::Done(_));
        let again = Event::Finished { dispatch: answered, worker, started_at, late, result, chance };
        prop_assert_eq!(step(&job, &again, now).is_ok(), live_success);
    }
}
