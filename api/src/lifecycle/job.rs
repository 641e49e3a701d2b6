use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::{Priority, State};
use buzzer_shared::kind::{DeliveryMode, Kind, KindSpec};
use buzzer_shared::problem::Problem;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Events;

/// A job, but for its input and output, which nobody needs to decide anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    pub id: JobId,
    pub tenant: Tenant,
    pub kind: Kind,
    pub priority: Priority,
    pub tags: BTreeMap<String, String>,
    /// The job that somebody asked to run again, as this one.
    pub retry_of: Option<JobId>,
    pub retry: RetryPolicy,
    /// How long one run may take.
    pub timeout: Duration,
    /// What its kind promised when it was accepted.
    pub delivery: DeliveryMode,
    pub created_at: Time,
    /// Not before this does it go out.
    pub run_at: Time,
    /// It must have started by then.
    pub expires_at: Option<Time>,
    /// Who is told of its events besides the webhook endpoints of its tenant.
    pub webhook: Option<JobWebhook>,

    pub phase: Phase,
    /// Which attempt is under way or comes next; 1 is the first. Rises only after a reported failure.
    pub attempt: u32,
    /// How often it was claimed for sending. The fence against late replies.
    pub dispatch: u32,
    /// Whether an outcome of the current dispatch is still to come. A second one counts for nothing.
    pub awaited: bool,
    /// The `n` of the last signal of the current dispatch that was taken.
    pub signal: u32,
    /// How the current dispatch was taken, once a worker has said that it acknowledged it before its run.
    pub early: Option<Early>,
    /// How it fared with its workers.
    pub suspicion: Suspicion,
    /// Since when somebody wants it to stop, where it could not be stopped at once.
    pub cancel_requested_at: Option<Time>,
    /// The `seq` of its last entry in the event log.
    pub seq: u32,
    /// When its present or last run began.
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    pub progress: Option<Progress>,
    /// How many bytes of its log its handlers have filled. More than [`TOLD_MAX`](super::TOLD_MAX): the log says that
    /// there was more.
    pub told: u32,
    /// Of the last attempt that failed.
    pub error: Option<Problem>,
}

/// Where the events of one job are posted, and which.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct JobWebhook {
    pub url: String,
    pub events: Events,
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

/// The current run was acknowledged before its end: should its worker be lost, only the end of the lease tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Early {
    /// Whether a crash would be its own doing.
    pub charged: bool,
}

/// Whether a job brings its workers down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Suspicion {
    /// It goes out marked `alone`: its worker runs nothing beside it.
    pub alone: bool,
    /// How many of its runs have vanished with their worker, for whatever reason. Enough of them make it a suspect.
    pub vanished: u32,
    /// How many of its runs have crashed their worker, by their own doing.
    pub crashes: u32,
}

/// Until when a run lives without another word of its worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunLease {
    /// As a rule: RabbitMQ, too, notices that a worker is lost.
    pub until: Time,
    /// Where the request was acknowledged early, and nobody else notices.
    pub early_until: Time,
}

impl RunLease {
    /// A lease of `length` from `now` on; half of it where nobody else notices.
    pub fn new(now: Time, length: Duration) -> Self {
        Self { until: now + length, early_until: now + length / 2 }
    }
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    Succeeded,
    Failed,
    Canceled,
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
    /// A job as it begins: of this kind, with nothing asked for that its kind does not say.
    pub fn new(id: JobId, tenant: Tenant, spec: &KindSpec, now: Time) -> Self {
        Self {
            id,
            tenant,
            kind: spec.name.clone(),
            priority: Priority::default(),
            tags: BTreeMap::new(),
            retry_of: None,
            retry: spec.retry_policy(None),
            timeout: spec.timeout.as_duration(),
            delivery: spec.delivery,
            created_at: now,
            run_at: now,
            expires_at: None,
            webhook: None,
            phase: Phase::Ready,
            attempt: 1,
            dispatch: 0,
            awaited: false,
            signal: 0,
            early: None,
            suspicion: Suspicion::default(),
            cancel_requested_at: None,
            seq: 0,
            started_at: None,
            finished_at: None,
            progress: None,
            told: 0,
            error: None,
        }
    }

    /// Whether a worker has said of the current dispatch that it runs it.
    pub fn has_begun(&self) -> bool {
        self.signal > 0 || self.early.is_some()
    }

    /// Whether its log has left out something that a handler told.
    pub fn is_truncated(&self) -> bool {
        self.told > super::TOLD_MAX
    }

    /// Whether its end is wished for, and has not come yet.
    pub fn is_to_stop(&self) -> bool {
        self.cancel_requested_at.is_some() && self.phase.lease().is_some()
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
            Phase::Done(Done::Canceled) => State::Canceled,
            Phase::Done(Done::Expired) => State::Expired,
        }
    }

    /// The same with a lease that ends at `until`, where there is one.
    pub fn until(self, until: Time) -> Self {
        match self {
            Phase::Sent { .. } => Phase::Sent { until },
            Phase::Running { .. } => Phase::Running { until },
            Phase::Scheduled | Phase::Ready | Phase::Retrying | Phase::Done(_) => self,
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
