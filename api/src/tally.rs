//! Counts what was ignored, by its reason.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::lifecycle::Ignored;

/// How many events changed nothing since this replica started. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ignored: [AtomicU64; Ignored::ALL.len()],
    unknown_job: AtomicU64,
    unreadable: AtomicU64,
}

impl Tally {
    pub fn ignored(&self, reason: Ignored) {
        if let Some(at) = Ignored::ALL.iter().position(|known| *known == reason) {
            self.0.ignored[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn unknown_job(&self) {
        self.0.unknown_job.fetch_add(1, Ordering::Relaxed);
    }

    /// A signal or a pulse that nobody can read, or that nobody believes. It may be lost, so it is not parked.
    pub fn unreadable(&self) {
        self.0.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// Every reason with its count, also those that never came up.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let ignored = Ignored::ALL.iter().zip(&self.0.ignored).map(|(reason, count)| (reason.as_str(), load(count)));
        let others = [("unknown_job", load(&self.0.unknown_job)), ("unreadable", load(&self.0.unreadable))];
        ignored.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_apart() {
        let tally = Tally::default();
        Ignored::ALL.into_iter().chain([Ignored::Done]).for_each(|reason| tally.ignored(reason));
        tally.unknown_job();
        let counts = tally.counts();
        assert_eq!((counts["done"], counts["old_dispatch"], counts["unknown_job"]), (2, 1, 1));
        assert_eq!(counts.len(), Ignored::ALL.len() + 2);
    }
}
