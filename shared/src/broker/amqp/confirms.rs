//! Which published messages the broker answers for. Pure: who was sent, which confirms were seen, what follows.
//!
//! RabbitMQ tells "no queue took this" by a `basic.return` ahead of the confirm. lapin keeps returns in one line per
//! channel and hands the first of it to whichever confirm comes next; with one confirm for many messages that is
//! often the wrong one. So a return counts for the message that it names, and nothing else tells whose it is:
//!
//! - A confirm that came *without* a return saw the line empty. A return of its message was therefore taken by a
//!   confirm that resolved earlier. Not necessarily one that we have *seen* earlier: hence the barrier. It is put at
//!   the end of the line of futures that are ready; once it comes out, all is seen that resolved before it was put
//!   there.
//! - A confirm that came *with* another's return says nothing about its own message: that one's return may still
//!   stand in line. It is open until a later confirm saw the line empty, or everything has resolved that was in
//!   flight beside it; and then for one barrier more.
//!
//! Under load as at rest that costs one turn of the loop, never a wait for other messages.

use std::collections::BTreeMap;
use std::sync::Arc;

/// What a return tells of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) exchange: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) message_id: Option<String>,
}

/// What came of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    Refused,
    /// With the broker's words.
    Returned(String),
}

/// What one confirm said.
#[derive(Debug)]
pub(super) struct Confirm {
    pub(super) kept: bool,
    /// The return that lapin handed out with it, and the broker's words.
    pub(super) returned: Option<(Address, String)>,
}

/// The messages of one confirm channel. `T` waits for the verdict.
#[derive(Debug)]
pub(super) struct Confirms<T> {
    next: u64,
    /// How many barriers were put up.
    round: u64,
    barrier_out: bool,
    /// In this round something came that a barrier would settle.
    news: bool,
    /// No confirm seen yet.
    open: BTreeMap<u64, Sent<T>>,
    /// Confirm seen, no barrier since.
    seen: BTreeMap<u64, Seen<T>>,
    /// A barrier later, and still nobody knows.
    unsure: Vec<Unsure<T>>,
    /// Returns whose message's confirm was not seen yet.
    returns: Vec<(Address, String)>,
}

#[derive(Debug)]
struct Sent<T> {
    /// `None` once nobody waits any more.
    waiting: Option<T>,
    address: Address,
}

#[derive(Debug)]
struct Seen<T> {
    sent: Sent<T>,
    kept: bool,
    returned: Option<String>,
    /// After the next barrier.
    certain: bool,
    /// In which round.
    round: u64,
    /// Everything that was in flight beside it has a lower number.
    horizon: u64,
}

#[derive(Debug)]
struct Unsure<T> {
    seen: Seen<T>,
    /// The round in which its return had left the line, if there was one.
    cleared: Option<u64>,
}

impl<T> Default for Confirms<T> {
    fn default() -> Self {
        Self {
            next: 0,
            round: 0,
            barrier_out: false,
            news: false,
            open: BTreeMap::new(),
            seen: BTreeMap::new(),
            unsure: Vec::new(),
            returns: Vec::new(),
        }
    }
}

impl<T> Confirms<T> {
    /// A message goes out; its number.
    pub(super) fn send(&mut self, address: Address, waiting: T) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Sent { waiting: Some(waiting), address });
        number
    }

    /// The confirm of message `number` was seen.
    pub(super) fn confirm(&mut self, number: u64, confirm: Confirm) {
        self.news = true;
        let line_was_empty = confirm.returned.is_none();
        let sent = self.open.remove(&number);
        let mut own = None;
        match (confirm.returned, &sent) {
            (Some((address, words)), Some(sent)) if address == sent.address => own = Some(words),
            (other, _) => self.returns.extend(other),
        }
        if let Some(sent) = sent {
            let (kept, round, horizon) = (confirm.kept, self.round, self.next);
            let certain = line_was_empty || own.is_some();
            self.seen.insert(number, Seen { sent, kept, returned: own, certain, round, horizon });
        }
        self.clear(line_was_empty);
    }

    /// Whether a barrier is to be put behind all futures that are ready now.
    pub(super) fn wants_barrier(&mut self) -> bool {
        let wanted = self.news && !self.barrier_out;
        if wanted {
            self.round += 1;
            self.news = false;
            self.barrier_out = true;
        }
        wanted
    }

    /// The barrier came out: what is certain now.
    pub(super) fn barrier(&mut self) -> Vec<(T, Verdict)> {
        self.barrier_out = false;
        let round = self.round;
        let cleared = |unsure: &mut Unsure<T>| unsure.cleared.is_some_and(|cleared| cleared < round);
        let mut certain: Vec<_> = self.unsure.extract_if(.., cleared).map(|unsure| unsure.seen).collect();
        for (_, seen) in self.seen.extract_if(.., |_, seen| seen.round < round) {
            if seen.certain {
                certain.push(seen);
            } else {
                self.unsure.push(Unsure { seen, cleared: None });
            }
        }
        self.match_returns(&mut certain);
        self.clear(false);
        certain.into_iter().filter_map(Seen::into_verdict).collect()
    }

    /// Notes for whom the line was seen empty, or has moved past everything that was in flight beside them.
    fn clear(&mut self, line_was_empty: bool) {
        let oldest_open = self.open.keys().next().copied().unwrap_or(u64::MAX);
        for unsure in self.unsure.iter_mut().filter(|unsure| unsure.cleared.is_none()) {
            if line_was_empty || unsure.seen.horizon <= oldest_open {
                unsure.cleared = Some(self.round);
                self.news = true;
            }
        }
    }

    /// Gives up on what fits, oldest first and up to the first that does not: returns who waited for it. Its confirm
    /// may still come.
    pub(super) fn give_up_while(&mut self, mut fits: impl FnMut(&T) -> bool) -> Vec<(Address, T)> {
        let mut given_up = Vec::new();
        for sent in self.open.values_mut().filter(|sent| sent.waiting.is_some()) {
            if !sent.waiting.as_ref().is_some_and(&mut fits) {
                break;
            }
            given_up.extend(sent.waiting.take().map(|waiting| (sent.address.clone(), waiting)));
        }
        given_up
    }

    /// How many messages have no confirm though nobody waits for it any more.
    pub(super) fn given_up(&self) -> usize {
        self.open.values().filter(|sent| sent.waiting.is_none()).count()
    }

    /// Nothing more will come: who still waits.
    pub(super) fn abandon(self) -> Vec<T> {
        let seen = self.seen.into_values().map(|seen| seen.sent);
        let unsure = self.unsure.into_iter().map(|unsure| unsure.seen.sent);
        self.open.into_values().chain(seen).chain(unsure).filter_map(|sent| sent.waiting).collect()
    }

    /// Gives each return to the message that it names. Of messages that share an address (they share its fate too)
    /// those that are certain now take first: their own return has been seen, whoever brought it.
    fn match_returns(&mut self, certain: &mut Vec<Seen<T>>) {
        for (address, words) in std::mem::take(&mut self.returns) {
            let named = |seen: &&mut Seen<T>| seen.returned.is_none() && seen.sent.address == address;
            if let Some(seen) = certain.iter_mut().find(named) {
                seen.returned = Some(words);
                continue;
            }
            let waiting = self.open.values().chain(self.seen.values().map(|seen| &seen.sent));
            let waiting = waiting.filter(|sent| sent.address == address).count();
            let unsure = |unsure: &Unsure<T>| unsure.seen.sent.address == address;
            let first = self.unsure.iter().position(unsure);
            match first {
                Some(only) if waiting == 0 && !self.unsure[only + 1..].iter().any(unsure) => {
                    let mut seen = self.unsure.swap_remove(only).seen;
                    seen.returned = Some(words);
                    certain.push(seen);
                }
                None if waiting == 0 => {}
                _ => self.returns.push((address, words)),
            }
        }
    }
}

impl<T> Seen<T> {
    fn into_verdict(self) -> Option<(T, Verdict)> {
        let verdict = match self.returned {
            Some(words) => Verdict::Returned(words),
            None if self.kept => Verdict::Kept,
            None => Verdict::Refused,
        };
        self.sent.waiting.map(|waiting| (waiting, verdict))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet, VecDeque};

    use proptest::prelude::*;

    use super::*;

    fn address(id: &str) -> Address {
        Address { exchange: "x".into(), key: "k".into(), message_id: Some(id.into()) }
    }

    fn alone() -> Confirm {
        Confirm { kept: true, returned: None }
    }

    fn with(id: &str) -> Confirm {
        Confirm { kept: true, returned: Some((address(id), "NO_ROUTE".into())) }
    }

    /// One turn of the loop.
    fn settle<T>(confirms: &mut Confirms<T>) -> Vec<(T, Verdict)> {
        assert!(confirms.wants_barrier());
        confirms.barrier()
    }

    #[test]
    fn a_lone_message_is_answered_at_once() {
        let mut confirms = Confirms::default();
        let number = confirms.send(address("a"), 'a');
        confirms.confirm(number, alone());
        assert_eq!(settle(&mut confirms), [('a', Verdict::Kept)]);
        assert!(!confirms.wants_barrier());
    }

    #[test]
    fn an_unanswered_neighbour_holds_nobody_up() {
        let mut confirms = Confirms::default();
        confirms.send(address("stuck"), 's');
        let number = confirms.send(address("a"), 'a');
        confirms.confirm(number, alone());
        assert_eq!(settle(&mut confirms), [('a', Verdict::Kept)]);
    }

    #[test]
    fn a_return_counts_for_the_message_that_it_names() {
        let mut confirms = Confirms::default();
        let good = confirms.send(address("good"), "good");
        let bad = confirms.send(address("bad"), "bad");
        confirms.confirm(good, with("bad"));
        confirms.confirm(bad, alone());
        assert_eq!(settle(&mut confirms), [("bad", Verdict::Returned("NO_ROUTE".into()))]);
        assert_eq!(settle(&mut confirms), [("good", Verdict::Kept)]);
    }

    #[test]
    fn a_return_that_is_seen_late_still_counts() {
        let mut confirms = Confirms::default();
        let good = confirms.send(address("good"), "good");
        let bad = confirms.send(address("bad"), "bad");
        confirms.confirm(bad, alone());
        confirms.confirm(good, with("bad"));
        assert!(settle(&mut confirms).contains(&("bad", Verdict::Returned("NO_ROUTE".into()))));
    }

    #[test]
    fn a_confirm_with_a_foreign_return_waits_for_its_own() {
        let mut confirms = Confirms::default();
        let first = confirms.send(address("first"), 1);
        let second = confirms.send(address("second"), 2);
        confirms.confirm(first, with("second"));
        assert_eq!(settle(&mut confirms), []);
        confirms.confirm(second, with("first"));
        let verdicts = settle(&mut confirms);
        assert_eq!(verdicts.len(), 2);
        assert!(verdicts.iter().all(|(_, verdict)| matches!(verdict, Verdict::Returned(_))));
    }

    #[test]
    fn who_is_given_up_is_told_once() {
        let mut confirms = Confirms::default();
        let number = confirms.send(address("a"), 'a');
        confirms.send(address("b"), 'b');
        assert_eq!(confirms.give_up_while(|name| *name == 'a'), [(address("a"), 'a')]);
        assert_eq!(confirms.given_up(), 1);
        confirms.confirm(number, alone());
        assert_eq!(settle(&mut confirms), []);
        assert_eq!(confirms.given_up(), 0);
        assert_eq!(confirms.abandon(), ['b']);
    }

    /// lapin and the broker, as their sources say: a line of returns, confirms resolved in any order, and a line of
    /// futures that are ready, where a new one stands already when it has not been polled at all.
    #[derive(Default)]
    struct Wire {
        unconfirmed: Vec<u64>,
        ids: HashMap<u64, u8>,
        returns_sent: HashSet<u64>,
        line: VecDeque<u8>,
        resolved: HashMap<u64, Option<u8>>,
        ready: VecDeque<Ready>,
    }

    #[derive(Clone, Copy, PartialEq)]
    enum Ready {
        Future(u64),
        Barrier,
    }

    /// Ids that divide by three are routed nowhere.
    fn unroutable(id: u8) -> bool {
        id.is_multiple_of(3)
    }

    impl Wire {
        fn send(&mut self, number: u64, id: u8) {
            self.unconfirmed.push(number);
            self.ids.insert(number, id);
            self.ready.push_back(Ready::Future(number));
        }

        fn return_one(&mut self, pick: usize) {
            let due: Vec<u64> = self.unconfirmed.iter().copied().collect();
            let mut due = due.into_iter().filter(|n| unroutable(self.ids[n]) && !self.returns_sent.contains(n));
            if let Some(number) = due.nth(pick % 4) {
                self.returns_sent.insert(number);
                self.line.push_back(self.ids[&number]);
            }
        }

        /// One `basic.ack` for several messages, resolved in an order of lapin's own.
        fn acknowledge(&mut self, count: usize, order: usize) {
            for turn in 0..count {
                let due: Vec<u64> = self
                    .unconfirmed
                    .iter()
                    .copied()
                    .filter(|n| !unroutable(self.ids[n]) || self.returns_sent.contains(n))
                    .collect();
                if due.is_empty() {
                    return;
                }
                let number = due[(order + turn * 7) % due.len()];
                self.unconfirmed.retain(|n| *n != number);
                let returned = self.line.pop_front();
                self.resolved.insert(number, returned);
                if !self.ready.contains(&Ready::Future(number)) {
                    self.ready.push_back(Ready::Future(number));
                }
            }
        }
    }

    fn turn(wire: &mut Wire, confirms: &mut Confirms<u64>, verdicts: &mut HashMap<u64, Verdict>) {
        match wire.ready.pop_front() {
            Some(Ready::Future(number)) => {
                if let Some(returned) = wire.resolved.remove(&number) {
                    let returned = returned.map(|id| (address(&id.to_string()), "NO_ROUTE".into()));
                    confirms.confirm(number, Confirm { kept: true, returned });
                }
            }
            Some(Ready::Barrier) => {
                for (number, verdict) in confirms.barrier() {
                    assert_eq!(verdicts.insert(number, verdict), None, "answered twice");
                }
            }
            None => {}
        }
        if confirms.wants_barrier() {
            wire.ready.push_back(Ready::Barrier);
        }
    }

    proptest! {
        #[test]
        fn every_verdict_is_true(steps in prop::collection::vec((0u8..5, any::<u8>(), 0usize..40), 1..400)) {
            let (mut wire, mut confirms) = (Wire::default(), Confirms::default());
            let (mut verdicts, mut sent) = (HashMap::new(), 0);
            for (step, id, pick) in steps {
                match step {
                    0 | 1 => {
                        let number = confirms.send(address(&id.to_string()), sent);
                        wire.send(number, id);
                        sent += 1;
                    }
                    2 => wire.return_one(pick),
                    3 => wire.acknowledge(pick % 6, pick),
                    _ => for _ in 0..pick { turn(&mut wire, &mut confirms, &mut verdicts); },
                }
            }
            while wire.unconfirmed.iter().any(|n| unroutable(wire.ids[n]) && !wire.returns_sent.contains(n)) {
                wire.return_one(0);
            }
            wire.acknowledge(wire.unconfirmed.len(), 3);
            while !wire.ready.is_empty() {
                turn(&mut wire, &mut confirms, &mut verdicts);
            }
            prop_assert_eq!(verdicts.len() as u64, sent);
            for (number, verdict) in verdicts {
                let returned = matches!(verdict, Verdict::Returned(_));
                prop_assert_eq!(returned, unroutable(wire.ids[&number]));
            }
        }
    }
}
