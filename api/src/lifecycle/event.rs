use std::fmt;
use std::str::FromStr;

use buzzer_shared::id::WorkerId;
use buzzer_shared::message::RunResult;
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Late, Report, RunLease};

/// Something that happened to a job.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// Its `run_at` has come.
    Due,
    /// Its `expires_at` has come.
    Expired,
    /// It is its turn: it goes out, and nobody else sends it before `until`.
    Claimed { until: Time },
    /// The broker certainly does not have it.
    Unsent { dispatch: u32 },
    /// The broker will never take it.
    Unsendable { dispatch: u32, problem: Problem },
    /// A worker calls its handler.
    Started { dispatch: u32, n: u32, worker: WorkerId, at: Time, lease: RunLease },
    /// A worker has acknowledged its request, and calls its handler next. `charged`: a crash would be its own doing.
    StartedEarly { dispatch: u32, worker: WorkerId, at: Time, lease: RunLease, charged: bool },
    /// Its handler tells something.
    Reported { dispatch: u32, n: u32, worker: WorkerId, at: Time, lease: RunLease, report: Report },
    /// A worker still has it.
    Held { dispatch: u32, lease: RunLease },
    /// A worker answered; `late` is what its handler told last. `chance` is uniform in 0..1, for the wait before another
    /// attempt.
    Finished {
        dispatch: u32,
        worker: WorkerId,
        started_at: Option<Time>,
        late: Vec<Late>,
        result: RunResult,
        chance: f64,
    },
    /// Nobody has spoken for it until its lease ended. `bereft`: a worker of its kind was lost of late, which may have
    /// had it.
    LeaseEnded { bereft: bool },
    /// Somebody wants it to stop.
    CancelRequested,
    /// Somebody wants its next attempt now.
    RetryRequested,
}

/// One line of a job's event log, as every transport shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// 1, 2, 3, … within the job.
    pub seq: u32,
    pub at: Time,
    pub r#type: LogType,
    pub attempt: u32,
    /// What else there is to say. Empty in terminal entries: there it is the job itself, put in when it is shown.
    pub data: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LogType {
    #[serde(rename = "job.accepted")]
    Accepted,
    #[serde(rename = "job.started")]
    Started,
    #[serde(rename = "job.progress")]
    Progress,
    #[serde(rename = "job.log")]
    Log,
    #[serde(rename = "job.output")]
    Output,
    /// The handlers of this job have told as much as is kept; nothing more of the three before follows.
    #[serde(rename = "job.truncated")]
    Truncated,
    #[serde(rename = "job.retrying")]
    Retrying,
    #[serde(rename = "job.succeeded")]
    Succeeded,
    #[serde(rename = "job.failed")]
    Failed,
    #[serde(rename = "job.canceled")]
    Canceled,
    #[serde(rename = "job.expired")]
    Expired,
}

impl LogType {
    pub const ALL: [LogType; 11] = [
        LogType::Accepted,
        LogType::Started,
        LogType::Progress,
        LogType::Log,
        LogType::Output,
        LogType::Truncated,
        LogType::Retrying,
        LogType::Succeeded,
        LogType::Failed,
        LogType::Canceled,
        LogType::Expired,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            LogType::Accepted => "job.accepted",
            LogType::Started => "job.started",
            LogType::Progress => "job.progress",
            LogType::Log => "job.log",
            LogType::Output => "job.output",
            LogType::Truncated => "job.truncated",
            LogType::Retrying => "job.retrying",
            LogType::Succeeded => "job.succeeded",
            LogType::Failed => "job.failed",
            LogType::Canceled => "job.canceled",
            LogType::Expired => "job.expired",
        }
    }
}

impl LogType {
    /// Whether it is the last entry of its log.
    pub fn is_terminal(self) -> bool {
        match self {
            LogType::Succeeded | LogType::Failed | LogType::Canceled | LogType::Expired => true,
            LogType::Accepted
            | LogType::Started
            | LogType::Progress
            | LogType::Log
            | LogType::Output
            | LogType::Truncated
            | LogType::Retrying => false,
        }
    }
}

impl fmt::Display for LogType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogType {
    type Err = UnknownLogType;

    fn from_str(text: &str) -> Result<Self, UnknownLogType> {
        Self::ALL.into_iter().find(|r#type| r#type.as_str() == text).ok_or_else(|| UnknownLogType(text.into()))
    }
}

/// A text that names no type of entry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no type of event")]
pub struct UnknownLogType(String);
