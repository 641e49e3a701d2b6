//! How long to wait before the next try.

use std::time::Duration;

/// Waits that grow, each with chance in it: after an outage not everybody comes back in the same moment.
#[derive(Debug)]
pub(super) struct Backoff {
    shortest: Duration,
    longest: Duration,
    tries: u32,
}

impl Backoff {
    pub(super) const fn new(shortest: Duration, longest: Duration) -> Self {
        Self { shortest, longest, tries: 0 }
    }

    /// The next wait, between the shortest and twice the ceiling before it; `chance` is uniform in 0..1.
    pub(super) fn next(&mut self, chance: f64) -> Duration {
        self.tries = (self.tries + 1).min(16);
        let ceiling = self.shortest.saturating_mul(1 << self.tries).min(self.longest);
        self.shortest + ceiling.saturating_sub(self.shortest).mul_f64(chance.clamp(0.0, 1.0))
    }

    /// It works again: the next wait is a short one.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let waits: Vec<_> = (0..6).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(backoff.next(0.0), Duration::from_millis(200));
        backoff.reset();
        assert_eq!(backoff.next(1.0), Duration::from_millis(400));
    }
}
