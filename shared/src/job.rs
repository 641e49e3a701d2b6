//! The words for a job that stand on every wire.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not before its time.
    Scheduled,
    /// Waits for its turn, or is on its way to a worker.
    Queued,
    /// A worker runs it.
    Running,
    /// Failed, and waits for its next attempt.
    Retrying,
    /// Done: there is an output.
    Succeeded,
    /// Done: there is an error.
    Failed,
    /// Done: somebody asked for that.
    Canceled,
    /// Done: it had not started by the time it should have.
    Expired,
}

impl State {
    /// Every state, in the order of a life.
    pub const ALL: [State; 8] = [
        State::Scheduled,
        State::Queued,
        State::Running,
        State::Retrying,
        State::Succeeded,
        State::Failed,
        State::Canceled,
        State::Expired,
    ];

    /// Whether the job will never change again.
    pub fn is_done(self) -> bool {
        match self {
            State::Scheduled | State::Queued | State::Running | State::Retrying => false,
            State::Succeeded | State::Failed | State::Canceled | State::Expired => true,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            State::Scheduled => "scheduled",
            State::Queued => "queued",
            State::Running => "running",
            State::Retrying => "retrying",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Canceled => "canceled",
            State::Expired => "expired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, UnknownState> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| UnknownState(text.into()))
    }
}

/// A text that names no state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no state; the states are scheduled, queued, running, retrying, succeeded, failed, canceled, expired")]
pub struct UnknownState(String);

/// Which job goes out first: 0 to 31, higher first, 4 when nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Priority(#[schemars(range(min = 0, max = 31))] u8);

impl Priority {
    pub const MAX: u8 = 31;

    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(4)
    }
}

impl TryFrom<u8> for Priority {
    type Error = PriorityOutOfRange;

    fn try_from(value: u8) -> Result<Self, PriorityOutOfRange> {
        if value <= Self::MAX { Ok(Self(value)) } else { Err(PriorityOutOfRange(value)) }
    }
}

impl<'de> Deserialize<'de> for Priority {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u8::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// A priority that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a priority is 0 to 31, not {0}")]
pub struct PriorityOutOfRange(u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_read_as_it_is_written() {
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }

    #[test]
    fn a_priority_beyond_31_is_refused() {
        assert!(serde_json::from_str::<Priority>("31").is_ok());
        assert!(serde_json::from_str::<Priority>("32").is_err());
    }
}
