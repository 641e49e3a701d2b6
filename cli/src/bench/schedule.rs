//! When jobs are to be handed in that come at a rate, whether or not the server keeps up.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use super::plan::Rate;

/// Fixed times, evenly apart.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    start: Instant,
    rate: Rate,
    jobs: u64,
}

impl Schedule {
    pub fn new(start: Instant, rate: Rate, jobs: u64) -> Self {
        Self { start, rate, jobs }
    }

    /// When the job of this number is due, counted from 0. Multiplied, not added up: a million small errors would be a
    /// large one.
    fn due(&self, number: u64) -> Option<Instant> {
        let after = Duration::from_secs_f64(number as f64 / self.rate.per_second());
        (number < self.jobs).then(|| self.start + after)
    }
}

/// Lets a job go whenever one is due.
///
/// A thread keeps the time: tokio's timer goes by whole milliseconds, which at low load would be most of what is
/// measured.
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    next: Cell<u64>,
    due: Arc<Semaphore>,
}

impl Pacer {
    pub fn start(schedule: Schedule) -> Self {
        let due = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&due);
        thread::spawn(move || {
            let times = (0..).map_while(|number| schedule.due(number));
            for time in times.take_while(|_| !gate.is_closed()) {
                thread::sleep(time.saturating_duration_since(Instant::now()));
                gate.add_permits(1);
            }
        });
        Self { schedule, next: Cell::new(0), due }
    }

    /// Waits until the next job is due, and tells when that was; `None` when there are no more.
    pub async fn next(&self) -> Option<Instant> {
        let number = self.next.get();
        let due = self.schedule.due(number)?;
        self.next.set(number + 1);
        // Permits come in the order of the schedule and are given in the order in which they are asked for.
        self.due.acquire().await.ok()?.forget();
        Some(due)
    }
}

impl Drop for Pacer {
    fn drop(&mut self) {
        self.due.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_are_due_evenly_and_do_not_drift() {
        let start = Instant::now();
        let schedule = Schedule::new(start, "3/s".parse().unwrap(), 3_000_001);
        assert_eq!(schedule.due(0), Some(start));
        assert_eq!(schedule.due(3_000_000), Some(start + Duration::from_secs(1_000_000)));
        assert_eq!(schedule.due(3_000_001), None);
    }

    #[tokio::test]
    async fn a_job_that_nobody_was_free_for_keeps_its_time() {
        let start = Instant::now() - Duration::from_secs(60);
        let pacer = Pacer::start(Schedule::new(start, "1/s".parse().unwrap(), 2));
        assert_eq!(pacer.next().await, Some(start));
        assert_eq!(pacer.next().await, Some(start + Duration::from_secs(1)));
        assert_eq!(pacer.next().await, None);
    }

    #[tokio::test]
    async fn no_job_goes_before_its_time() {
        let start = Instant::now() + Duration::from_millis(20);
        let pacer = Pacer::start(Schedule::new(start, "1000/s".parse().unwrap(), 1));
        let due = pacer.next().await.unwrap();
        assert!(due == start && Instant::now() >= start);
    }
}
