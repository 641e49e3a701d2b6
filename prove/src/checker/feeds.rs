//! Those who read along, against the logs.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::finding::{Class, Findings};
use super::found::System;
use crate::ledger::{Entry, Line};

/// What one reader has seen.
#[derive(Debug, Default)]
struct Seen<'a> {
    /// The last number of the feed.
    last: u64,
    /// The last event of each job.
    jobs: HashMap<&'a str, u64>,
    count: usize,
}

/// Each reader of the feed saw each event once, in order, as the logs have it; so did those who followed one job.
pub fn check(ledger: &[Line], system: &System, findings: &mut Findings) {
    let logs: HashMap<&str, Vec<&str>> = system
        .jobs
        .iter()
        .map(|job| (job.id.as_str(), job.log.iter().map(|entry| entry.event.as_str()).collect()))
        .collect();
    let mut readers: BTreeMap<usize, Seen<'_>> = BTreeMap::new();
    let mut followed: HashSet<(&str, u64)> = HashSet::new();
    for line in ledger {
        match &line.entry {
            Entry::Reads { reader } => drop(readers.entry(*reader).or_default()),
            Entry::Fed { reader, feed, job, seq, event } => {
                let seen = readers.entry(*reader).or_default();
                if *feed <= seen.last {
                    let what = format!("reader {reader} was shown {feed} after {}", seen.last);
                    findings.add(Class::Feed, what);
                }
                seen.last = *feed;
                seen.count += 1;
                let before = seen.jobs.insert(job, *seq).unwrap_or_default();
                if *seq != before + 1 {
                    findings.add(Class::Feed, format!("reader {reader} was shown {job} {seq} after {before}"));
                }
                compare(&logs, (job, *seq, event), findings);
            }
            Entry::Streamed { job, seq, event } => {
                let after_another = *seq == 1 || followed.contains(&(job.as_str(), seq - 1));
                if !followed.insert((job, *seq)) || !after_another {
                    findings.add(Class::Feed, format!("who followed {job} was shown {seq} twice or too early"));
                }
                compare(&logs, (job, *seq, event), findings);
            }
            Entry::Followed { job } => {
                let all = logs.get(job.as_str()).map_or(0, Vec::len) as u64;
                if all > 0 && !followed.contains(&(job.as_str(), all)) {
                    findings.add(Class::Feed, format!("who followed {job} was not shown the last of its {all} events"));
                }
            }
            _ => {}
        }
    }
    for (reader, seen) in &readers {
        for (job, log) in &logs {
            let (shown, all) = (seen.jobs.get(job).copied().unwrap_or_default(), log.len() as u64);
            if shown < all {
                findings.add(Class::Feed, format!("reader {reader} was shown {shown} of {all} events of {job}"));
            }
        }
    }
}

/// An event that was shown is the one in the log.
fn compare(logs: &HashMap<&str, Vec<&str>>, (job, seq, event): (&str, u64, &str), findings: &mut Findings) {
    let at = usize::try_from(seq).unwrap_or_default().checked_sub(1);
    let logged = at.and_then(|at| logs.get(job)?.get(at).copied());
    if logged != Some(event) {
        findings.add(Class::Feed, format!("{job} {seq} was shown as {event}; its log has {logged:?}"));
    }
}
