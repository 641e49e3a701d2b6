//! When a failed job is tried again. Pure: chance comes in as a number.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Span;

/// How often and how soon a job that failed is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetryPolicy {
    /// How many attempts there are in all, the first included; at least 1.
    pub max_attempts: u32,
    /// The longest wait before the second attempt; it doubles with each further one.
    pub backoff: Span,
    /// Where the doubling ends.
    pub max_backoff: Span,
}

impl Default for RetryPolicy {
    /// Five attempts, waiting at most 1 s, 2 s, 4 s, 8 s between them.
    fn default() -> Self {
        Self { max_attempts: 5, backoff: Span::from_secs(1), max_backoff: Span::from_secs(300) }
    }
}

impl RetryPolicy {
    /// One attempt, and no other.
    pub const NEVER: RetryPolicy =
        RetryPolicy { max_attempts: 1, backoff: Span::from_secs(1), max_backoff: Span::from_secs(1) };

    /// The wait after `attempt` failed; `chance` is uniform in 0..1.
    ///
    /// Exponential backoff with full jitter, `chance * min(max_backoff, backoff * 2^(attempt - 1))`: after an outage
    /// the jobs it struck come back spread out, not all at once. Source: Marc Brooker, "Exponential Backoff And
    /// Jitter", AWS Architecture Blog, 2015.
    pub fn delay(&self, attempt: u32, chance: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let ceiling = self.backoff.as_duration().saturating_mul(1 << doublings).min(self.max_backoff.as_duration());
        ceiling.mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_doubles_up_to_its_bound() {
        let policy = RetryPolicy { max_attempts: 9, backoff: Span::from_secs(1), max_backoff: Span::from_secs(5) };
        let ceilings: Vec<_> = (1..=5).map(|attempt| policy.delay(attempt, 1.0).as_secs()).collect();
        assert_eq!(ceilings, [1, 2, 4, 5, 5]);
        assert_eq!(policy.delay(u32::MAX, 1.0), Duration::from_secs(5));
    }

    proptest::proptest! {
        #[test]
        fn a_delay_is_never_beyond_its_ceiling(attempt: u32, chance in 0.0..1.0f64) {
            let policy = RetryPolicy::default();
            assert!(policy.delay(attempt, chance) <= policy.delay(attempt, 1.0));
        }
    }
}
