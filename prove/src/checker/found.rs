use std::collections::BTreeMap;

use serde_json::Value;

use crate::ledger::Number;

/// What the system says after all is healed and quiet.
#[derive(Debug, Clone, Default)]
pub struct System {
    pub jobs: Vec<FoundJob>,
    /// Messages in the parking queue.
    pub parked: Vec<FoundParked>,
    /// Messages in the parking queue that cannot be looked at.
    pub unseen: usize,
    /// Whether others use it, too: then some of what is parked may be theirs.
    pub is_shared: bool,
    /// Events that changed nothing, by their reason.
    pub ignored: BTreeMap<String, u64>,
}

/// A job as the system has it.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundJob {
    pub id: String,
    /// The number of its submission, from its tag. `None`: it bears none of ours.
    pub n: Option<Number>,
    pub kind: String,
    pub state: String,
    pub done: bool,
    pub attempt: u32,
    pub seq: u64,
    pub input: Value,
    pub output: Value,
    /// The type of its problem; empty when it has none.
    pub error: String,
    pub log: Vec<Logged>,
}

/// A parked message as the system has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FoundParked {
    pub id: String,
    /// The queue that it came from; empty when that is not said.
    pub from: String,
    /// Why nobody could use it; empty when that is not said.
    pub reason: String,
    /// The job that it speaks of; empty when it speaks of none.
    pub job: String,
    /// `None`: it is not of the nemesis.
    pub mark: Option<String>,
}

/// An entry of a job's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub seq: u64,
    pub event: String,
}

impl Logged {
    /// Whether it ends the job.
    pub fn is_end(&self) -> bool {
        matches!(self.event.as_str(), "job.succeeded" | "job.failed" | "job.canceled" | "job.expired")
    }
}
