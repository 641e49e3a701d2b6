//! When what goes wrong, from a seed: the same seed over the same faults is the same schedule.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fault::{Fault, Subject};

/// One strike in this many is of two faults at once.
const PAIRS: u32 = 4;
const SHORTEST_HOLD: Duration = Duration::from_millis(300);

/// How fast strikes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The longest calm before a strike.
    pub calm: Duration,
    /// The longest that a fault is held.
    pub hold: Duration,
}

/// What goes wrong at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Strike {
    /// How long after the one before has healed.
    pub calm: Duration,
    /// One, or two about different things.
    pub faults: Vec<Fault>,
    /// How long before they are healed.
    pub hold: Duration,
}

/// An endless row of strikes. What is struck is drawn first, since there are more lines to disturb than parts to kill;
/// each fault comes once before another about the same comes again.
#[derive(Debug)]
pub struct Schedule {
    dice: fastrand::Rng,
    decks: Vec<Deck>,
    pace: Pace,
}

/// The faults about one thing.
#[derive(Debug)]
struct Deck {
    subject: Subject,
    all: Vec<Fault>,
    left: Vec<Fault>,
}

impl Deck {
    fn draw(&mut self, dice: &mut fastrand::Rng) -> Option<Fault> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
            dice.shuffle(&mut self.left);
        }
        self.left.pop()
    }
}

impl Schedule {
    /// Of these faults.
    pub fn new(seed: u64, faults: &[Fault], pace: Pace) -> Self {
        let subjects: BTreeSet<_> = faults.iter().map(|fault| fault.subject()).collect();
        let deck = |subject| {
            let all = faults.iter().copied().filter(|fault| fault.subject() == subject).collect();
            Deck { subject, all, left: Vec::new() }
        };
        Self { dice: fastrand::Rng::with_seed(seed), decks: subjects.into_iter().map(deck).collect(), pace }
    }

    /// A fault about something else than `not`.
    fn draw(&mut self, not: Option<Subject>) -> Option<Fault> {
        let mut decks: Vec<_> = self.decks.iter_mut().filter(|deck| Some(deck.subject) != not).collect();
        let chosen = self.dice.usize(..decks.len().max(1));
        decks.get_mut(chosen)?.draw(&mut self.dice)
    }

    fn length(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let span = longest.saturating_sub(shortest);
        // Whole milliseconds: they are written down.
        Duration::from_millis(u64::try_from((shortest + span.mul_f64(self.dice.f64())).as_millis()).unwrap_or(u64::MAX))
    }
}

impl Iterator for Schedule {
    type Item = Strike;

    fn next(&mut self) -> Option<Strike> {
        let first = self.draw(None)?;
        let mut faults = vec![first];
        if self.dice.u32(..PAIRS) == 0 {
            faults.extend(self.draw(Some(first.subject())));
        }
        // In the order in which they are healed.
        faults.sort_by_key(|fault| fault.subject());
        let calm = self.length(Duration::ZERO, self.pace.calm);
        let hold = self.length(SHORTEST_HOLD, self.pace.hold);
        let hold = if faults.iter().all(|fault| fault.is_instant()) { Duration::ZERO } else { hold };
        Some(Strike { calm, faults, hold })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::nemesis::fault::{BrokerAccess, Shape};

    const PACE: Pace = Pace { calm: Duration::from_secs(2), hold: Duration::from_secs(10) };

    fn faults() -> Vec<Fault> {
        let shape = Shape {
            apis: 2,
            workers: 2,
            spare_worker: true,
            broker: BrokerAccess::Owned,
            postgres: true,
            proxy: true,
            lines: true,
            networks: true,
            store_disk: false,
            broker_disk: true,
            clocks: false,
        };
        shape.faults()
    }

    fn strikes(seed: u64, count: usize) -> Vec<Strike> {
        Schedule::new(seed, &faults(), PACE).take(count).collect()
    }

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(strikes(7, 300), strikes(7, 300));
        assert_ne!(strikes(7, 300), strikes(8, 300));
    }

    #[test]
    fn each_fault_comes_once_before_another_about_the_same_comes_again() {
        let mut seen: HashMap<Fault, usize> = HashMap::new();
        for fault in strikes(1, 2000).into_iter().flat_map(|strike| strike.faults) {
            *seen.entry(fault).or_default() += 1;
        }
        for subject in
            [Subject::Store, Subject::Broker, Subject::Lines, Subject::Apis, Subject::Workers, Subject::Proxy]
        {
            let faults = faults().into_iter().filter(|fault| fault.subject() == subject);
            let counts: Vec<_> = faults.map(|fault| seen.get(&fault).copied().unwrap_or_default()).collect();
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*least > 1 && most - least <= 1, "{subject:?}: {counts:?}");
        }
    }

    #[test]
    fn two_at_once_are_about_different_things_and_heal_in_order() {
        let pairs: Vec<_> = strikes(3, 500).into_iter().filter(|strike| strike.faults.len() > 1).collect();
        assert!(pairs.len() > 50);
        for strike in pairs {
            let subjects: Vec<Subject> = strike.faults.iter().map(|fault| fault.subject()).collect();
            assert!(subjects.len() == 2 && subjects[0] < subjects[1], "{strike:?}");
        }
    }

    #[test]
    fn lengths_stay_within_the_pace() {
        for strike in strikes(5, 500) {
            assert!(strike.calm <= PACE.calm && strike.hold <= PACE.hold, "{strike:?}");
        }
    }

    #[test]
    fn without_faults_there_is_no_strike() {
        assert_eq!(Schedule::new(1, &[], PACE).next(), None);
    }
}
