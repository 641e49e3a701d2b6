//! How long it took until a job succeeded again.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;

use super::finding::Class;
use super::{Bounds, Verdict};
use crate::ledger::{Entry, Line};
use crate::nemesis::fault::Fault;

/// The recoveries from faults of one name. Of two faults at once, each is charged with the time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Recovery {
    pub count: usize,
    /// Half of them took no longer, in milliseconds.
    pub median_ms: u64,
    pub longest_ms: u64,
    #[serde(skip)]
    all: Vec<u64>,
}

impl Recovery {
    fn add(&mut self, ms: u64) {
        self.all.push(ms);
        self.all.sort_unstable();
        self.count = self.all.len();
        self.median_ms = self.all[(self.count - 1) / 2];
        self.longest_ms = self.longest_ms.max(ms);
    }
}

/// Counts the faults and their recoveries, and finds those that took too long.
pub fn check(ledger: &[Line], bounds: Bounds, verdict: &mut Verdict) {
    let mut struck: HashMap<usize, &[Fault]> = HashMap::new();
    for line in ledger {
        match &line.entry {
            Entry::Struck { strike, faults } => {
                struck.insert(*strike, faults);
            }
            Entry::Recovered { strike, ms } => {
                let faults = struck.get(strike).copied().unwrap_or_default();
                for fault in faults {
                    verdict.recoveries.entry(fault.name()).or_default().add(*ms);
                }
                let longest = faults.iter().map(|fault| bounds.longest(fault.patience())).max().unwrap_or_default();
                if Duration::from_millis(*ms) > longest {
                    let what = format!("{ms} ms after {}; promised are {longest:?}", names(faults));
                    verdict.findings.add(Class::Late, what);
                }
            }
            Entry::Unrecovered { strike, ms } => {
                let faults = struck.get(strike).copied().unwrap_or_default();
                verdict.findings.add(Class::Late, format!("not in {ms} ms after {}", names(faults)));
            }
            _ => {}
        }
    }
}

fn names(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ")
}
