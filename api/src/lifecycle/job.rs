use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::{Priority, State};
use buzzer_shared::kind::Kind;
use buzzer_shared::problem::Problem;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A job, but for its input and output, which nobody needs to decide anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub tenant: Tenant,
    pub kind: Kind,
    pub priority: Priority,
    pub tags: BTreeMap<String, String>,
    pub retry: RetryPolicy,
    /// How long one run may take.
    pub timeout: Duration,
    pub created_at: Time,
    /// Not before this does it go out.
    pub run_at: Time,
    /// It must have started by then.
    pub expires_at: Option<Time>,

    pub phase: Phase,
    /// Which attempt is under way or comes next; 1 is the first. Rises only after a reported failure.
    pub attempt: u32,
    /// How often it was claimed for sending. The fence against late replies.
    pub dispatch: u32,
    /// Whether an outcome of the current dispatch is still to come. A second one counts for nothing.
    pub awaited: bool,
    /// The `n` of the last signal of the current dispatch that was taken.
    pub signal: u32,
    /// The `seq` of its last entry in the event log.
    pub seq: u32,
    /// When its present or last run began.
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub progress: Option<Progress>,
    /// Of the last attempt that failed.
    pub error: Option<Problem>,
}

/// Where a job is, as far as it matters for what may come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not before `run_at`.
    Scheduled,
    /// Waits for its turn.
    Ready,
    /// Claimed: on its way to a worker, or lost on it. After `until` it may be claimed again.
    Sent {
        until: Time,
    },
    /// A worker has said that it runs it, and must say so again before `until`.
    Running {
        until: Time,
    },
    /// Failed; not again before `run_at`.
    Retrying,
    Done(Done),
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Succeeded,
    Failed,
    Expired,
}

/// How far a run says it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl Job {
    /// Whether a worker has said of the current dispatch that it runs it.
    pub fn has_begun(&self) -> bool {
        self.signal > 0
    }
}

impl Phase {
    /// The state that a client sees.
    pub fn state(self) -> State {
        match self {
            Phase::Scheduled => State::Scheduled,
            Phase::Ready | Phase::Sent { .. } => State::Queued,
            Phase::Running { .. } => State::Running,
            Phase::Retrying => State::Retrying,
            Phase::Done(Done::Succeeded) => State::Succeeded,
            Phase::Done(Done::Failed) => State::Failed,
            Phase::Done(Done::Expired) => State::Expired,
        }
    }

    /// Until when it counts as being with the broker or a worker; `None` when it is not out.
    pub fn lease(self) -> Option<Time> {
        match self {
            Phase::Sent { until } | Phase::Running { until } => Some(until),
            Phase::Scheduled | Phase::Ready | Phase::Retrying | Phase::Done(_) => None,
        }
    }
}
