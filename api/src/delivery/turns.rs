/// So many deliveries to one endpoint may be under way.
pub const ROOM: usize = 4;

/// An endpoint that has deliveries which are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ripe {
    /// The number of its row.
    pub webhook: i64,
    pub failing: bool,
    pub slow: bool,
    pub under_way: usize,
}

/// How many deliveries are under way, to all endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    pub total: usize,
    /// To those that fail or are slow.
    pub sluggish: usize,
}

/// So many deliveries of one endpoint go out now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    pub webhook: i64,
    pub most: usize,
}

impl Ripe {
    fn room(&self) -> usize {
        if self.failing { 1 } else { ROOM }
    }

    /// Whether it may well keep its slots for long.
    fn is_sluggish(&self) -> bool {
        self.failing || self.slow
    }
}

/// Which endpoints may have more under way now, and how many. The first of each come first, those that have waited longest
/// before the others (`ripe` is in that order); then the second of each, and so on.
///
/// A healthy endpoint may have [`ROOM`] under way, a failing one a single one; and those that fail or are slow take up no more
/// than half of the `slots` of all workers, however many they are. So whoever hangs holds up himself alone.
pub fn turns(ripe: &[Ripe], load: Load, slots: usize) -> Vec<Turn> {
    let mut free = slots.saturating_sub(load.total);
    let mut free_for_sluggish = (slots / 2).max(1).saturating_sub(load.sluggish);
    let mut taken = vec![0; ripe.len()];
    for round in 1..=ROOM {
        for (of, taken) in ripe.iter().zip(&mut taken) {
            if of.under_way + round > of.room() || free == 0 || (of.is_sluggish() && free_for_sluggish == 0) {
                continue;
            }
            *taken = round;
            free -= 1;
            free_for_sluggish -= usize::from(of.is_sluggish());
        }
    }
    let turn = |(of, most): (&Ripe, usize)| Turn { webhook: of.webhook, most };
    ripe.iter().zip(taken).map(turn).filter(|turn| turn.most > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well(webhook: i64, under_way: usize) -> Ripe {
        Ripe { webhook, failing: false, slow: false, under_way }
    }

    fn failing(webhook: i64, under_way: usize) -> Ripe {
        Ripe { failing: true, ..well(webhook, under_way) }
    }

    fn slow(webhook: i64, under_way: usize) -> Ripe {
        Ripe { slow: true, ..well(webhook, under_way) }
    }

    fn most(ripe: &[Ripe], load: Load, slots: usize) -> Vec<(i64, usize)> {
        turns(ripe, load, slots).into_iter().map(|turn| (turn.webhook, turn.most)).collect()
    }

    #[test]
    fn a_healthy_endpoint_has_several_under_way_and_a_failing_one_a_single_one() {
        let all = [well(1, 0), failing(2, 0), well(3, 3), failing(4, 1), well(5, 4), slow(6, 1)];
        let load = Load { total: 9, sluggish: 2 };
        assert_eq!(most(&all, load, 100), [(1, 4), (2, 1), (3, 1), (6, 3)]);
        // It was healthy when they went out.
        assert_eq!(most(&[failing(6, 4)], load, 100), []);
    }

    #[test]
    fn with_few_slots_each_has_one_before_any_has_two() {
        let all = [well(1, 0), well(2, 0), well(3, 0)];
        assert_eq!(most(&all, Load::default(), 2), [(1, 1), (2, 1)]);
        assert_eq!(most(&all, Load::default(), 4), [(1, 2), (2, 1), (3, 1)]);
        assert_eq!(most(&all, Load { total: 4, sluggish: 0 }, 4), []);
        assert_eq!(most(&all, Load { total: 9, sluggish: 0 }, 4), []);
    }

    #[test]
    fn those_that_fail_or_are_slow_leave_half_of_the_slots_to_the_others() {
        for sluggish in [failing, slow] {
            let many: Vec<_> = (0..100).map(|webhook| sluggish(webhook, 0)).collect();
            assert_eq!(turns(&many, Load::default(), 64).len(), 32);
            assert_eq!(turns(&many, Load { total: 30, sluggish: 30 }, 64).len(), 2);
            let with_one: Vec<_> = many.into_iter().chain([well(100, 0)]).collect();
            assert_eq!(most(&with_one, Load { total: 32, sluggish: 32 }, 64), [(100, 4)]);
        }
        assert_eq!(most(&[failing(1, 0)], Load::default(), 1), [(1, 1)], "a single slot is for all");
        assert_eq!(most(&[failing(1, 0)], Load::default(), 0), []);
    }
}
