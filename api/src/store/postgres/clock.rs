use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use buzzer_shared::time::{Clock, Time};

/// The database's clock, as this replica knows it.
///
/// Leases and due times are written by one replica and compared by another: all must go by one clock, and the database
/// is the one thing that they share. To ask it before each step would cost a round trip, so its time is asked for once
/// a second and carried on in between by a clock that nobody can set. What remains is half of a round trip.
#[derive(Debug)]
pub(super) struct DatabaseClock {
    began: Instant,
    /// The database's time when this clock began, in milliseconds.
    offset: AtomicI64,
}

/// The database's time, asked for and told between two moments here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    pub(super) told: Time,
}

impl DatabaseClock {
    pub(super) fn set_by(reading: Reading) -> Self {
        let clock = Self { began: reading.asked, offset: AtomicI64::new(0) };
        clock.correct(reading);
        clock
    }

    /// Takes note of the database's time. While ours may be right, it is left as it is: so it does not jitter.
    pub(super) fn correct(&self, reading: Reading) {
        let offset = corrected(self.offset.load(Ordering::Relaxed), self.bounds(reading));
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// The least and the greatest offset that a reading allows.
    fn bounds(&self, reading: Reading) -> (i64, i64) {
        let told = reading.told.as_millis();
        (told - millis(reading.answered - self.began), told - millis(reading.asked - self.began))
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Time {
        Time::from_millis(self.offset.load(Ordering::Relaxed) + millis(self.began.elapsed()))
    }
}

fn corrected(offset: i64, (least, greatest): (i64, i64)) -> i64 {
    if (least..=greatest).contains(&offset) { offset } else { i64::midpoint(least, greatest) }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_right_is_left_alone() {
        assert_eq!(corrected(100, (98, 104)), 100);
        assert_eq!(corrected(105, (98, 104)), 101);
        assert_eq!(corrected(0, (98, 104)), 101);
    }

    #[test]
    fn it_tells_the_databases_time() {
        let asked = Instant::now();
        let reading = |told| Reading { asked, answered: asked, told: Time::from_millis(told) };
        let clock = DatabaseClock::set_by(reading(5_000_000));
        assert!(clock.now().since(Time::from_millis(5_000_000)) < Duration::from_secs(60));
        clock.correct(reading(1_000));
        assert!(clock.now() < Time::from_millis(100_000), "also when that was set back");
    }
}
