use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// The longest time that is told apart, in µs: an hour.
const LONGEST: u64 = 3_600_000_000;

/// What came of some jobs so far.
#[derive(Debug)]
pub struct Tally {
    /// µs from when a job should have begun to the answer of its submission.
    pub answers: Histogram<u64>,
    /// µs from when a job should have begun to its end being known here.
    pub results: Histogram<u64>,
    pub accepted: u64,
    pub done: u64,
    /// Done, but not with an output.
    pub not_succeeded: u64,
    /// Answers that said: later.
    pub busy: u64,
    /// Jobs that began long after their time, since no connection was free.
    pub late: u64,
    /// Begun, and not known to be over.
    pub under_way: u64,
    began: Option<Instant>,
    last_answer: Option<Instant>,
    last_done: Option<Instant>,
    moved: Instant,
}

impl Tally {
    pub fn new(now: Instant) -> Self {
        // 3 digits of such a number are within what a histogram can be; its own tests say so.
        let empty = || Histogram::new_with_max(LONGEST, 3).expect("valid bounds");
        Self {
            answers: empty(),
            results: empty(),
            accepted: 0,
            done: 0,
            not_succeeded: 0,
            busy: 0,
            late: 0,
            under_way: 0,
            began: None,
            last_answer: None,
            last_done: None,
            moved: now,
        }
    }

    /// A job's submission begins.
    pub fn begin(&mut self, now: Instant, is_late: bool) {
        self.began.get_or_insert(now);
        // After a pause without jobs, the time counts anew.
        if self.under_way == 0 {
            self.moved = now;
        }
        self.under_way += 1;
        self.late += u64::from(is_late);
    }

    /// A submission was answered: the job is accepted.
    pub fn answer(&mut self, since: Instant, now: Instant) {
        self.answers.saturating_record(micros(since, now));
        self.accept(now);
    }

    /// A job is accepted, and no answer told that by itself.
    pub fn accept(&mut self, now: Instant) {
        self.accepted += 1;
        self.last_answer = Some(now);
        self.moved = now;
    }

    /// A job is done.
    pub fn finish(&mut self, since: Instant, now: Instant, succeeded: bool) {
        self.results.saturating_record(micros(since, now));
        self.done += 1;
        self.not_succeeded += u64::from(!succeeded);
        self.last_done = self.last_done.max(Some(now));
        self.moved = now;
        self.let_go();
    }

    /// What becomes of a job is not looked at.
    pub fn let_go(&mut self) {
        self.under_way -= 1;
    }

    /// Since when nothing has moved that should have; `None` when there is nothing to wait for.
    pub fn still_since(&self) -> Option<Instant> {
        (self.under_way > 0).then_some(self.moved)
    }

    /// From the first submission to the last answer.
    pub fn handing_in(&self) -> Duration {
        self.since_beginning(self.last_answer)
    }

    /// From the first submission to the last end.
    pub fn working(&self) -> Duration {
        self.since_beginning(self.last_done)
    }

    fn since_beginning(&self, to: Option<Instant>) -> Duration {
        to.zip(self.began).map(|(to, began)| to.saturating_duration_since(began)).unwrap_or_default()
    }
}

fn micros(since: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(since).as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_count_from_the_first_submission() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut tally = Tally::new(start);
        tally.begin(after(1), false);
        tally.begin(after(2), true);
        tally.answer(after(1), after(3));
        tally.finish(after(1), after(4), true);
        assert_eq!(tally.still_since(), Some(after(4)));
        tally.answer(after(2), after(5));
        tally.finish(after(2), after(7), false);
        assert_eq!((tally.handing_in(), tally.working()), (Duration::from_secs(4), Duration::from_secs(6)));
        assert_eq!((tally.accepted, tally.done, tally.not_succeeded, tally.late), (2, 2, 1, 1));
        assert_eq!((tally.answers.len(), tally.results.len()), (2, 2));
        assert_eq!(tally.still_since(), None);
    }

    #[test]
    fn a_pause_without_jobs_is_no_standstill() {
        let start = Instant::now();
        let mut tally = Tally::new(start);
        let later = start + Duration::from_secs(600);
        tally.begin(later, false);
        assert_eq!(tally.still_since(), Some(later));
    }
}
