use std::collections::{BTreeMap, HashMap};

use super::FeedRange;

/// Which numbers of the tenants' feeds this replica knows of, by its own doing or by the word of others.
#[derive(Debug, Default)]
pub(in super::super) struct Coverage {
    feeds: HashMap<i64, Feed>,
    /// Whether it has ever been looked. What was there before is of no interest to anybody here.
    looked: bool,
}

#[derive(Debug, Default)]
struct Feed {
    /// All numbers up to this one are known of.
    known: i64,
    /// Ranges beyond, each from after its key to its value.
    ahead: BTreeMap<i64, i64>,
    /// How far the feed was at the last look.
    seen: i64,
}

impl Coverage {
    /// Somebody has spoken of these numbers.
    pub(super) fn note(&mut self, range: FeedRange) {
        let feed = self.feeds.entry(range.tenant).or_default();
        let last = feed.ahead.entry(range.after).or_default();
        *last = range.last.max(*last);
        feed.join();
    }

    /// How far each tenant's feed is now. Tells what was there at the last look already, and nobody has spoken of since;
    /// it counts as known from now on.
    pub(super) fn look(&mut self, feeds: &[(i64, i64)]) -> Vec<FeedRange> {
        let first = !std::mem::replace(&mut self.looked, true);
        let mut unheard = Vec::new();
        for (tenant, last) in feeds {
            let feed = self.feeds.entry(*tenant).or_default();
            if first {
                feed.known = feed.known.max(*last);
                feed.join();
            }
            if feed.known < feed.seen {
                unheard.push(FeedRange { tenant: *tenant, after: feed.known, last: feed.seen });
                feed.known = feed.seen;
                feed.join();
            }
            feed.seen = *last;
        }
        unheard
    }
}

impl Feed {
    /// Takes in the ranges that begin where the known ones end.
    fn join(&mut self) {
        while let Some(entry) = self.ahead.first_entry()
            && *entry.key() <= self.known
        {
            self.known = self.known.max(entry.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(after: i64, last: i64) -> FeedRange {
        FeedRange { tenant: 1, after, last }
    }

    /// A replica that has come up when the feed was at 10.
    fn at_ten() -> Coverage {
        let mut coverage = Coverage::default();
        assert_eq!(coverage.look(&[(1, 10)]), []);
        coverage
    }

    #[test]
    fn what_was_told_is_not_looked_for() {
        let mut coverage = at_ten();
        coverage.note(range(12, 15));
        coverage.note(range(10, 12));
        assert_eq!(coverage.look(&[(1, 15)]), []);
        assert_eq!(coverage.look(&[(1, 15)]), []);
    }

    #[test]
    fn what_is_still_on_its_way_has_a_second() {
        let mut coverage = at_ten();
        assert_eq!(coverage.look(&[(1, 15)]), []);
        coverage.note(range(10, 15));
        assert_eq!(coverage.look(&[(1, 20)]), []);
    }

    #[test]
    fn what_nobody_told_is_found_once() {
        let mut coverage = at_ten();
        coverage.note(range(12, 15));
        assert_eq!(coverage.look(&[(1, 15)]), []);
        assert_eq!(coverage.look(&[(1, 15)]), [range(10, 15)]);
        assert_eq!(coverage.look(&[(1, 15)]), []);
    }

    #[test]
    fn a_tenant_that_is_new_has_its_first_event_found() {
        let mut coverage = at_ten();
        coverage.look(&[(1, 10), (2, 3)]);
        assert_eq!(coverage.look(&[(1, 10), (2, 3)]), [FeedRange { tenant: 2, after: 0, last: 3 }]);
    }
}
