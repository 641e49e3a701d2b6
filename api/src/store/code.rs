//! What the rows of every store say in numbers. Rows, partial indexes and statements name these numbers: what one stands
//! for never changes.

use std::time::Duration;

use buzzer_shared::job::State;
use buzzer_shared::time::Time;

use super::StoreError;
use crate::delivery::{Disabled, StateName, Why};
use crate::lifecycle::{Done, LogType, Phase};

/// A number in a row that stands for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    #[error("phase {code} with lease {lease:?}")]
    Phase { code: i16, lease: Option<Time> },
    #[error("an event of type {0}")]
    LogType(i16),
    #[error("a length of {0} ms")]
    Length(i64),
    #[error("a webhook disabled at {at:?} for reason {why:?}")]
    Why { at: Option<Time>, why: Option<i16> },
    #[error("a delivery in state {0}")]
    Delivery(i16),
}

impl From<Unknown> for StoreError {
    fn from(unknown: Unknown) -> Self {
        Self::Corrupt(unknown.to_string())
    }
}

/// The number of a phase. Until when it lasts stands in a column of its own.
pub(super) fn of_phase(phase: Phase) -> i16 {
    match phase {
        Phase::Scheduled => 0,
        Phase::Ready => 1,
        Phase::Sent { .. } => 2,
        Phase::Running { .. } => 3,
        Phase::Retrying => 4,
        Phase::Done(Done::Succeeded) => 5,
        Phase::Done(Done::Failed) => 6,
        Phase::Done(Done::Canceled) => 7,
        Phase::Done(Done::Expired) => 8,
    }
}

pub(super) fn phase(code: i16, lease: Option<Time>) -> Result<Phase, Unknown> {
    match (code, lease) {
        (0, None) => Ok(Phase::Scheduled),
        (1, None) => Ok(Phase::Ready),
        (2, Some(until)) => Ok(Phase::Sent { until }),
        (3, Some(until)) => Ok(Phase::Running { until }),
        (4, None) => Ok(Phase::Retrying),
        (5, None) => Ok(Phase::Done(Done::Succeeded)),
        (6, None) => Ok(Phase::Done(Done::Failed)),
        (7, None) => Ok(Phase::Done(Done::Canceled)),
        (8, None) => Ok(Phase::Done(Done::Expired)),
        _ => Err(Unknown::Phase { code, lease }),
    }
}

/// The phases that a client sees as this state, as a condition on the row `j` of a job.
pub(super) fn is_in(state: State) -> &'static str {
    match state {
        State::Scheduled => "j.phase = 0",
        State::Queued => "j.phase IN (1, 2)",
        State::Running => "j.phase = 3",
        State::Retrying => "j.phase = 4",
        State::Succeeded => "j.phase = 5",
        State::Failed => "j.phase = 6",
        State::Canceled => "j.phase = 7",
        State::Expired => "j.phase = 8",
    }
}

pub(super) fn of_log_type(r#type: LogType) -> i16 {
    match r#type {
        LogType::Accepted => 0,
        LogType::Started => 1,
        LogType::Progress => 2,
        LogType::Retrying => 3,
        LogType::Succeeded => 4,
        LogType::Failed => 5,
        LogType::Expired => 6,
        LogType::Canceled => 7,
        LogType::Log => 8,
        LogType::Output => 9,
        LogType::Truncated => 10,
    }
}

pub(super) fn log_type(code: i16) -> Result<LogType, Unknown> {
    let known = LogType::ALL.into_iter().find(|r#type| of_log_type(*r#type) == code);
    known.ok_or(Unknown::LogType(code))
}

/// Milliseconds; the longest that can be written, for what is longer.
pub(super) fn of_length(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn length(millis: i64) -> Result<Duration, Unknown> {
    u64::try_from(millis).map(Duration::from_millis).map_err(|_| Unknown::Length(millis))
}

/// The number of the reason for which a webhook is disabled. When that was stands in a column of its own.
pub(super) fn of_why(why: Why) -> i16 {
    match why {
        Why::Owner => 0,
        Why::Gone => 1,
        Why::Failing => 2,
    }
}

pub(super) fn disabled(at: Option<Time>, why: Option<i16>) -> Result<Option<Disabled>, Unknown> {
    let Some(at) = at else { return Ok(None) };
    let why = match why {
        Some(0) => Why::Owner,
        Some(1) => Why::Gone,
        Some(2) => Why::Failing,
        _ => return Err(Unknown::Why { at: Some(at), why }),
    };
    Ok(Some(Disabled { at, why }))
}

/// The deliveries that a client sees in this state, as a condition on their row `d`.
pub(super) fn is_delivery_in(state: StateName) -> &'static str {
    match state {
        StateName::Pending => "d.state IN (0, 1)",
        StateName::Delivered => "d.state = 2",
        StateName::Failed => "d.state = 3",
    }
}

/// How many rows a statement may find at most.
pub(super) fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTIL: Option<Time> = Some(Time::from_millis(1));

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        for code in 0..=8 {
            let lease = if [2, 3].contains(&code) { UNTIL } else { None };
            assert_eq!(phase(code, lease).map(of_phase), Ok(code));
        }
        for (code, lease) in [(9, None), (-1, None), (2, None), (0, UNTIL)] {
            assert_eq!(phase(code, lease), Err(Unknown::Phase { code, lease }));
        }
    }

    #[test]
    fn every_phase_is_found_by_its_state_alone() {
        for code in 0..=8_i16 {
            let phase = phase(code, None).or_else(|_| phase(code, UNTIL)).unwrap();
            let found = |state: &State| is_in(*state).contains(&code.to_string());
            assert_eq!(State::ALL.into_iter().filter(found).collect::<Vec<_>>(), [phase.state()]);
        }
    }

    #[test]
    fn every_log_type_is_read_as_it_was_written() {
        assert!(LogType::ALL.into_iter().all(|r#type| log_type(of_log_type(r#type)) == Ok(r#type)));
        assert_eq!(log_type(11), Err(Unknown::LogType(11)));
    }

    #[test]
    fn every_reason_is_read_as_it_was_written() {
        let at = UNTIL.unwrap();
        for why in [Why::Owner, Why::Gone, Why::Failing] {
            assert_eq!(disabled(UNTIL, Some(of_why(why))), Ok(Some(Disabled { at, why })));
        }
        assert_eq!(disabled(None, None), Ok(None));
        assert!(disabled(UNTIL, None).is_err() && disabled(UNTIL, Some(3)).is_err());
    }

    #[test]
    fn lengths_are_read_as_they_were_written() {
        assert_eq!(length(of_length(Duration::from_millis(60_500))), Ok(Duration::from_millis(60_500)));
        assert_eq!(of_length(Duration::MAX), i64::MAX);
        assert_eq!(length(-1), Err(Unknown::Length(-1)));
    }
}
