use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use buzzer_shared::time::Span;
use clap::ValueEnum;

/// How the end of each job is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Learn {
    /// By the tenant's feed of events, one stream for all jobs.
    Feed,
    /// By a long poll of each job, on the connection that handed it in.
    Poll,
    /// By the answer to the submission itself, which is held until the job is done (`Prefer: wait=60`).
    Wait,
    /// Not at all: submissions are measured alone.
    None,
}

impl fmt::Display for Learn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Feed => "feed",
            Self::Poll => "poll",
            Self::Wait => "wait",
            Self::None => "none",
        })
    }
}

/// How many jobs are handed in: a number of them, or as many as fit into a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    Jobs(u64),
    Time(Duration),
}

impl Amount {
    /// Whether there is nothing to do.
    pub fn is_none(self) -> bool {
        matches!(self, Self::Jobs(0) | Self::Time(Duration::ZERO))
    }

    /// How many jobs that is at a rate.
    pub fn at(self, rate: Rate) -> u64 {
        match self {
            Self::Jobs(jobs) => jobs,
            // What does not fit into a u64 is more than anybody hands in.
            Self::Time(time) => (time.as_secs_f64() * rate.per_second()).floor() as u64,
        }
    }
}

impl FromStr for Amount {
    type Err = InvalidAmount;

    fn from_str(text: &str) -> Result<Self, InvalidAmount> {
        if let Ok(jobs) = text.parse() {
            return Ok(Self::Jobs(jobs));
        }
        let time: Span = text.parse().map_err(|_| InvalidAmount(text.into()))?;
        Ok(Self::Time(time.into()))
    }
}

/// A text that is neither a number of jobs nor a time.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is neither a number of jobs, like 1000, nor a time, like 2s")]
pub struct InvalidAmount(String);

/// Jobs per second. Written like `50/s` or `50`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate(f64);

impl Rate {
    pub fn per_second(self) -> f64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = InvalidRate;

    fn from_str(text: &str) -> Result<Self, InvalidRate> {
        let number = text.strip_suffix("/s").unwrap_or(text).trim_end();
        let rate = number.parse().ok().filter(|rate: &f64| (1e-3..=1e6).contains(rate));
        rate.map(Self).ok_or_else(|| InvalidRate(text.into()))
    }
}

/// A text that is no rate.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:?} is no rate, like 50/s or 0.5/s, from 0.001 to 1,000,000")]
pub struct InvalidRate(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_number_or_a_time() {
        assert_eq!("1000".parse::<Amount>().unwrap(), Amount::Jobs(1000));
        assert_eq!("1500ms".parse::<Amount>().unwrap(), Amount::Time(Duration::from_millis(1500)));
        assert!("0".parse::<Amount>().unwrap().is_none() && "0s".parse::<Amount>().unwrap().is_none());
        for bad in ["", "-1", "many", "1.5"] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_rate_is_a_number_of_jobs_per_second() {
        assert_eq!("50/s".parse::<Rate>().unwrap(), Rate(50.0));
        assert_eq!("0.5".parse::<Rate>().unwrap(), Rate(0.5));
        for bad in ["", "0", "-1", "NaN", "inf", "50/m", "2e6"] {
            assert!(bad.parse::<Rate>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_time_at_a_rate_is_a_number_of_jobs() {
        let rate = "50/s".parse().unwrap();
        assert_eq!(Amount::Time(Duration::from_millis(1999)).at(rate), 99);
        assert_eq!(Amount::Jobs(7).at(rate), 7);
    }
}
