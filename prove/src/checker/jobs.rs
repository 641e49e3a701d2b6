//! Each job against what was asked, answered and told.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde_json::Value;

use super::Verdict;
use super::finding::{Class, Findings};
use super::found::{FoundJob, System};
use crate::ledger::{Entry, Line, Number};
use crate::work;

/// What the ledger says of one submission.
#[derive(Debug, Default)]
struct Submission<'a> {
    kind: &'a str,
    input: Option<&'a Value>,
    /// The jobs that it was answered with.
    ids: BTreeSet<&'a str>,
    is_refused: bool,
}

/// What the ledger says of one job.
#[derive(Debug, Default)]
struct Words<'a> {
    /// Status and state of each answer to a cancel.
    cancels: Vec<(u16, &'a str)>,
    cancel_asked: bool,
    /// State, seq and output, whenever it was told to be done.
    told: Vec<(&'a str, u64, &'a Value)>,
}

/// The ledger, put in order.
#[derive(Debug, Default)]
struct Read<'a> {
    submissions: BTreeMap<Number, Submission<'a>>,
    jobs: HashMap<&'a str, Words<'a>>,
}

/// Looks at every job, and counts.
pub fn check(ledger: &[Line], system: &System, verdict: &mut Verdict) {
    let read = read(ledger, verdict);
    let jobs = once(&system.jobs, &mut verdict.findings);
    let known: HashSet<_> = jobs.iter().map(|job| job.id.as_str()).collect();
    let mut jobs_of: HashMap<Number, Vec<&str>> = HashMap::new();
    for job in &jobs {
        match job.n {
            Some(n) => jobs_of.entry(n).or_default().push(&job.id),
            None => verdict.findings.add(Class::Unexpected, format!("{} bears no number of ours", job.id)),
        }
    }
    for (n, submission) in &read.submissions {
        let jobs = jobs_of.get(n).map_or(&[][..], Vec::as_slice);
        check_submission(*n, submission, jobs, &known, verdict);
    }
    for job in jobs {
        *verdict.states.entry(job.state.clone()).or_default() += 1;
        verdict.events += job.log.len();
        verdict.runs_again += runs_again(job);
        check_log(job, &mut verdict.findings);
        let words = read.jobs.get(job.id.as_str());
        match job.n.and_then(|n| Some((n, read.submissions.get(&n)?))) {
            Some((_, submission)) if job.done => check_end(job, submission, words, &mut verdict.findings),
            Some((n, _)) => {
                verdict.findings.add(Class::Unfinished, format!("{} of submission {n} is {}", job.id, job.state));
            }
            None if job.n.is_some() => {
                verdict.findings.add(Class::Unexpected, format!("{} was asked for by nobody", job.id));
            }
            None => {}
        }
        if let Some(words) = words {
            check_words(job, words, &mut verdict.findings);
        }
    }
}

/// Each job as it was listed first.
fn once<'a>(jobs: &'a [FoundJob], findings: &mut Findings) -> Vec<&'a FoundJob> {
    let (mut known, mut once) = (HashSet::new(), Vec::with_capacity(jobs.len()));
    for job in jobs {
        if known.insert(job.id.as_str()) {
            once.push(job);
        } else {
            findings.add(Class::ListedTwice, format!("the list of all jobs shows {} more than once", job.id));
        }
    }
    once
}

fn read<'a>(ledger: &'a [Line], verdict: &mut Verdict) -> Read<'a> {
    let mut read = Read::default();
    for line in ledger {
        match &line.entry {
            Entry::Asked { n, kind, input } => {
                let submission = read.submissions.entry(*n).or_default();
                (submission.kind, submission.input) = (kind, Some(input));
            }
            Entry::Accepted { n, id } => {
                read.submissions.entry(*n).or_default().ids.insert(id);
            }
            Entry::Refused { n, busy: true, .. } => {
                read.submissions.entry(*n).or_default().is_refused = true;
            }
            Entry::Refused { n, status, problem, busy: false } => {
                read.submissions.entry(*n).or_default().is_refused = true;
                let what = format!("submission {n} is right, and was answered {status} {problem}");
                verdict.findings.add(Class::Wrong, what);
            }
            Entry::Contradicted { n, status, id } if *status != 422 => {
                let job = id.as_deref().unwrap_or("no job");
                let what = format!("submission {n} with another body was answered {status}, {job}");
                verdict.findings.add(Class::Key, what);
            }
            Entry::CancelAsked { id } => read.jobs.entry(id).or_default().cancel_asked = true,
            Entry::CancelAnswered { id, status, state } => {
                verdict.cancels += 1;
                read.jobs.entry(id).or_default().cancels.push((*status, state));
            }
            Entry::Told { id, state, seq, output } => {
                read.jobs.entry(id).or_default().told.push((state, *seq, output));
            }
            _ => {}
        }
    }
    verdict.asked = read.submissions.len();
    verdict.accepted = read.submissions.values().filter(|submission| !submission.ids.is_empty()).count();
    let refused = |submission: &&Submission<'_>| submission.is_refused && submission.ids.is_empty();
    verdict.refused = read.submissions.values().filter(refused).count();
    verdict.unsure = verdict.asked - verdict.accepted - verdict.refused;
    read
}

fn check_submission(
    n: Number,
    submission: &Submission<'_>,
    jobs: &[&str],
    known: &HashSet<&str>,
    verdict: &mut Verdict,
) {
    let findings = &mut verdict.findings;
    for id in submission.ids.iter().filter(|id| !known.contains(*id)) {
        findings.add(Class::Lost, format!("{id} of submission {n} is not known"));
    }
    if submission.ids.len() > 1 {
        findings.add(Class::Key, format!("submission {n} was answered with several jobs: {:?}", submission.ids));
    }
    if jobs.len() > 1 {
        findings.add(Class::Duplicated, format!("submission {n} has several jobs: {jobs:?}"));
    }
    for job in jobs.iter().filter(|job| !submission.ids.contains(*job)) {
        match (submission.ids.is_empty(), submission.is_refused) {
            (true, true) => findings.add(Class::Unexpected, format!("{job} of submission {n}, which was refused")),
            (true, false) => verdict.recovered += 1,
            (false, _) => {
                findings.add(Class::Unexpected, format!("{job} of submission {n}, which was answered with another"));
            }
        }
    }
}

fn check_log(job: &FoundJob, findings: &mut Findings) {
    let numbers_fit = job.log.iter().zip(1..).all(|(entry, seq)| entry.seq == seq);
    let length_fits = u64::try_from(job.log.len()).is_ok_and(|length| length == job.seq);
    if !numbers_fit || !length_fits {
        let numbers: Vec<_> = job.log.iter().map(|entry| entry.seq).collect();
        findings.add(Class::Log, format!("{} has seq {} and events {numbers:?}", job.id, job.seq));
    }
    let ends: Vec<_> = job.log.iter().filter(|entry| entry.is_end()).collect();
    if ends.len() > 1 {
        findings.add(Class::Duplicated, format!("{} has ended {} times", job.id, ends.len()));
    }
    let end = job.log.last().filter(|entry| entry.is_end()).map(|entry| entry.event.trim_start_matches("job."));
    if end != job.done.then_some(job.state.as_str()) {
        findings.add(Class::Log, format!("{} is {}, and its log ends with {end:?}", job.id, job.state));
    }
}

/// An end fits what was asked for, and no attempt was counted that was not the job's own.
fn check_end(job: &FoundJob, submission: &Submission<'_>, words: Option<&Words<'_>>, findings: &mut Findings) {
    let Some(input) = submission.input else { return };
    if job.kind != submission.kind || job.input != *input {
        findings.add(Class::Wrong, format!("{} is another job than was handed in", job.id));
        return;
    }
    let end = work::end_of(&job.kind, input);
    if job.state == "canceled" {
        // Whoever asked may not have been answered.
        if !words.is_some_and(|words| words.cancel_asked) {
            findings.add(Class::Cancel, format!("{} is canceled, and nobody asked for that", job.id));
        }
        if job.attempt > end.attempts {
            findings.add(Class::Attempt, format!("{} was canceled in attempt {}", job.id, job.attempt));
        }
        return;
    }
    if job.state != end.state || job.error != end.error {
        findings.add(Class::Wrong, format!("{} of {} is {} {}", job.id, job.kind, job.state, job.error));
    } else if job.output != end.output {
        findings.add(Class::Wrong, format!("{} of {} with input {input} has output {}", job.id, job.kind, job.output));
    } else if job.attempt != end.attempts {
        let what = format!("{} of {} took {} attempts, not {}", job.id, job.kind, job.attempt, end.attempts);
        findings.add(Class::Attempt, what);
    }
}

/// What was told of it holds.
fn check_words(job: &FoundJob, words: &Words<'_>, findings: &mut Findings) {
    for (state, seq, output) in &words.told {
        if (*state, *seq, *output) != (job.state.as_str(), job.seq, &job.output) {
            findings.add(
                Class::Changed,
                format!("{} was told to be {state} at {seq}, and is {} at {}", job.id, job.state, job.seq),
            );
        }
    }
    for (status, state) in &words.cancels {
        let is_true = match status {
            200 => job.state == "canceled",
            // The work may be done first; failing again it must not.
            202 => matches!(job.state.as_str(), "canceled" | "succeeded"),
            409 => *state == job.state,
            _ => false,
        };
        if !is_true {
            let what = format!("a cancel of {} was answered {status} {state}, and it is {}", job.id, job.state);
            findings.add(Class::Cancel, what);
        }
    }
}

/// How many runs were begun beyond one for each attempt.
fn runs_again(job: &FoundJob) -> usize {
    let begun = job.log.iter().filter(|entry| entry.event == "job.started").count();
    begun.saturating_sub(usize::try_from(job.attempt).unwrap_or(usize::MAX))
}
