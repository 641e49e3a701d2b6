//! The model: what clients were promised and what workers really did. In the end, what is stored must follow from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_api::lifecycle::{Done, Entry, Job, LogType, Phase};
use buzzer_api::store::{Filter, Listed, Page, Store};
use buzzer_shared::id::{JobId, RunId, Tenant, WorkerId};
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::message::Started;
use buzzer_shared::problem;
use buzzer_shared::time::Time;
use serde_json::{Value, json};

/// More jobs than any of these tests makes.
const ALL: usize = 10_000;

/// Written by clients and workers as they go, read by the audit. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Book>>);

#[derive(Debug, Default)]
struct Book {
    tales: BTreeMap<JobId, Tale>,
    keys: HashMap<String, JobId>,
    reports: u64,
    confirmed: usize,
    /// Whether somebody reads the feed from its beginning.
    is_read_along: bool,
    broken: Vec<String>,
}

/// All that is known of one job from outside.
#[derive(Debug, Default)]
struct Tale {
    cancel: Cancel,
    left_alone: bool,
    may_be_deleted: bool,
    /// The highest `seq` that was shown.
    seq: u32,
    /// How the job was shown once it was done.
    end: Option<Arc<Value>>,
    /// In which state it was too late to cancel it.
    too_late: Option<String>,
    /// The highest dispatch that came to a worker. What an older one reports, but for a success, is too late.
    taken: u32,
    /// Handlers that were called.
    begun: Vec<Begun>,
    /// Of those that are acknowledged early it is said first.
    said_to_begin: Vec<Begun>,
    /// Dispatches that were said to be charged with the loss of their worker.
    charged: BTreeSet<u32>,
    /// Whether a worker called it a suspect.
    suspected: bool,
    reports: BTreeMap<u64, Report>,
    /// The types of the events that were shown to who reads the feed.
    fed: Vec<String>,
}

/// How far the wish to cancel has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Cancel {
    #[default]
    Never,
    /// Without an answer.
    Tried,
    /// Answered 202.
    Asked,
    /// Answered 200.
    Done,
}

/// The call of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begun {
    pub dispatch: u32,
    pub worker: WorkerId,
    pub at: Time,
}

/// What a worker says of a run. Each has a number of its own, by which it is found again in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    Succeeded,
    /// `last`: no other attempt would do better.
    Failed {
        last: bool,
    },
}

#[derive(Debug)]
struct Report {
    dispatch: u32,
    said: Said,
    confirmed: bool,
    /// It must never count.
    void: bool,
}

/// An event, as far as it is counted.
#[derive(Debug, serde::Deserialize)]
struct Seen {
    job_id: JobId,
    seq: usize,
}

/// What was known of a job when it was asked for.
#[derive(Debug, Clone, Default)]
pub struct Known {
    seq: u32,
    end: Option<Arc<Value>>,
}

impl Known {
    /// The state it has ended in.
    pub fn end(&self) -> Option<&str> {
        self.end.as_ref().and_then(|job| job["state"].as_str())
    }

    /// Whether it has ended, and no key goes with it.
    pub fn has_ended_without_key(&self) -> bool {
        self.end.as_ref().is_some_and(|job| job["tags"]["key"].is_null())
    }
}

/// What clients do and see.
impl Ledger {
    pub fn accepted(&self, job: JobId) {
        self.book().tales.entry(job).or_default();
    }

    /// The same key is the same job.
    pub fn accepted_with_key(&self, key: &str, job: JobId) {
        let before = *self.book().keys.entry(key.into()).or_insert(job);
        if before != job {
            self.broken(format!("P4: the key {key} stood for {before}, and now for {job}"));
        }
        self.accepted(job);
    }

    pub fn is_key_used(&self, key: &str) -> bool {
        self.book().keys.contains_key(key)
    }

    /// Any of the accepted jobs that clients may have something done to.
    pub fn any(&self, dice: &mut fastrand::Rng) -> Option<JobId> {
        let book = self.book();
        let open = book.tales.iter().filter(|(_, tale)| !tale.left_alone).map(|(id, _)| *id);
        dice.choice(open.collect::<Vec<_>>())
    }

    /// Nobody is to cancel this job: its end is what matters.
    pub fn leave_alone(&self, job: JobId) {
        self.tell(job, |tale| tale.left_alone = true);
    }

    pub fn accepted_jobs(&self) -> Vec<JobId> {
        self.book().tales.iter().filter(|(_, tale)| !tale.may_be_deleted).map(|(id, _)| *id).collect()
    }

    pub fn known(&self, job: JobId) -> Known {
        let tale = |tale: &Tale| Known { seq: tale.seq, end: tale.end.clone() };
        self.book().tales.get(&job).map(tale).unwrap_or_default()
    }

    /// An answer has shown a job. Nothing goes back, and what has ended stays as it is.
    pub fn shown(&self, shown: &Value, before: &Known) {
        let Some(id) = shown["id"].as_str().and_then(|id| id.parse().ok()) else {
            return self.broken(format!("an answer without a job: {shown}"));
        };
        let seq = shown["seq"].as_u64().and_then(|seq| u32::try_from(seq).ok()).unwrap_or_default();
        if seq < before.seq {
            self.broken(format!("P3: job {id} went back from event {} to {seq}", before.seq));
        }
        let mut book = self.book();
        let tale = book.tales.entry(id).or_default();
        tale.seq = tale.seq.max(seq);
        let is_done = shown["done"] == true;
        let changed = is_done && **tale.end.get_or_insert_with(|| Arc::new(shown.clone())) != *shown;
        let end = tale.end.clone();
        drop(book);
        if changed {
            self.broken(format!("P2: job {id} changed after its end: {end:?} became {shown}"));
        }
        if !is_done && let Some(end) = &before.end {
            self.broken(format!("P2: job {id} had ended as {end}, and lives again as {shown}"));
        }
    }

    /// An accepted job was not there.
    pub fn missing(&self, job: JobId) {
        if !self.book().tales.get(&job).is_some_and(|tale| tale.may_be_deleted) {
            self.broken(format!("P1: job {job} was accepted, and is not there"));
        }
    }

    pub fn deletes(&self, job: JobId) {
        self.tell(job, |tale| tale.may_be_deleted = true);
    }

    pub fn cancels(&self, job: JobId) {
        self.tell(job, |tale| tale.cancel = tale.cancel.max(Cancel::Tried));
    }

    /// Answered 202.
    pub fn asked_to_stop(&self, job: JobId) {
        self.tell(job, |tale| tale.cancel = tale.cancel.max(Cancel::Asked));
    }

    /// Answered 200.
    pub fn canceled(&self, job: JobId) {
        self.tell(job, |tale| tale.cancel = Cancel::Done);
    }

    /// Answered 409.
    pub fn too_late(&self, job: JobId, state: &str) {
        self.tell(job, |tale| tale.too_late = Some(state.into()));
    }

    /// Somebody reads the feed from its beginning, and is to be shown all of it.
    pub fn reads_along(&self) {
        self.book().is_read_along = true;
    }

    /// Who reads the feed was shown this event: the next one of its job.
    pub fn fed(&self, shown: &Value) {
        let (Ok(seen), r#type) = (serde_json::from_value::<Seen>(shown.clone()), &shown["type"]) else {
            return self.broken(format!("P3: no event: {shown}"));
        };
        let mut book = self.book();
        let fed = &mut book.tales.entry(seen.job_id).or_default().fed;
        fed.push(r#type.as_str().unwrap_or_default().to_owned());
        let expected = fed.len();
        drop(book);
        if seen.seq != expected {
            self.broken(format!("P3: who reads the feed was shown {seen:?} where {expected} was due"));
        }
    }

    /// Whether who reads the feed was shown all that these jobs have.
    pub fn is_fed(&self, jobs: &[Listed]) -> bool {
        let book = self.book();
        let fed = |job: &Job| book.tales.get(&job.id).map_or(0, |tale| tale.fed.len());
        jobs.iter().all(|listed| fed(&listed.job) == listed.job.seq as usize)
    }

    /// A promise was broken.
    pub fn broken(&self, how: String) {
        self.book().broken.push(how);
    }
}

/// What workers do.
impl Ledger {
    /// A request came to a worker: the API has committed this dispatch.
    pub fn taken(&self, run: RunId) {
        self.tell(run.job, |tale| tale.taken = tale.taken.max(run.dispatch));
    }

    pub fn begun(&self, job: JobId, begun: Begun) {
        self.tell(job, |tale| tale.begun.push(begun));
    }

    pub fn suspected(&self, job: JobId) {
        self.tell(job, |tale| tale.suspected = true);
    }

    pub fn started_early(&self, started: &Started) {
        let Started { run, worker, at, charged } = *started;
        self.tell(run.job, |tale| {
            tale.said_to_begin.push(Begun { dispatch: run.dispatch, worker, at });
            if charged {
                tale.charged.insert(run.dispatch);
            }
        });
    }

    /// A worker is about to say this. Returns the number of the report. What is `forged` must never count; nor must what
    /// comes from an old dispatch, unless the work was done.
    pub fn says(&self, run: RunId, said: Said, forged: bool) -> u64 {
        let mut book = self.book();
        book.reports += 1;
        let number = book.reports;
        let tale = book.tales.entry(run.job).or_default();
        let is_old = said != Said::Succeeded && run.dispatch < tale.taken;
        let void = forged || is_old || tale.end.is_some();
        tale.reports.insert(number, Report { dispatch: run.dispatch, said, confirmed: false, void });
        number
    }

    /// The broker answers for this report now.
    pub fn confirmed(&self, run: RunId, number: u64) {
        let mut book = self.book();
        book.confirmed += 1;
        if let Some(report) = book.tales.get_mut(&run.job).and_then(|tale| tale.reports.get_mut(&number)) {
            report.confirmed = true;
        }
    }

    /// How many reports were confirmed.
    pub fn count_confirmed(&self) -> usize {
        self.book().confirmed
    }

    /// The last dispatch of every job that came to a worker.
    pub fn runs(&self) -> Vec<RunId> {
        let book = self.book();
        let taken = book.tales.iter().filter(|(_, tale)| tale.taken > 0);
        taken.map(|(job, tale)| RunId { job: *job, dispatch: tale.taken }).collect()
    }

    /// Jobs whose success was confirmed. With an honest broker, each of them is to end so.
    pub fn certainly_succeeded(&self) -> Vec<JobId> {
        let certain =
            |tale: &Tale| tale.reports.values().any(|report| report.confirmed && report.said == Said::Succeeded);
        self.book().tales.iter().filter(|(_, tale)| certain(tale)).map(|(id, _)| *id).collect()
    }
}

/// What holds where the broker loses nothing and no worker is slow.
impl Ledger {
    /// A success that the broker has taken waits for the API, and no API sends its job out again before it has looked.
    pub fn no_success_was_run_again(&self) {
        let again = |tale: &Tale| {
            let done = |report: &&Report| report.confirmed && report.said == Said::Succeeded && !report.void;
            tale.reports.values().filter(done).any(|report| report.dispatch < tale.taken)
        };
        let found: Vec<_> = self.book().tales.iter().filter(|(_, tale)| again(tale)).map(|(id, _)| *id).collect();
        found.into_iter().for_each(|id| self.broken(format!("P1: {id} was sent out again after its success")));
    }
}

/// What an audit found.
#[derive(Debug, Default)]
pub struct Audit {
    /// Every promise that was broken.
    pub broken: Vec<String>,
    /// How many jobs ended in each way: a state, or the problem of ours that it ended with.
    pub ends: BTreeMap<String, usize>,
}

impl Ledger {
    /// Holds what is stored in the end against what is known.
    pub async fn audit(&self, store: &dyn Store) -> Audit {
        let tenant = Tenant::default();
        let page = Page { after: None, limit: ALL };
        let stored = store.jobs(&tenant, &Filter::default(), page).await.expect("a list");
        for id in self.accepted_jobs() {
            if !stored.iter().any(|listed| listed.job.id == id) {
                self.missing(id);
            }
        }
        let mut keys = BTreeSet::new();
        let mut ends = BTreeMap::new();
        for listed in &stored {
            let id = listed.job.id;
            *ends.entry(end(&listed.job)).or_default() += 1;
            let found = store.job_with_content(&tenant, id).await.expect("a job").expect("it was listed");
            let log = store.events(&tenant, id, 0, ALL).await.expect("a log");
            let broken = {
                let book = self.book();
                let (job, none) = (&found.job, Tale::default());
                let tale = book.tales.get(&id).unwrap_or(&none);
                let is_read_along = book.is_read_along;
                Findings { job, output: found.output.as_deref(), log: &log, tale, is_read_along }.all()
            };
            broken.into_iter().for_each(|how| self.broken(how));
            if let (Some(key), None) = (found.job.tags.get("key"), found.job.retry_of)
                && !keys.insert(key.clone())
            {
                self.broken(format!("P4: the key {key} made more than one job"));
            }
        }
        Audit { broken: std::mem::take(&mut self.book().broken), ends }
    }

    fn tell(&self, job: JobId, what: impl FnOnce(&mut Tale)) {
        what(self.book().tales.entry(job).or_default());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One job as it is stored in the end, beside what is known of it.
struct Findings<'a> {
    job: &'a Job,
    output: Option<&'a [u8]>,
    log: &'a [Entry],
    tale: &'a Tale,
    is_read_along: bool,
}

impl Findings<'_> {
    fn all(&self) -> Vec<String> {
        let checks = [
            self.the_log_is_whole(),
            self.the_feed_has_shown_it(),
            self.the_end_follows_from_what_happened(),
            self.the_end_is_the_one_that_was_shown(),
            self.attempts_are_failures(),
            self.runs_follow_one_another(),
            self.a_cancel_was_answered_truly(),
            self.at_most_once_is_kept(),
            self.suspicion_has_its_grounds(),
        ];
        let broken = checks.into_iter().filter_map(Result::err);
        broken.map(|how| format!("{how}\n  {:?}\n{}  {:?}", self.job, self.story(), self.tale)).collect()
    }

    /// The log, a line for each event.
    fn story(&self) -> String {
        let line = |entry: &Entry| {
            let data = entry.data.as_ref().map(Value::to_string).unwrap_or_default();
            format!("  {} {} {} ({}) {data}\n", entry.seq, entry.at, entry.r#type, entry.attempt)
        };
        self.log.iter().map(line).collect()
    }

    fn the_log_is_whole(&self) -> Result<(), String> {
        let (job, log) = (self.job, self.log);
        let seqs: Vec<_> = log.iter().map(|entry| entry.seq).collect();
        let whole: Vec<_> = (1..=job.seq).collect();
        holds(seqs == whole, || format!("P3: the events of {} are {seqs:?}, expected 1 to {}", job.id, job.seq))?;
        let Phase::Done(done) = job.phase else {
            return Err(format!("P1: job {} has not ended", job.id));
        };
        let terminal = |entry: &Entry| {
            use LogType::{Canceled, Expired, Failed, Succeeded};
            matches!(entry.r#type, Succeeded | Failed | Canceled | Expired)
        };
        let ends: Vec<_> = log.iter().filter(|entry| terminal(entry)).map(|entry| entry.r#type).collect();
        let end = match done {
            Done::Succeeded => LogType::Succeeded,
            Done::Failed => LogType::Failed,
            Done::Canceled => LogType::Canceled,
            Done::Expired => LogType::Expired,
        };
        let first = log.first().is_some_and(|entry| entry.r#type == LogType::Accepted);
        let last = log.last().is_some_and(terminal);
        holds(first && last && ends == [end], || format!("P3: the log of {} does not tell one life", job.id))
    }

    fn the_feed_has_shown_it(&self) -> Result<(), String> {
        let log: Vec<_> = self.log.iter().map(|entry| entry.r#type.to_string()).collect();
        let whole = !self.is_read_along || self.tale.fed == log;
        holds(whole, || format!("P3: who reads the feed was shown {:?} of {}", self.tale.fed, self.job.id))
    }

    fn the_end_follows_from_what_happened(&self) -> Result<(), String> {
        let (job, tale) = (self.job, self.tale);
        let id = job.id;
        match job.phase {
            Phase::Done(Done::Succeeded) => {
                let output: Value = serde_json::from_slice(self.output.unwrap_or_default()).unwrap_or_default();
                let report = self.report(&output);
                let real = report.is_some_and(|report| report.said == Said::Succeeded && !report.void);
                let real = real && job.error.is_none();
                holds(real, || format!("P2: nobody succeeded with the output {output} of {id}"))
            }
            Phase::Done(Done::Failed) => self.a_failure_is_real(),
            Phase::Done(Done::Canceled) => {
                holds(tale.cancel > Cancel::Never, || format!("P5: nobody canceled {id}, and it is canceled"))
            }
            Phase::Done(Done::Expired) => {
                let in_time = job.expires_at.is_some_and(|at| job.finished_at >= Some(at));
                let started = self.log.iter().any(|entry| entry.r#type == LogType::Started);
                holds(in_time && !started, || format!("{id} expired without a reason"))
            }
            _ => Ok(()),
        }
    }

    fn a_failure_is_real(&self) -> Result<(), String> {
        let (job, tale) = (self.job, self.tale);
        let Some(error) = &job.error else { return Err(format!("P2: {} failed without an error", job.id)) };
        let reported = self.report(&json!(error));
        match (error.r#type.as_str(), reported) {
            (problem::job::POISON, None) => {
                let crashed = job.suspicion.crashes == 3 && tale.charged.len() >= 3;
                let grounds = crashed || job.suspicion.vanished >= 10;
                holds(grounds, || format!("{} is poison, but crashed {:?}", job.id, tale.charged))
            }
            (problem::job::LOST, None) => holds(job.delivery == DeliveryMode::AtMostOnce, || {
                format!("{} is lost, but could have been run again", job.id)
            }),
            (_, Some(Report { said: Said::Failed { last }, void: false, .. })) => {
                let last = *last || job.attempt == job.retry.max_attempts;
                holds(last, || format!("P11: {} failed in attempt {} though it has more", job.id, job.attempt))
            }
            _ => Err(format!("P2: nobody made {} fail with {error:?}", job.id)),
        }
    }

    fn the_end_is_the_one_that_was_shown(&self) -> Result<(), String> {
        let (state, id) = (self.job.phase.state(), self.job.id);
        if let Some(shown) = &self.tale.end {
            let same = shown["state"] == json!(state) && shown["seq"] == json!(self.job.seq);
            holds(same, || format!("P2: {id} was shown as {shown}, and is {state:?}"))?;
        }
        let too_late = self.tale.too_late.as_ref().is_none_or(|told| json!(told) == json!(state));
        holds(too_late, || format!("P5: too late to cancel {id} which had ended otherwise"))
    }

    /// An attempt is a failure that a worker reported, and that came in time.
    fn attempts_are_failures(&self) -> Result<(), String> {
        let (job, id) = (self.job, self.job.id);
        let mut attempt = 1;
        for entry in self.log {
            holds(entry.attempt == attempt, || format!("P11: event {} of {id} is of another attempt", entry.seq))?;
            if entry.r#type == LogType::Retrying {
                attempt += 1;
                let error = entry.data.as_ref().map(|data| &data["error"]);
                let report = error.and_then(|error| self.report(error));
                let failed = report.is_some_and(|report| matches!(report.said, Said::Failed { .. }) && !report.void);
                holds(failed, || format!("P11: attempt {attempt} of {id} follows no failure that counts"))?;
                let canceled = job.cancel_requested_at.is_some_and(|at| entry.at > at);
                holds(!canceled, || format!("P5: {id} was tried again after its cancel"))?;
            }
        }
        let counted = attempt == job.attempt && attempt <= job.retry.max_attempts;
        holds(counted, || format!("P11: {id} counts {} attempts, the log {attempt}", job.attempt))
    }

    /// Starts and failures come from rising dispatches: none counts twice, and none that was overtaken.
    fn runs_follow_one_another(&self) -> Result<(), String> {
        let id = self.job.id;
        let (mut started, mut failed) = (0, 0);
        let succeeded = self.job.phase == Phase::Done(Done::Succeeded);
        for (at, entry) in self.log.iter().enumerate() {
            // A success of any dispatch counts, and brings its own start if none was known.
            let before_success = succeeded && at + 2 == self.log.len();
            match entry.r#type {
                LogType::Started => {
                    let dispatch = self.begun_by(entry).ok_or_else(|| format!("{id} started, but nobody ran it"))?;
                    holds(dispatch > started || before_success, || {
                        format!("P2: dispatch {dispatch} of {id} started after {started}")
                    })?;
                    started = dispatch;
                }
                LogType::Retrying => {
                    let error = entry.data.as_ref().map(|data| &data["error"]);
                    let dispatch = error.and_then(|error| self.report(error)).map_or(0, |report| report.dispatch);
                    holds(dispatch > failed && dispatch == started, || {
                        format!("P2: dispatch {dispatch} of {id} failed after {failed}, and {started} had started last")
                    })?;
                    failed = dispatch;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn a_cancel_was_answered_truly(&self) -> Result<(), String> {
        let (job, id, state) = (self.job, self.job.id, self.job.phase.state());
        let canceled = job.phase == Phase::Done(Done::Canceled);
        match self.tale.cancel {
            Cancel::Never | Cancel::Tried => Ok(()),
            Cancel::Asked => {
                let kept = job.cancel_requested_at.is_some();
                let obeyed = canceled || job.phase == Phase::Done(Done::Succeeded);
                holds(kept && obeyed, || format!("P5: {id} was asked to stop (202), and is {state:?}"))
            }
            Cancel::Done => holds(canceled, || format!("P5: {id} was canceled (200), and is {state:?}")),
        }
    }

    fn at_most_once_is_kept(&self) -> Result<(), String> {
        let once = self.job.delivery == DeliveryMode::AtMostOnce;
        let begun = &self.tale.begun;
        holds(!once || begun.len() <= 1, || format!("{} may begin once, and began: {begun:?}", self.job.id))
    }

    fn suspicion_has_its_grounds(&self) -> Result<(), String> {
        let (job, tale, suspicion) = (self.job, self.tale, self.job.suspicion);
        let crashes = suspicion.crashes as usize <= tale.charged.len() && suspicion.crashes <= 3;
        let vanished = suspicion.vanished <= job.dispatch;
        let alone = !suspicion.alone || suspicion.vanished >= 2 || tale.suspected;
        let charged_alone = suspicion.crashes == 0 || suspicion.alone;
        holds(crashes && vanished && alone && charged_alone, || format!("{} is wrongly a suspect", job.id))
    }

    /// The report that an output or a problem comes from.
    fn report(&self, content: &Value) -> Option<&Report> {
        content["report"].as_u64().and_then(|number| self.tale.reports.get(&number))
    }

    /// The dispatch that an entry tells the start of: the last that its worker had begun by then. Where the word of the
    /// start was overtaken, the entry has the time of a later signal.
    fn begun_by(&self, started: &Entry) -> Option<u32> {
        let worker = started.data.as_ref().map(|data| &data["worker"]);
        let its_own = |begun: &&Begun| begun.at <= started.at && worker == Some(&json!(begun.worker));
        let begun = self.tale.begun.iter().chain(&self.tale.said_to_begin).filter(its_own);
        begun.max_by_key(|begun| begun.at).map(|begun| begun.dispatch)
    }
}

fn end(job: &Job) -> String {
    let ours = job.error.as_ref().map(|error| error.r#type.as_str()).filter(|r#type| r#type.starts_with('/'));
    ours.unwrap_or(job.phase.state().as_str()).into()
}

fn holds(condition: bool, how: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(how()) }
}
