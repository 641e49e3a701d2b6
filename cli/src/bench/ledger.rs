use std::collections::HashMap;
use std::time::Instant;

use buzzer_shared::id::JobId;

/// Which jobs are ours and not done yet.
///
/// The feed may tell of a job before the answer to its submission has told its id; and it tells of jobs of others,
/// whose submissions are never answered here.
#[derive(Debug, Default)]
pub struct Ledger {
    waiting: HashMap<JobId, Instant>,
    /// Told of, and nobody's yet. Those of others stay, at some forty bytes each.
    early: HashMap<JobId, End>,
}

/// How a job ended, and when that was known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    pub at: Instant,
    pub succeeded: bool,
}

impl Ledger {
    /// A job that should have begun at `since` is ours. Tells its end, if that is known already.
    pub fn accept(&mut self, id: JobId, since: Instant) -> Option<End> {
        let end = self.early.remove(&id);
        if end.is_none() {
            self.waiting.insert(id, since);
        }
        end
    }

    /// A job is done, ours or not. Tells since when, if it is known to be ours.
    pub fn end(&mut self, id: JobId, end: End) -> Option<Instant> {
        let since = self.waiting.remove(&id);
        if since.is_none() {
            self.early.insert(id, end);
        }
        since
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::time::Time;

    use super::*;

    #[test]
    fn the_end_may_be_known_before_the_answer_and_after_it() {
        let (id, now) = (JobId::new(Time::from_millis(1)), Instant::now());
        let end = End { at: now, succeeded: true };
        let mut ledger = Ledger::default();
        assert_eq!(ledger.accept(id, now), None);
        assert_eq!(ledger.end(id, end), Some(now));

        let next = JobId::new(Time::from_millis(1));
        assert_eq!(ledger.end(next, end), None);
        assert_eq!(ledger.accept(next, now), Some(end));
        // Told of once more, after a feed was cut: counted once.
        assert_eq!(ledger.end(next, end), None);
    }
}
