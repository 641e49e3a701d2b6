//! What becomes of the events that webhooks are told. Pure: no clock, no IO; time and chance come in as arguments.
//!
//! An event that a [`Webhook`] wants becomes a [`Delivery`], a row beside its entry in the log. Each attempt at it is a
//! job of the internal tenant, made when it has its [`turn`](turns()); what comes of it, the [`Rules`] say.

mod attempt;
mod health;
mod host;
mod run;
mod schedule;
mod secrets;
mod settle;
mod turns;
mod webhook;

pub use attempt::{Attempt, is_delivered};
pub use health::{Disabled, Health, Why};
pub use host::host;
pub use run::{kind, run};
pub use schedule::{InvalidSchedule, Schedule};
pub use secrets::{SECRETS_MAX, Secrets};
pub use settle::{Endpoint, Rules, Settled};
pub use turns::{Load, ROOM, Ripe, Turn, turns};
pub use webhook::{Edit, Wants, Webhook};

use buzzer_shared::id::{DeliveryId, JobId};
use buzzer_shared::time::Time;

use crate::lifecycle::LogType;

/// One event on its way to one webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    pub id: DeliveryId,
    pub of: Told,
    /// Where to, where that is not the endpoint's own URL: a job has named it.
    pub url: Option<String>,
    pub created_at: Time,
    pub state: State,
    /// What came of the last attempts, the oldest first.
    pub attempts: Vec<Attempt>,
    /// How many attempts have failed since it was begun, or last replayed.
    pub failed: u32,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// An entry of a job's log.
    Event { job: JobId, seq: u32, r#type: LogType },
    /// Nothing: it is a test.
    Test,
}

/// Where a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Not before this is it tried, or tried again.
    Waiting {
        due: Time,
    },
    /// A job of the internal tenant is made of it.
    UnderWay {
        run: JobId,
    },
    Delivered {
        at: Time,
    },
    /// It is not tried again by itself.
    Failed {
        at: Time,
    },
}

/// A state as clients see and choose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StateName {
    /// It waits for its next attempt, or is on its way.
    Pending,
    Delivered,
    Failed,
}

impl State {
    pub fn name(self) -> StateName {
        match self {
            State::Waiting { .. } | State::UnderWay { .. } => StateName::Pending,
            State::Delivered { .. } => StateName::Delivered,
            State::Failed { .. } => StateName::Failed,
        }
    }
}
