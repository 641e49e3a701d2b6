use std::collections::BTreeMap;

use buzzer_shared::broker::Line;
use buzzer_shared::id::JobId;
use buzzer_shared::job::{Priority, State};
use buzzer_shared::kind::Kind;
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Time;
use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::lanes::Lanes;
use crate::lifecycle::{Job, JobWebhook, Phase, Progress};
use crate::problem::ApiError;

/// A job as a client sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct JobView {
    pub id: JobId,
    pub kind: Kind,
    pub state: State,
    /// Whether the job will never change again.
    pub done: bool,
    /// The number of its last event.
    pub seq: u32,
    /// Which attempt is under way, comes next, or was the last; 1 is the first.
    pub attempt: u32,
    pub max_attempts: u32,
    pub priority: Priority,
    pub tags: BTreeMap<String, String>,
    /// The job that somebody asked to run again, as this one.
    pub retry_of: Option<JobId>,
    /// Who is told of its events besides the webhooks that are registered. Left out where its submission named nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<JobWebhook>,
    /// As it was sent. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// As the handler made it; null unless the job has succeeded. Left out in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
    /// Why it failed, or why the last attempt did.
    pub error: Option<Problem>,
    /// Since when it is asked to stop.
    pub cancel_requested_at: Option<Time>,
    pub progress: Option<Progress>,
    /// What it waits for; null when it does not wait.
    pub waiting: Option<Waiting>,
    pub created_at: Time,
    /// Not before this did or will it run.
    pub run_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
    /// It must have started by then.
    pub expires_at: Option<Time>,
    pub links: Links,
}

/// What a job waits for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Waiting {
    pub r#for: WaitingFor,
    pub detail: String,
    /// How many jobs of its kind go out before it; null when it is on its way, not in line, or beyond 1,000.
    pub position: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitingFor {
    /// No worker runs its kind now.
    Worker,
    /// Every worker of its kind is busy.
    Slot,
    /// Its time has not come.
    Time,
    /// Its next attempt is not due.
    Retry,
    /// RabbitMQ is away, or has no queue for its kind.
    Broker,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Links {
    #[serde(rename = "self")]
    pub this: String,
    pub result: String,
    pub events: String,
    pub cancel: String,
}

/// A job's input and, where it has one, its output.
#[derive(Debug)]
pub struct Content {
    pub input: Bytes,
    pub output: Option<Bytes>,
}

impl JobView {
    /// For a list: without input and output.
    pub fn short(job: &Job, waiting: Option<Waiting>) -> Self {
        let path = format!("/v1/jobs/{}", job.id);
        let state = job.phase.state();
        Self {
            id: job.id,
            kind: job.kind.clone(),
            state,
            done: state.is_done(),
            seq: job.seq,
            attempt: job.attempt,
            max_attempts: job.retry.max_attempts,
            priority: job.priority,
            tags: job.tags.clone(),
            retry_of: job.retry_of,
            webhook: job.webhook.clone(),
            input: None,
            output: None,
            error: if shows_error(state) { job.error.clone() } else { None },
            cancel_requested_at: job.cancel_requested_at,
            progress: job.progress.clone(),
            waiting,
            created_at: job.created_at,
            run_at: job.run_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            links: Links {
                result: format!("{path}/result"),
                events: format!("{path}/events"),
                cancel: format!("{path}/cancel"),
                this: path,
            },
        }
    }

    /// The whole job.
    ///
    /// # Errors
    /// When what is stored is not JSON.
    pub fn whole(job: &Job, content: &Content, waiting: Option<Waiting>) -> Result<Self, ApiError> {
        let output = content.output.as_deref().unwrap_or(b"null");
        Ok(Self { input: Some(raw(&content.input)?), output: Some(raw(output)?), ..Self::short(job, waiting) })
    }
}

fn alone(job: &Job) -> String {
    let lost = job.suspicion.vanished + job.suspicion.crashes;
    let why =
        if lost == 0 { "its worker was lost more than once".into() } else { format!("{lost} of its runs were lost") };
    format!("it waits for a worker that runs nothing else: {why}, and it may be why")
}

fn shows_error(state: State) -> bool {
    matches!(state, State::Failed | State::Retrying | State::Expired)
}

fn raw(json: &[u8]) -> Result<Box<RawValue>, ApiError> {
    serde_json::from_slice(json).map_err(|error| ApiError::Internal(format!("stored content is not JSON: {error}")))
}

impl Waiting {
    /// What `job` waits for, as this replica sees it. `position` is its place among those that wait for their turn.
    pub fn of(job: &Job, position: Option<u32>, lanes: &Lanes) -> Option<Self> {
        let waiting = |r#for, detail: String| Some(Self { r#for, detail, position: None });
        match job.phase {
            Phase::Scheduled => waiting(WaitingFor::Time, format!("not before {}", job.run_at)),
            Phase::Retrying => {
                let detail = format!("attempt {} of {} not before {}", job.attempt, job.retry.max_attempts, job.run_at);
                waiting(WaitingFor::Retry, detail)
            }
            Phase::Sent { .. } if job.suspicion.alone => Some(Self::for_its_turn(job, lanes)),
            Phase::Sent { .. } if lanes.is_line_up() && lanes.has_worker(&job.kind) => {
                waiting(WaitingFor::Slot, "on its way to a worker".into())
            }
            Phase::Sent { .. } => Some(Self::for_its_turn(job, lanes)),
            Phase::Ready => Some(Self { position, ..Self::for_its_turn(job, lanes) }),
            Phase::Running { .. } | Phase::Done(_) => None,
        }
    }

    fn for_its_turn(job: &Job, lanes: &Lanes) -> Self {
        let (r#for, detail) = match lanes.line() {
            Line::Away(reason) => (WaitingFor::Broker, format!("the broker is away: {reason}")),
            Line::Blocked(reason) => (WaitingFor::Broker, format!("the broker takes no messages now: {reason}")),
            Line::Up => match lanes.refusal(&job.kind) {
                Some(reason) => (WaitingFor::Broker, format!("{} has no queue: {reason}", job.kind)),
                None if lanes.has_worker(&job.kind) && job.suspicion.alone => (WaitingFor::Slot, alone(job)),
                None if lanes.has_room(&job.kind) => (WaitingFor::Slot, "it goes out now".into()),
                None if lanes.has_worker(&job.kind) => {
                    (WaitingFor::Slot, format!("every worker of {} is busy", job.kind))
                }
                None => (WaitingFor::Worker, format!("no worker runs {} now", job.kind)),
            },
        };
        Self { r#for, detail, position: None }
    }
}
