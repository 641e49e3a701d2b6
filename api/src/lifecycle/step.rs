use std::time::Duration;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::message::{Retry, ReturnReason, RunResult};
use buzzer_shared::problem::{self, Problem};
use buzzer_shared::time::Time;
use bytes::Bytes;
use serde_json::json;

use super::report::size;
use super::{Done, Early, Entry, Event, Job, Late, LogType, Phase, Report, RunLease, TOLD_MAX};

/// So many runs may vanish with their worker before the job goes out alone. A delivery that was lost twice is a suspect
/// in the eyes of a worker, too.
const VANISHED_MAX: u32 = 2;
/// So many runs may crash their worker.
const CRASHES_MAX: u32 = 3;
/// So many may vanish in company, where nobody can say whose doing it was. Who only stood by was a suspect long before, and
/// ran alone.
const VANISHED_END: u32 = 10;
/// A handler may ask for no longer wait than that. Whoever does has mistaken a unit.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(365 * 86_400);

/// What comes of an event: the job as it is now, and the rows that go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Transition {
    pub job: Job,
    pub effects: Vec<Effect>,
}

/// A row to write in the same transaction. Never a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append this to the job's event log.
    Log(Entry),
    /// Keep this output.
    KeepOutput(Bytes),
}

/// Why an event changes nothing. That is no error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Ignored {
    #[error("the job is done")]
    Done,
    #[error("it comes from a dispatch that no longer counts")]
    OldDispatch,
    #[error("it comes from a dispatch that never was")]
    UnknownDispatch,
    #[error("a later signal was taken before it")]
    OldSignal,
    #[error("it is not the time for it")]
    NotNow,
    #[error("it is known already")]
    Known,
}

impl Ignored {
    pub const ALL: [Ignored; 6] = [
        Ignored::Done,
        Ignored::OldDispatch,
        Ignored::UnknownDispatch,
        Ignored::OldSignal,
        Ignored::NotNow,
        Ignored::Known,
    ];

    /// Its name where it is counted.
    pub fn as_str(self) -> &'static str {
        match self {
            Ignored::Done => "done",
            Ignored::OldDispatch => "old_dispatch",
            Ignored::UnknownDispatch => "unknown_dispatch",
            Ignored::OldSignal => "old_signal",
            Ignored::NotNow => "not_now",
            Ignored::Known => "known",
        }
    }
}

/// Takes a new job in. Its log begins with `job.accepted`.
pub fn accept(job: Job) -> Transition {
    let phase = if job.run_at > job.created_at { Phase::Scheduled } else { Phase::Ready };
    let mut transition = Transition { job: Job { phase, ..job }, effects: Vec::with_capacity(3) };
    let not_before = (phase == Phase::Scheduled).then(|| json!({ "run_at": transition.job.run_at }));
    transition.log(LogType::Accepted, transition.job.created_at, not_before);
    transition
}

/// Decides what comes of `event` for `job` at `now`. Total: every phase has an answer to every event.
pub fn step(job: &Job, event: &Event, now: Time) -> Result<Transition, Ignored> {
    if matches!(job.phase, Phase::Done(_)) && !bites(Fault::OutliveEnd) {
        return Err(Ignored::Done);
    }
    let next = Transition { job: job.clone(), effects: Vec::new() };
    match event {
        Event::Due => due(next, now),
        Event::Expired => expired(next, now),
        Event::Claimed { until } => claimed(next, *until),
        Event::Unsent { dispatch } => unsent(next, *dispatch, now),
        Event::Unsendable { dispatch, problem } => unsendable(next, *dispatch, problem, now),
        Event::Started { dispatch, n, worker, at, lease } => {
            fence_signal(job, *dispatch, *n)?;
            Ok(started(next, *n, Run { worker: *worker, started_at: Some(*at) }, *lease))
        }
        Event::StartedEarly { dispatch, worker, at, lease, charged } => {
            fence_early(job, *dispatch, *charged)?;
            Ok(started_early(next, Run { worker: *worker, started_at: Some(*at) }, *charged, *lease))
        }
        Event::Reported { dispatch, n, worker, at, lease, report } => {
            fence_signal(job, *dispatch, *n)?;
            let mut started = started(next, *n, Run { worker: *worker, started_at: Some(*at) }, *lease);
            started.tell(report, *at);
            Ok(started)
        }
        Event::Held { dispatch, lease } => held(next, *dispatch, *lease),
        Event::Finished { dispatch, worker, started_at, late, result, chance } => {
            fence_outcome(job, *dispatch, result)?;
            let run = Run { worker: *worker, started_at: *started_at };
            // What an old dispatch told is no news of the one that runs now.
            let late = if fence(job, *dispatch).is_ok() { late } else { &Vec::new() };
            Ok(finished(told_late(next, run, late), run, result, *chance, now))
        }
        Event::LeaseEnded { bereft } => lease_ended(next, *bereft, now),
        Event::CancelRequested => cancel_requested(next, now),
        Event::RetryRequested => retry_requested(next, now),
    }
}

/// Who ran it, and since when.
#[derive(Clone, Copy)]
struct Run {
    worker: WorkerId,
    started_at: Option<Time>,
}

fn due(mut next: Transition, now: Time) -> Result<Transition, Ignored> {
    match next.job.phase {
        Phase::Scheduled | Phase::Retrying if next.job.run_at <= now => {
            next.job.phase = Phase::Ready;
            Ok(next)
        }
        _ => Err(Ignored::NotNow),
    }
}

/// Out already, it cannot be called back: the request's own expiration sees to that it does not start late.
fn expired(mut next: Transition, now: Time) -> Result<Transition, Ignored> {
    let expires = next.job.expires_at.is_some_and(|at| at <= now) && next.job.started_at.is_none();
    match next.job.phase {
        Phase::Scheduled | Phase::Ready if expires => {
            next.job.error = next.job.expires_at.map(problem::job::expired);
            next.end(Done::Expired, now);
            Ok(next)
        }
        _ => Err(Ignored::NotNow),
    }
}

fn claimed(mut next: Transition, until: Time) -> Result<Transition, Ignored> {
    if next.job.phase != Phase::Ready {
        return Err(Ignored::NotNow);
    }
    next.job.phase = Phase::Sent { until };
    next.job.dispatch += u32::from(next.job.dispatch == 0 || !bites(Fault::KeepDispatch));
    next.job.awaited = true;
    next.job.signal = 0;
    next.job.early = None;
    Ok(next)
}

fn unsent(mut next: Transition, dispatch: u32, now: Time) -> Result<Transition, Ignored> {
    fence(&next.job, dispatch)?;
    match next.job.phase {
        Phase::Sent { .. } => {
            next.job.awaited = false;
            next.go_back(now);
            Ok(next)
        }
        // A worker or the end of the lease was quicker; both know better.
        _ => Err(Ignored::NotNow),
    }
}

fn unsendable(mut next: Transition, dispatch: u32, problem: &Problem, now: Time) -> Result<Transition, Ignored> {
    fence(&next.job, dispatch)?;
    next.job.error = Some(problem.clone());
    next.end(if next.job.cancel_requested_at.is_some() { Done::Canceled } else { Done::Failed }, now);
    Ok(next)
}

fn started(mut next: Transition, n: u32, run: Run, lease: RunLease) -> Transition {
    next.begin(run);
    next.job.signal = n;
    next.run_on(lease);
    next
}

fn started_early(mut next: Transition, run: Run, charged: bool, lease: RunLease) -> Transition {
    next.begin(run);
    next.job.early = Some(Early { charged });
    next.run_on(lease);
    next
}

/// What came by itself before is known.
fn told_late(mut next: Transition, run: Run, late: &[Late]) -> Transition {
    for Late { n, at, report } in late {
        if *n <= next.job.signal {
            continue;
        }
        next.begin(Run { started_at: run.started_at.or(Some(*at)), ..run });
        next.job.signal = *n;
        next.tell(report, *at);
    }
    next
}

/// A worker that names a job in its beat will call its handler or has called it: the lease lives on.
fn held(mut next: Transition, dispatch: u32, lease: RunLease) -> Result<Transition, Ignored> {
    if !bites(Fault::RenewDeadLease) {
        fence(&next.job, dispatch)?;
    }
    match next.job.phase {
        Phase::Sent { .. } | Phase::Ready | Phase::Running { .. } if next.job.has_begun() => next.run_on(lease),
        Phase::Sent { .. } | Phase::Ready => next.job.phase = Phase::Sent { until: lease.until },
        Phase::Running { .. } | Phase::Scheduled | Phase::Retrying | Phase::Done(_) => return Err(Ignored::NotNow),
    }
    Ok(next)
}

fn finished(mut next: Transition, run: Run, result: &RunResult, chance: f64, now: Time) -> Transition {
    next.job.awaited = bites(Fault::CountTwice);
    if !matches!(result, RunResult::Returned(_)) {
        next.begin(run);
    }
    match result {
        RunResult::Succeeded(output) => {
            if !bites(Fault::LoseOutput) {
                next.effects.push(Effect::KeepOutput(output.clone()));
            }
            next.job.error = None;
            next.end(Done::Succeeded, now);
        }
        RunResult::Failed { problem, retry } => next.fail(problem, *retry, chance, now),
        RunResult::Canceled if next.job.cancel_requested_at.is_none() => {
            next.fail(&problem::job::gave_up(), Retry::Policy, chance, now);
        }
        RunResult::Canceled => next.go_back(now),
        RunResult::Returned(reason) => {
            next.job.suspicion.alone |= *reason == ReturnReason::Suspect;
            next.give_up(run, now);
        }
    }
    next
}

/// The outcome may still come, and would still count unless the job has ended: `awaited` stays.
fn lease_ended(mut next: Transition, bereft: bool, now: Time) -> Result<Transition, Ignored> {
    match next.job.phase.lease() {
        Some(until) if until <= now => {}
        _ => return Err(Ignored::NotNow),
    }
    if next.job.cancel_requested_at.is_none() {
        if next.job.delivery == DeliveryMode::AtMostOnce && !bites(Fault::RunLostAgain) {
            next.lose(
                if next.job.has_begun() {
                    "Its worker was lost, or fell silent, before its end was known."
                } else {
                    "It was sent out, and nobody has told of it since: a worker may have begun it."
                },
                now,
            );
            return Ok(next);
        }
        match next.job.phase {
            Phase::Running { .. } => next.vanish(),
            // A run may end its worker before it has said a word.
            _ if bereft => next.is_suspicious(),
            _ => {}
        }
        let suspicion = next.job.suspicion;
        if suspicion.crashes >= CRASHES_MAX || suspicion.vanished >= VANISHED_END {
            next.job.error = Some(problem::job::poison(suspicion.crashes + suspicion.vanished));
            next.end(Done::Failed, now);
            return Ok(next);
        }
        next.job.attempt += u32::from(bites(Fault::CountLostWorker));
    }
    next.go_back(now);
    Ok(next)
}

/// What is not out ends at once. What is out ends when it comes back, in any way but a success: then the work was done.
fn cancel_requested(mut next: Transition, now: Time) -> Result<Transition, Ignored> {
    if next.job.cancel_requested_at.is_some() {
        return Err(Ignored::Known);
    }
    next.job.cancel_requested_at = Some(now);
    if next.job.phase.lease().is_none() {
        next.end(Done::Canceled, now);
    }
    Ok(next)
}

fn retry_requested(mut next: Transition, now: Time) -> Result<Transition, Ignored> {
    if next.job.phase != Phase::Retrying {
        return Err(Ignored::NotNow);
    }
    next.job.run_at = now;
    next.job.phase = Phase::Ready;
    Ok(next)
}

/// Only the current dispatch counts, and only until it was answered.
fn fence(job: &Job, dispatch: u32) -> Result<(), Ignored> {
    if dispatch > job.dispatch || dispatch == 0 {
        return Err(Ignored::UnknownDispatch);
    }
    if (dispatch < job.dispatch && !bites(Fault::ForgetFence)) || !job.awaited {
        return Err(Ignored::OldDispatch);
    }
    Ok(())
}

/// A success of any dispatch ends a live job, for the work was done.
fn fence_outcome(job: &Job, dispatch: u32, result: &RunResult) -> Result<(), Ignored> {
    match (fence(job, dispatch), result) {
        (Err(Ignored::OldDispatch), RunResult::Succeeded(_)) => Ok(()),
        (fenced, _) => fenced,
    }
}

/// Once for each dispatch: said again after its lease ended, it would bring a lost run back to life. But while it runs, its
/// worker may take the charge back: it has company now.
fn fence_early(job: &Job, dispatch: u32, charged: bool) -> Result<(), Ignored> {
    fence(job, dispatch)?;
    match (job.early, job.phase) {
        (None, _) => Ok(()),
        (Some(Early { charged: true }), Phase::Running { .. }) if !charged => Ok(()),
        (Some(_), _) => Err(Ignored::Known),
    }
}

fn fence_signal(job: &Job, dispatch: u32, n: u32) -> Result<(), Ignored> {
    fence(job, dispatch)?;
    if n > job.signal { Ok(()) } else { Err(Ignored::OldSignal) }
}

impl Transition {
    fn log(&mut self, r#type: LogType, at: Time, data: Option<serde_json::Value>) {
        self.job.seq += 1 + u32::from(bites(Fault::LoseEventNumber));
        let entry = Entry { seq: self.job.seq, at, r#type, attempt: self.job.attempt, data };
        self.effects.push(Effect::Log(entry));
    }

    /// Writes `job.started`, unless this dispatch has it. Its signal may be lost or left out: then the next signal or
    /// the outcome brings it, so every log has it.
    fn begin(&mut self, run: Run) {
        if let Some(at) = run.started_at
            && !self.job.has_begun()
        {
            self.job.started_at = Some(at);
            self.job.progress = None;
            self.log(LogType::Started, at, Some(json!({ "worker": run.worker })));
        }
    }

    /// Writes down what a handler tells, as long as there is room for it. Its last progress is the job's in any case.
    fn tell(&mut self, report: &Report, at: Time) {
        if let Report::Progress(progress) = report {
            self.job.progress = Some(progress.clone());
        }
        if self.job.is_truncated() {
            return;
        }
        let data = report.data();
        self.job.told = self.job.told.saturating_add(size(&data));
        if self.job.is_truncated() {
            self.job.told = TOLD_MAX + 1;
            self.log(LogType::Truncated, at, Some(json!({ "limit": TOLD_MAX })));
        } else {
            self.log(report.log_type(), at, Some(data));
        }
    }

    fn run_on(&mut self, lease: RunLease) {
        let until = if self.job.early.is_some() { lease.early_until } else { lease.until };
        self.job.phase = Phase::Running { until };
    }

    /// It is not out any more: waits for its turn again, or ends if that is wished for.
    fn go_back(&mut self, now: Time) {
        if self.job.cancel_requested_at.is_some() {
            self.end(Done::Canceled, now);
        } else {
            self.job.phase = Phase::Ready;
        }
    }

    /// Nothing was done, or nothing came of it: it goes out again, and nothing is counted. But what was begun and must
    /// not be begun twice is lost. A worker that has told it would begin next may still say that it did not.
    fn give_up(&mut self, run: Run, now: Time) {
        let begun = run.started_at.is_some() || self.job.signal > 0;
        if begun && self.job.delivery == DeliveryMode::AtMostOnce && self.job.cancel_requested_at.is_none() {
            self.lose("The worker gave the run up before its end.", now);
        } else {
            self.go_back(now);
        }
    }

    /// A run has vanished without an outcome. Who was alone with its worker has only itself to blame; for the others it
    /// is a suspicion.
    fn vanish(&mut self) {
        if self.job.early.is_some_and(|early| early.charged) {
            self.job.suspicion.crashes += 1;
        } else {
            self.job.suspicion.vanished += 1;
            self.job.suspicion.alone |= self.job.suspicion.vanished >= VANISHED_MAX;
        }
    }

    /// A worker that was lost may have had it. That makes it a suspect in the end, and never more than that.
    fn is_suspicious(&mut self) {
        let suspicion = &mut self.job.suspicion;
        suspicion.vanished = suspicion.vanished.max((suspicion.vanished + 1).min(VANISHED_MAX));
        suspicion.alone |= suspicion.vanished >= VANISHED_MAX;
    }

    fn lose(&mut self, reason: &str, now: Time) {
        self.job.error = Some(problem::job::lost(reason));
        self.end(Done::Failed, now);
    }

    fn fail(&mut self, problem: &Problem, retry: Retry, chance: f64, now: Time) {
        self.job.error = Some(problem.clone());
        if self.job.cancel_requested_at.is_some() && !bites(Fault::ForgetCancel) {
            return self.end(Done::Canceled, now);
        }
        let wait = match retry {
            Retry::Never => None,
            Retry::After(delay) => Some(delay.min(RETRY_AFTER_MAX)),
            Retry::Policy => Some(self.job.retry.delay(self.job.attempt, chance)),
        };
        match wait {
            Some(wait) if self.job.attempt < self.job.retry.max_attempts => self.retry(wait, now),
            _ => self.end(Done::Failed, now),
        }
    }

    fn retry(&mut self, wait: Duration, now: Time) {
        let run_at = now + wait;
        self.log(LogType::Retrying, now, Some(json!({ "error": self.job.error, "run_at": run_at })));
        self.job.phase = Phase::Retrying;
        self.job.run_at = run_at;
        self.job.attempt += 1;
    }

    fn end(&mut self, done: Done, now: Time) {
        self.job.phase = Phase::Done(done);
        self.job.finished_at = Some(now);
        self.job.awaited = false;
        let r#type = match done {
            Done::Succeeded => LogType::Succeeded,
            Done::Failed => LogType::Failed,
            Done::Canceled => LogType::Canceled,
            Done::Expired => LogType::Expired,
        };
        self.log(r#type, now, None);
    }
}
