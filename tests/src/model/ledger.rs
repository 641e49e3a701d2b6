//! The model: what clients were promised and what workers really did. In the end, what is stored must follow from it.

mod audit;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_api::lifecycle::Job;
use buzzer_api::store::Listed;
use buzzer_shared::id::{JobId, RunId, WorkerId};
use buzzer_shared::message::Started;
use buzzer_shared::time::Time;
use serde_json::Value;

pub use audit::Audit;

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

impl Ledger {
    fn tell(&self, job: JobId, what: impl FnOnce(&mut Tale)) {
        what(self.book().tales.entry(job).or_default());
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
