use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::time::Span;

/// How much later than its time an attempt comes at most: what failed together does not come back together.
const JITTER: f64 = 0.2;

/// When a delivery that failed is tried again: so long after each failure. Written `5s,5m,30m`; one more attempt than
/// there are waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Arc<[Span]>);

impl Schedule {
    /// How long to wait after the failure number `failed`, the first being 1; `None` when that was the last attempt.
    /// `chance` is uniform in 0..1. An endpoint may ask for a longer wait than is planned, never for a shorter one.
    pub fn wait(&self, failed: u32, retry_after: Option<Duration>, chance: f64) -> Option<Duration> {
        let planned = self.0.get(usize::try_from(failed).ok()?.checked_sub(1)?)?.as_duration();
        Some(planned.max(retry_after.unwrap_or_default()).mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0)))
    }
}

impl Default for Schedule {
    /// As the specification of Standard Webhooks recommends.
    fn default() -> Self {
        let hours = [2, 5, 10, 14, 20, 24].map(|hours| Span::from_secs(hours * 3600));
        let minutes = [5, 30].map(|minutes| Span::from_secs(minutes * 60));
        Self([Span::from_secs(5)].into_iter().chain(minutes).chain(hours).collect())
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waits: Vec<_> = self.0.iter().map(|wait| wait.to_string().replace(' ', "")).collect();
        f.write_str(&waits.join(","))
    }
}

impl FromStr for Schedule {
    type Err = InvalidSchedule;

    fn from_str(text: &str) -> Result<Self, InvalidSchedule> {
        let waits = text.split(',').map(|wait| wait.trim().parse().map_err(|_| InvalidSchedule(text.into())));
        waits.collect::<Result<_, _>>().map(Self)
    }
}

/// A text that is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a list of waits: write lengths of time with commas between them, like 5s,5m,30m")]
pub struct InvalidSchedule(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_a_list_of_waits() {
        let usual = Schedule::default();
        assert_eq!(usual.to_string(), "5s,5m,30m,2h,5h,10h,14h,20h,24h");
        assert_eq!(usual.to_string().parse(), Ok(usual));
        assert_eq!("1h 30m, 7d".parse::<Schedule>().unwrap().to_string().parse::<Schedule>().unwrap().0.len(), 2);
        for bad in ["", "5", "5s,,5m", "5s;5m"] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_wait_is_never_shorter_than_planned_or_asked_for() {
        let schedule: Schedule = "10s,100s".parse().unwrap();
        let wait = |failed, retry_after: Option<u64>, chance| {
            schedule.wait(failed, retry_after.map(Duration::from_secs), chance).map(|wait| wait.as_secs())
        };
        assert_eq!([wait(1, None, 0.0), wait(1, None, 1.0), wait(2, None, 0.5)], [Some(10), Some(12), Some(110)]);
        assert_eq!([wait(3, None, 0.0), wait(0, None, 0.0), wait(3, Some(5), 0.0)], [None, None, None]);
        assert_eq!([wait(1, Some(5), 0.0), wait(1, Some(50), 0.0)], [Some(10), Some(50)]);
    }
}
