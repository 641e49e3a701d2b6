//! Compares what the clients were told with what the system says after all is healed and quiet. Pure: a ledger and what
//! was found go in, a verdict comes out. [`jobs`] looks at each job, [`feeds`] at those who read along, [`parked`] at
//! what nobody could use, [`recovery`] at how long it took.

mod feeds;
mod finding;
mod found;
mod jobs;
mod parked;
mod recovery;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

pub use self::finding::{Class, Finding, Findings};
pub use self::found::{FoundJob, FoundParked, Logged, System};
pub use self::parked::is_complete as is_parked;
pub use self::recovery::Recovery;
use crate::ledger::{Entry, Line};

/// What is still well.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// So many times longer than promised may a recovery take, on a busy machine.
    pub slack: f64,
    /// The most that an API may hold in memory, in bytes.
    pub memory: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { slack: 1.0, memory: 512 << 20 }
    }
}

impl Bounds {
    /// How long something may take that is promised within `promised`.
    pub fn longest(&self, promised: Duration) -> Duration {
        promised.mul_f64(self.slack)
    }
}

/// What a campaign came to.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Verdict {
    /// Submissions that were begun.
    pub asked: usize,
    /// Those answered with a job.
    pub accepted: usize,
    /// Those refused with a `429` or a `503` that means: nothing was stored.
    pub refused: usize,
    /// Those without an answer, or with one that leaves it open.
    pub unsure: usize,
    /// Those of the unsure whose job is there: nobody was told, and it was done all the same.
    pub recovered: usize,
    /// Jobs that the system knows, by their state.
    pub states: BTreeMap<String, usize>,
    /// Runs that were begun once more: a worker was lost, or gave its job back.
    pub runs_again: usize,
    /// Events that changed nothing, by their reason, as the APIs that run now count them.
    pub ignored: BTreeMap<String, u64>,
    /// Messages that nobody can use: the nemesis put them into queues, and RabbitMQ has said that it has them.
    pub planted: usize,
    /// Messages that are parked, and were looked at.
    pub parked: usize,
    /// Messages that are parked behind too many others to be looked at. Only where the system is not ours.
    pub parked_unseen: usize,
    /// Events in the logs of all jobs.
    pub events: usize,
    /// Answers to cancels.
    pub cancels: usize,
    /// The most that an API held, in bytes; absent where that cannot be seen.
    pub memory: Option<u64>,
    pub recoveries: BTreeMap<String, Recovery>,
    pub findings: Findings,
}

impl Verdict {
    /// Whether every promise was kept.
    pub fn is_kept(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Compares the ledger with what was found.
pub fn check(ledger: &[Line], system: &System, bounds: Bounds) -> Verdict {
    let mut verdict = Verdict { ignored: system.ignored.clone(), ..Verdict::default() };
    jobs::check(ledger, system, &mut verdict);
    feeds::check(ledger, system, &mut verdict.findings);
    parked::check(ledger, system, &mut verdict);
    recovery::check(ledger, bounds, &mut verdict);
    for line in ledger {
        match &line.entry {
            Entry::Died { part, how } => verdict.findings.add(Class::Died, format!("{part:?}: {how}")),
            Entry::Memory { bytes, .. } => verdict.memory = verdict.memory.max(Some(*bytes)),
            _ => {}
        }
    }
    if let Some(held) = verdict.memory.filter(|held| *held > bounds.memory) {
        let (held, bound) = (held >> 20, bounds.memory >> 20);
        verdict.findings.add(Class::Memory, format!("an API held {held} MiB; the bound is {bound} MiB"));
    }
    verdict
}
