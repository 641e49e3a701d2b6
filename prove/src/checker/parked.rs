//! What nobody can use, against what is parked.

use std::collections::{HashMap, HashSet};

use super::Verdict;
use super::finding::Class;
use super::found::{FoundParked, System};
use crate::ledger::{Entry, Line};

/// Messages by their mark, and how many bear it.
type Marks<'a> = HashMap<&'a str, usize>;

/// Each message that nobody can use is parked, with the reason and the queue that it came from; and nothing else is.
pub fn check(ledger: &[Line], system: &System, verdict: &mut Verdict) {
    (verdict.parked, verdict.parked_unseen) = (system.parked.len(), system.unseen);
    verdict.planted = ledger.iter().filter_map(|line| planted(&line.entry)).filter(|(_, taken)| *taken).count();
    for (mark, count) in missing(ledger, &system.parked) {
        for _ in 0..count {
            verdict.findings.add(Class::Vanished, format!("nobody can use it, and it is not parked: {mark}"));
        }
    }
    let planted: HashSet<&str> = ledger.iter().filter_map(|line| Some(planted(&line.entry)?.0)).collect();
    let ours: HashSet<&str> = system.jobs.iter().map(|job| job.id.as_str()).collect();
    for parked in &system.parked {
        let what = || format!("{} from {}: {}", parked.id, parked.from, parked.reason);
        if parked.reason.is_empty() || parked.from.is_empty() {
            verdict.findings.add(Class::Parked, format!("it is not said why, or where it came from: {}", what()));
        }
        let is_planted = parked.mark.as_deref().is_some_and(|mark| planted.contains(mark));
        // Where there are others, theirs is not our concern.
        let is_of_others = system.is_shared && !ours.contains(parked.job.as_str());
        if !is_planted && !is_of_others {
            verdict.findings.add(Class::Parked, format!("nobody sent what cannot be used: {}", what()));
        }
    }
}

/// Whether all is parked that must be.
pub fn is_complete(ledger: &[Line], parked: &[FoundParked]) -> bool {
    missing(ledger, parked).next().is_none()
}

/// What must be parked, and is not, with how many of each.
fn missing<'a>(ledger: &'a [Line], parked: &[FoundParked]) -> impl Iterator<Item = (&'a str, usize)> {
    let mut owed = owed(ledger);
    for mark in parked.iter().filter_map(|parked| parked.mark.as_deref()) {
        if let Some(count) = owed.get_mut(mark) {
            // One may be parked twice, by an API that was killed in between.
            *count = count.saturating_sub(1);
        }
    }
    owed.into_iter().filter(|(_, count)| *count > 0)
}

/// What RabbitMQ has taken since its queues were emptied: what was there before may have gone with that.
fn owed(ledger: &[Line]) -> Marks<'_> {
    let mut owed = Marks::new();
    for line in ledger {
        match &line.entry {
            Entry::Struck { faults, .. } if faults.iter().any(|fault| fault.empties_queues()) => owed.clear(),
            entry => {
                if let Some((mark, true)) = planted(entry) {
                    *owed.entry(mark).or_default() += 1;
                }
            }
        }
    }
    owed
}

fn planted(entry: &Entry) -> Option<(&str, bool)> {
    match entry {
        Entry::Planted { mark, is_confirmed } => Some((mark, *is_confirmed)),
        _ => None,
    }
}
