//! Since when this replica has heard everything that was said on a queue. Before that, silence about a job says
//! nothing: the word may wait in the queue, or in our own hands.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buzzer_shared::time::Time;

/// Whoever has not looked for so long was silent itself: frozen, or held up by the store. It begins anew.
const GAP: Duration = Duration::from_secs(5);
/// How often somebody who hears nothing should look, so that it does not count as a gap.
pub const LOOK: Duration = Duration::from_secs(1);

/// How well one queue is heard. Goes stale by itself. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Hearing(Arc<Mutex<Option<Heard>>>);

#[derive(Debug, Clone, Copy)]
struct Heard {
    since: Time,
    last: Time,
}

impl Hearing {
    /// Notes at `now` whether the subscription is fed and everything that came was dealt with.
    pub fn note(&self, all_heard: bool, now: Time) {
        let mut heard = self.lock();
        *heard = match (all_heard, *heard) {
            (false, _) => None,
            (true, Some(before)) if now.since(before.last) < GAP => Some(Heard { last: now, ..before }),
            (true, _) => Some(Heard { since: now, last: now }),
        };
    }

    /// Whether everything has been heard for at least `length`, without a gap, up to `now`.
    pub fn for_at_least(&self, length: Duration, now: Time) -> bool {
        self.lock().is_some_and(|heard| now.since(heard.last) < GAP && now.since(heard.since) >= length)
    }

    /// Two times that are always set together: a panic elsewhere cannot have left them broken.
    fn lock(&self) -> MutexGuard<'_, Option<Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(30);

    fn at(seconds: i64) -> Time {
        Time::from_millis(seconds * 1000)
    }

    fn heard_each_second(seconds: std::ops::RangeInclusive<i64>) -> Hearing {
        let hearing = Hearing::default();
        seconds.for_each(|second| hearing.note(true, at(second)));
        hearing
    }

    #[test]
    fn it_counts_from_the_moment_it_began() {
        let hearing = heard_each_second(1..=30);
        assert!(!hearing.for_at_least(LEASE, at(30)));
        hearing.note(true, at(31));
        assert!(hearing.for_at_least(LEASE, at(31)));
    }

    #[test]
    fn what_was_not_heard_begins_it_anew() {
        let hearing = heard_each_second(1..=60);
        hearing.note(false, at(61));
        assert!(!hearing.for_at_least(Duration::ZERO, at(61)));
        hearing.note(true, at(62));
        assert!(!hearing.for_at_least(LEASE, at(63)));
    }

    #[test]
    fn whoever_was_frozen_has_heard_nothing() {
        let hearing = heard_each_second(1..=60);
        // The clock has gone on, the process has not.
        assert!(!hearing.for_at_least(LEASE, at(600)));
        hearing.note(true, at(600));
        assert!(!hearing.for_at_least(LEASE, at(601)));
    }
}
