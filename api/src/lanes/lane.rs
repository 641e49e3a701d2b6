//! How many jobs of one kind may be out. Pure: the present comes in as an argument.

use std::time::Duration;

use buzzer_shared::time::Time;

/// After the broker sent a request back, its kind rests so long: its queue is being made again.
const REST: Duration = Duration::from_secs(1);
/// What lies ahead is filled up once so great a part of it is gone: one in four.
const REFILL: usize = 4;

/// One kind's share of the broker.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// How many runs the live workers take on at a time. No live worker: nothing goes out.
    pub slots: usize,
    /// Whether its queue is there.
    pub open: bool,
    /// Whether its requests are acknowledged before they run: then more than there are slots would only wait on the
    /// broker, and what runs at most once would be lost there.
    pub early: bool,
    /// Why its queue is not there, where the broker refused it.
    pub refusal: Option<String>,
    /// How many of its jobs are out.
    pub out: usize,
    /// Whether the store may hold jobs that wait for their turn. While it does, no newcomer passes them.
    pub backlog: bool,
    /// Whether somebody came to wait since the store was last asked.
    newcomers: bool,
    completions: Rate,
    rests_until: Option<Time>,
}

impl Lane {
    /// A lane whose backlog is not known yet, and whose queue is not there.
    pub fn with_slots(slots: usize) -> Self {
        Self { slots, backlog: true, ..Self::default() }
    }

    /// How many more may go out now. The window is what the slots hold and what was completed in the last second, so
    /// that a fast kind never waits for the next claim, and a slow one keeps its backlog in the store.
    pub fn room(&self, now: Time) -> usize {
        let resting = self.rests_until.is_some_and(|until| now < until);
        if self.slots == 0 || !self.open || resting {
            return 0;
        }
        (self.slots + self.ahead(now)).saturating_sub(self.out)
    }

    /// How many may be out besides those that the slots hold.
    fn ahead(&self, now: Time) -> usize {
        if self.early { 0 } else { self.completions.in_last_second(now) }
    }

    /// Takes a place for a job that is not in the store yet.
    pub fn reserve(&mut self, now: Time) -> bool {
        let free = !self.backlog && self.room(now) > 0;
        if free {
            self.out += 1;
        }
        free
    }

    /// A job that was out is no longer; `done` when it is because it has ended.
    pub fn leave(&mut self, done: bool, now: Time) {
        self.out = self.out.saturating_sub(1);
        if done {
            self.completions.count(now);
        }
    }

    /// A job waits in the store for its turn.
    pub fn waits(&mut self) {
        self.backlog = true;
        self.newcomers = true;
    }

    /// The store is asked now: how many may come.
    pub fn ask(&mut self, now: Time) -> usize {
        self.newcomers = false;
        self.room(now)
    }

    /// The store gave `claimed` jobs of `asked`. Fewer means that no other waits, but for who came meanwhile.
    pub fn claimed(&mut self, claimed: usize, asked: usize) {
        self.out += claimed;
        self.backlog = claimed == asked || self.newcomers;
    }

    pub fn rest(&mut self, now: Time) {
        self.rests_until = Some(now + REST);
    }

    /// Whether there may be something to send, and room that is worth it: for a slot that would stand idle, or for a
    /// good part of what lies ahead. One at a time, whenever one is done, each step of their road would be made for a
    /// few, in the store, on RabbitMQ and in the workers.
    pub fn is_hungry(&self, now: Time) -> bool {
        let room = self.room(now);
        self.backlog && room > 0 && (self.out < self.slots || room >= self.ahead(now) / REFILL)
    }
}

/// Counts what happened in the last second: this second's count, and as much of the last one's as still matters.
#[derive(Debug, Default)]
struct Rate {
    second: i64,
    this: usize,
    last: usize,
}

impl Rate {
    fn count(&mut self, now: Time) {
        self.turn(now);
        self.this += 1;
    }

    fn in_last_second(&self, now: Time) -> usize {
        match now.as_millis().div_euclid(1000) - self.second {
            0 => self.this.max(self.last),
            1 => self.this,
            _ => 0,
        }
    }

    fn turn(&mut self, now: Time) {
        let second = now.as_millis().div_euclid(1000);
        if second != self.second {
            self.last = if second == self.second + 1 { self.this } else { 0 };
            self.this = 0;
            self.second = second;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open_lane(slots: usize) -> Lane {
        Lane { slots, open: true, ..Lane::default() }
    }

    #[test]
    fn no_live_worker_means_no_room() {
        assert_eq!(open_lane(0).room(Time::from_millis(0)), 0);
        assert_eq!(Lane { open: false, ..open_lane(8) }.room(Time::from_millis(0)), 0);
    }

    #[test]
    fn the_window_is_the_slots_and_the_completions_of_the_last_second() {
        let mut lane = open_lane(8);
        lane.out = 5;
        assert_eq!(lane.room(Time::from_millis(10_000)), 3);
        for _ in 0..4 {
            lane.leave(true, Time::from_millis(10_000));
        }
        assert_eq!(lane.room(Time::from_millis(10_500)), 8 + 4 - 1);
        assert_eq!(lane.room(Time::from_millis(11_500)), 8 + 4 - 1);
        assert_eq!(lane.room(Time::from_millis(12_000)), 8 - 1);
        lane.early = true;
        assert_eq!(lane.room(Time::from_millis(10_500)), 8 - 1);
    }

    #[test]
    fn what_lies_ahead_is_filled_up_in_good_parts_and_a_free_slot_at_once() {
        let now = Time::from_millis(10_000);
        let mut lane = Lane { backlog: true, out: 88, ..open_lane(8) };
        for _ in 0..40 {
            lane.leave(true, now);
        }
        let mut hungry_with = |out| {
            lane.out = out;
            lane.is_hungry(now)
        };
        // The window is 48, and a quarter of what lies ahead is 10.
        assert!(!hungry_with(48));
        assert!(!hungry_with(39));
        assert!(hungry_with(38));
        assert!(hungry_with(7));
        // A slow kind has nothing ahead: each of its slots counts.
        assert!(Lane { backlog: true, out: 7, ..open_lane(8) }.is_hungry(now));
    }

    #[test]
    fn nobody_passes_a_backlog() {
        let mut lane = open_lane(8);
        lane.backlog = true;
        assert!(!lane.reserve(Time::from_millis(0)));
        assert!(lane.is_hungry(Time::from_millis(0)));
        lane.backlog = false;
        assert!(lane.reserve(Time::from_millis(0)));
        assert_eq!(lane.out, 1);
    }

    #[test]
    fn who_comes_while_the_store_is_asked_is_not_forgotten() {
        let mut lane = open_lane(8);
        lane.waits();
        let asked = lane.ask(Time::from_millis(0));
        lane.waits();
        lane.claimed(1, asked);
        assert!(lane.is_hungry(Time::from_millis(0)));
        let asked = lane.ask(Time::from_millis(0));
        lane.claimed(1, asked);
        assert!(!lane.is_hungry(Time::from_millis(0)));
    }

    #[test]
    fn a_kind_whose_request_came_back_rests() {
        let mut lane = open_lane(8);
        lane.rest(Time::from_millis(0));
        assert_eq!(lane.room(Time::from_millis(999)), 0);
        assert_eq!(lane.room(Time::from_millis(1000)), 8);
    }
}
