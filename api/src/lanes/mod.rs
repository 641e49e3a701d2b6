//! How many jobs of each kind may be out, and whether the broker takes anything at all.

mod lane;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_shared::broker::Line;
use buzzer_shared::kind::Kind;
use buzzer_shared::time::{Clock, Time};
use tokio::sync::{Notify, watch};

use lane::Lane;

use crate::lifecycle::Phase;
use crate::store::Change;

/// What decides which job goes out next: the lanes of all kinds. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lanes(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    lanes: Mutex<HashMap<Kind, Lane>>,
    line: watch::Receiver<Line>,
    clock: Arc<dyn Clock>,
    /// Told whenever a lane may have become hungry.
    hungry: Notify,
}

/// A place in the window, taken before the job is stored. Given back when dropped unused.
#[derive(Debug)]
pub struct Place {
    lanes: Lanes,
    kind: Option<Kind>,
}

impl Lanes {
    pub fn new(line: watch::Receiver<Line>, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Inner { lanes: Mutex::default(), line, clock, hungry: Notify::new() }))
    }

    /// A place for one more job of this kind, if it may go out at once: the line is up, the window has room, and no
    /// job waits that came before.
    pub fn reserve(&self, kind: &Kind) -> Option<Place> {
        if !self.is_line_up() {
            return None;
        }
        let reserved = self.all().get_mut(kind).is_some_and(|lane| lane.reserve(self.now()));
        reserved.then(|| Place { lanes: self.clone(), kind: Some(kind.clone()) })
    }

    /// A job of this kind waits in the store for its turn.
    pub fn waiting(&self, kind: &Kind) {
        if let Some(lane) = self.all().get_mut(kind) {
            lane.waits();
        }
        self.0.hungry.notify_one();
    }

    /// How the line to the broker is.
    pub fn line(&self) -> Line {
        self.0.line.borrow().clone()
    }

    /// Takes note of what became of jobs.
    pub fn changed(&self, changes: &[Change]) {
        let now = self.now();
        let mut lanes = self.all();
        let mut hungry = false;
        for Change { job, was_out } in changes {
            let lane = lanes.entry(job.kind.clone()).or_default();
            match (was_out, job.phase.lease()) {
                (true, None) => lane.leave(matches!(job.phase, Phase::Done(_)), now),
                // A worker has spoken for a job whose lease had ended.
                (false, Some(_)) => lane.out += 1,
                _ => {}
            }
            if job.phase == Phase::Ready {
                lane.waits();
            }
            hungry |= lane.is_hungry(now);
        }
        if hungry {
            self.0.hungry.notify_one();
        }
    }

    /// Tells how many slots the live workers have for each kind. A kind that is not named has none.
    pub fn set_slots(&self, slots: &HashMap<Kind, usize>) {
        let mut lanes = self.all();
        for (kind, lane) in lanes.iter_mut() {
            lane.slots = slots.get(kind).copied().unwrap_or(0);
        }
        for (kind, slots) in slots {
            if !lanes.contains_key(kind) {
                lanes.insert(kind.clone(), Lane::with_slots(*slots));
            }
        }
        drop(lanes);
        self.0.hungry.notify_one();
    }

    /// Tells which kinds are acknowledged before they run.
    pub fn set_early(&self, early: &HashSet<Kind>) {
        for (kind, lane) in self.all().iter_mut() {
            lane.early = early.contains(kind);
        }
    }

    /// The queue of this kind is there: its jobs may go out.
    pub fn open(&self, kind: &Kind) {
        let mut lanes = self.all();
        let lane = lanes.entry(kind.clone()).or_default();
        lane.refusal = None;
        if !lane.open {
            lane.open = true;
            lane.waits();
        }
        drop(lanes);
        self.0.hungry.notify_one();
    }

    /// The broker refused to make the queue of this kind.
    pub fn refused(&self, kind: &Kind, reason: String) {
        self.all().entry(kind.clone()).or_default().refusal = Some(reason);
    }

    /// Why this kind has no queue, where the broker refused it.
    pub fn refusal(&self, kind: &Kind) -> Option<String> {
        self.all().get(kind).and_then(|lane| lane.refusal.clone())
    }

    /// The broker sent a request of this kind back.
    pub fn rest(&self, kind: &Kind) {
        let now = self.now();
        if let Some(lane) = self.all().get_mut(kind) {
            lane.rest(now);
        }
    }

    /// Corrects the count of what is out by the store's, which knows what other replicas and earlier processes did.
    pub fn reconcile(&self, out: &HashMap<Kind, usize>) {
        for (kind, lane) in self.all().iter_mut() {
            lane.out = out.get(kind).copied().unwrap_or(0);
        }
    }

    /// The kinds that have room, with how much. `probe` includes those that are thought to have nothing waiting.
    pub fn rooms(&self, probe: bool) -> Vec<(Kind, usize)> {
        if !self.is_line_up() {
            return Vec::new();
        }
        let now = self.now();
        let mut lanes = self.all();
        let hungry = lanes.iter_mut().filter(|(_, lane)| lane.is_hungry(now) || (probe && lane.room(now) > 0));
        hungry.map(|(kind, lane)| (kind.clone(), lane.ask(now))).collect()
    }

    /// Takes note of a claim: `claimed` jobs went out where `room` was asked for.
    pub fn claimed(&self, kind: &Kind, claimed: usize, room: usize) {
        if let Some(lane) = self.all().get_mut(kind) {
            lane.claimed(claimed, room);
        }
    }

    /// Ends once a lane may have become hungry.
    pub async fn hungry(&self) {
        self.0.hungry.notified().await;
    }

    /// How many jobs of all kinds are thought to be out, for tests of the whole.
    #[cfg(feature = "conformance")]
    pub fn out(&self) -> usize {
        self.all().values().map(|lane| lane.out).sum()
    }

    /// Whether the queue of this kind is there.
    pub fn is_open(&self, kind: &Kind) -> bool {
        self.all().get(kind).is_some_and(|lane| lane.open)
    }

    /// Whether there is a worker for this kind now.
    pub fn has_worker(&self, kind: &Kind) -> bool {
        self.all().get(kind).is_some_and(|lane| lane.slots > 0)
    }

    /// Whether a job of this kind that waits goes out now.
    pub fn has_room(&self, kind: &Kind) -> bool {
        let now = self.now();
        self.all().get(kind).is_some_and(|lane| lane.room(now) > 0)
    }

    pub fn is_line_up(&self) -> bool {
        *self.0.line.borrow() == Line::Up
    }

    fn now(&self) -> Time {
        self.0.clock.now()
    }

    /// The map is whole after every operation, so a panic elsewhere cannot have left it broken.
    fn all(&self) -> MutexGuard<'_, HashMap<Kind, Lane>> {
        self.0.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The job is out, and its place is its own.
    pub fn taken(mut self) {
        self.kind = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(kind) = self.kind.take()
            && let Some(lane) = self.lanes.all().get_mut(&kind)
        {
            lane.leave(false, self.lanes.now());
        }
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::time::ManualClock;

    use super::*;

    fn lanes(line: Line) -> (Lanes, Kind) {
        let clock = Arc::new(ManualClock::at(Time::from_millis(1_000_000)));
        let lanes = Lanes::new(watch::channel(line).1, clock);
        let echo: Kind = "echo".parse().unwrap();
        lanes.set_slots(&HashMap::from([(echo.clone(), 2)]));
        lanes.open(&echo);
        // The store was asked, and has nobody who waits.
        lanes.all().get_mut(&echo).unwrap().ask(Time::from_millis(1_000_000));
        lanes.claimed(&echo, 0, 2);
        (lanes, echo)
    }

    #[test]
    fn a_place_that_is_not_used_is_given_back() {
        let (lanes, echo) = lanes(Line::Up);
        let first = lanes.reserve(&echo).unwrap();
        let second = lanes.reserve(&echo).unwrap();
        assert!(lanes.reserve(&echo).is_none());
        drop(first);
        second.taken();
        assert!(lanes.reserve(&echo).is_some());
        assert_eq!(lanes.rooms(true), [(echo, 1)]);
    }

    #[test]
    fn nothing_goes_out_while_the_broker_is_away() {
        let (lanes, echo) = lanes(Line::Away("refused".into()));
        assert!(lanes.reserve(&echo).is_none());
        assert!(lanes.rooms(true).is_empty());
    }

    #[test]
    fn a_kind_whose_workers_are_gone_has_no_room() {
        let (lanes, echo) = lanes(Line::Up);
        lanes.set_slots(&HashMap::new());
        assert!(lanes.reserve(&echo).is_none());
        assert!(!lanes.has_worker(&echo));
    }
}
