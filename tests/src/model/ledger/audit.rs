//! What is stored in the end, held against what is known.

use std::collections::{BTreeMap, BTreeSet};

use buzzer_api::lifecycle::{Done, Entry, Job, LogType, Phase};
use buzzer_api::store::{Filter, Page, Store};
use buzzer_shared::id::Tenant;
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::problem;
use serde_json::{Value, json};

use super::{Begun, Cancel, Ledger, Report, Said, Tale};

/// More jobs than any of these tests makes.
const ALL: usize = 10_000;

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
                    let dispatch =
                        self.begun_by(entry, started).ok_or_else(|| format!("{id} started, but nobody ran it"))?;
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
    /// start was overtaken, the entry has the time of a later signal. Where it began several in one millisecond, it is the
    /// next one after `before`, of which the log has told already.
    fn begun_by(&self, started: &Entry, before: u32) -> Option<u32> {
        let worker = started.data.as_ref().map(|data| &data["worker"]);
        let its_own = |begun: &&Begun| begun.at <= started.at && worker == Some(&json!(begun.worker));
        let begun = || self.tale.begun.iter().chain(&self.tale.said_to_begin).filter(its_own);
        let last = begun().map(|begun| begun.at).max()?;
        let then = || begun().filter(|begun| begun.at == last).map(|begun| begun.dispatch);
        then().filter(|dispatch| *dispatch > before).min().or_else(|| then().max())
    }
}

fn end(job: &Job) -> String {
    let ours = job.error.as_ref().map(|error| error.r#type.as_str()).filter(|r#type| r#type.starts_with('/'));
    ours.unwrap_or(job.phase.state().as_str()).into()
}

fn holds(condition: bool, how: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(how()) }
}
