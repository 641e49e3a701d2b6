//! How much may be accepted, and how many streams may be open: past the bound a request is refused, and what was accepted
//! before is not touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use buzzer_shared::shutdown::Shutdown;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::store::{Store, StoreError, Usage};
use crate::streak::Streak;

/// How soon the store is asked again how much there is, however little that takes; and how late, however much.
const SOONEST: Duration = Duration::from_secs(1);
const LATEST: Duration = Duration::from_secs(10);
/// Of the time, one part in so many may go into counting: a million jobs take a store a good part of a second.
const SHARE: u32 = 20;

/// What there is against what there may be, as this replica knows it. Soft: the store is asked now and then, and other
/// replicas may accept meanwhile. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bounds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    unfinished: AtomicU64,
    bytes: AtomicU64,
    streams: Arc<Semaphore>,
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that are not done.
    pub waiting: u64,
    /// Bytes in the store.
    pub stored: u64,
    /// Open streams of events.
    pub streams: usize,
}

/// Why no more is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Waiting { limit: u64 },
    Stored { limit: u64 },
    Streams { limit: usize },
}

impl Bounds {
    pub fn new(limits: Limits) -> Self {
        let streams = Arc::new(Semaphore::new(limits.streams));
        Self(Arc::new(Inner { limits, unfinished: AtomicU64::new(0), bytes: AtomicU64::new(0), streams }))
    }

    /// A place for one more stream, if there is one. Free again when dropped.
    ///
    /// # Errors
    /// When all are taken.
    pub fn stream(&self) -> Result<OwnedSemaphorePermit, Full> {
        let place = Arc::clone(&self.0.streams).try_acquire_owned();
        place.map_err(|_| Full::Streams { limit: self.0.limits.streams })
    }

    /// Counts one more job, if there is room for it.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn admit(&self) -> Result<(), Full> {
        let Inner { limits, unfinished, bytes, .. } = &*self.0;
        if bytes.load(Ordering::Relaxed) >= limits.stored {
            return Err(Full::Stored { limit: limits.stored });
        }
        let one_more = |count: u64| (count < limits.waiting).then_some(count + 1);
        match unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Full::Waiting { limit: limits.waiting }),
        }
    }

    /// Asks the store how much there is, again and again, until shutdown is requested.
    pub async fn run(self, store: Arc<dyn Store>, shutdown: Shutdown) {
        let mut pause = SOONEST;
        let mut streak = Streak::new("it is not known how many jobs there are");
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                () = tokio::time::sleep(pause) => {}
            }
            let began = Instant::now();
            streak.note(self.refresh(&*store).await);
            pause = pause_after(began.elapsed());
        }
    }

    /// Asks the store how much there is.
    pub async fn refresh(&self, store: &dyn Store) -> Result<(), StoreError> {
        let before = self.0.unfinished.load(Ordering::Relaxed);
        let usage = store.usage().await?;
        self.correct(usage, before);
        Ok(())
    }

    /// Takes the store's word for it. `before` is what was known when it began to count: what was admitted since may not be
    /// in its count, and stays counted in until the next one.
    fn correct(&self, usage: Usage, before: u64) {
        // Wraps: adding less than nothing takes away.
        self.0.unfinished.fetch_add(usage.unfinished.wrapping_sub(before), Ordering::Relaxed);
        self.0.bytes.store(usage.bytes, Ordering::Relaxed);
    }
}

/// How long to leave the store alone after a count that took so long.
fn pause_after(took: Duration) -> Duration {
    (took * SHARE).clamp(SOONEST, LATEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_past_the_bound_nothing_is_admitted() {
        let bounds = Bounds::new(Limits { waiting: 2, stored: 100, streams: 1 });
        assert_eq!([bounds.admit(), bounds.admit()], [Ok(()), Ok(())]);
        assert_eq!(bounds.admit(), Err(Full::Waiting { limit: 2 }));
        bounds.0.unfinished.store(1, Ordering::Relaxed);
        assert_eq!(bounds.admit(), Ok(()), "one is done");
        bounds.0.bytes.store(100, Ordering::Relaxed);
        assert_eq!(bounds.admit(), Err(Full::Stored { limit: 100 }));
    }

    #[test]
    fn p8_a_stream_takes_a_place_until_it_ends() {
        let bounds = Bounds::new(Limits { waiting: 2, stored: 100, streams: 1 });
        let place = bounds.stream().unwrap();
        assert_eq!(bounds.stream().err(), Some(Full::Streams { limit: 1 }));
        drop(place);
        assert!(bounds.stream().is_ok());
    }

    #[test]
    fn what_is_admitted_during_a_count_stays_counted_in() {
        let bounds = Bounds::new(Limits { waiting: 2, stored: 100, streams: 1 });
        assert_eq!([bounds.admit(), bounds.admit()], [Ok(()), Ok(())]);
        bounds.correct(Usage { unfinished: 0, bytes: 1 }, 2);
        assert_eq!(bounds.admit(), Ok(()), "both are done");
        bounds.correct(Usage { unfinished: 1, bytes: 1 }, 0);
        assert_eq!(bounds.admit(), Err(Full::Waiting { limit: 2 }), "the store had not seen the last one");
    }

    #[test]
    fn a_store_that_counts_slowly_is_asked_less_often() {
        let pause = |millis| pause_after(Duration::from_millis(millis)).as_millis();
        assert_eq!([pause(0), pause(50), pause(150), pause(30_000)], [1000, 1000, 3000, 10_000]);
    }
}
