//! The requests that this worker has taken and not yet answered, and the way to cancel them.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buzzer_shared::broker::Receipt;
use buzzer_shared::id::RunId;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// So many answered runs are remembered, and as many that were canceled before they came.
const REMEMBERED: usize = 4096;

/// What a worker holds. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    ledger: Mutex<Ledger>,
    /// Changes whenever a held run was canceled.
    cancels: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Ledger {
    live: HashMap<RunId, Live>,
    /// A line may break between a confirmed outcome and its acknowledgement; then the request comes again although
    /// all is said.
    answered: Recent,
    /// A cancel may come before its request.
    canceled: Recent,
}

/// A run that is held.
#[derive(Debug)]
struct Live {
    /// Of its latest delivery: only that one still counts. `None` once it was acknowledged.
    receipt: Option<Receipt>,
    cancellation: CancellationToken,
}

/// The latest of many runs.
#[derive(Debug, Default)]
struct Recent {
    runs: HashSet<RunId>,
    order: VecDeque<RunId>,
}

/// What became of a delivery.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is new, and to be run.
    New(Hold),
    /// Its run is held already, and now answers for this delivery too.
    Adopted,
    /// It needs nothing but its acknowledgement, which was lost before.
    Settled(Receipt),
}

impl Held {
    /// Takes a delivery of `run`.
    pub(crate) fn take(&self, run: RunId, receipt: Receipt) -> Taken {
        let mut ledger = self.lock();
        if ledger.answered.contains(run) {
            return Taken::Settled(receipt);
        }
        let canceled = ledger.canceled.contains(run);
        match ledger.live.entry(run) {
            Entry::Occupied(mut held) => match &mut held.get_mut().receipt {
                Some(latest) => {
                    *latest = receipt;
                    Taken::Adopted
                }
                None => Taken::Settled(receipt),
            },
            Entry::Vacant(free) => {
                let cancellation = CancellationToken::new();
                if canceled {
                    cancellation.cancel();
                }
                free.insert(Live { receipt: Some(receipt), cancellation: cancellation.clone() });
                Taken::New(Hold { run, cancellation, taken_at: Instant::now(), held: self.clone() })
            }
        }
    }

    /// Asks these to stop, now or as soon as they come. Those that are answered or another worker's do not mind.
    pub(crate) fn cancel(&self, runs: &[RunId]) {
        let mut ledger = self.lock();
        for &run in runs {
            match ledger.live.get(&run) {
                Some(live) => live.cancellation.cancel(),
                None => ledger.canceled.remember(run),
            }
        }
        drop(ledger);
        self.0.cancels.send_replace(());
    }

    /// Changes whenever somebody was asked to stop.
    pub(crate) fn cancels(&self) -> watch::Receiver<()> {
        self.0.cancels.subscribe()
    }

    /// Every run that is held, in no order.
    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.lock().live.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().live.len()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run that is held. Dropped without an acknowledgement, its request comes again, here or elsewhere.
#[derive(Debug)]
pub(crate) struct Hold {
    run: RunId,
    cancellation: CancellationToken,
    taken_at: Instant,
    held: Held,
}

impl Hold {
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// How long it is held.
    pub(crate) fn age(&self) -> Duration {
        self.taken_at.elapsed()
    }

    /// Canceled once somebody asks the run to stop.
    pub(crate) fn cancellation(&self) -> &CancellationToken {
        &self.cancellation
    }

    /// The run is about to begin: acknowledges its latest delivery, and waits until the broker has that. A crash before
    /// would bring the request to the next worker, and with it the crash. It is held on, and lives on the beats.
    pub(crate) async fn acknowledge_early(&self) {
        let receipt = self.held.lock().live.get_mut(&self.run).and_then(|live| live.receipt.take());
        if let Some(receipt) = receipt {
            receipt.acknowledge_for_good().await;
        }
    }

    /// The run is answered: acknowledges its latest delivery if that is still to do, and remembers it.
    pub(crate) fn acknowledge(self) {
        let live = {
            let mut ledger = self.held.lock();
            ledger.answered.remember(self.run);
            ledger.live.remove(&self.run)
        };
        if let Some(receipt) = live.and_then(|live| live.receipt) {
            receipt.acknowledge();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.lock().live.remove(&self.run);
    }
}

impl Recent {
    fn contains(&self, run: RunId) -> bool {
        self.runs.contains(&run)
    }

    fn remember(&mut self, run: RunId) {
        if !self.runs.insert(run) {
            return;
        }
        self.order.push_back(run);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.runs.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buzzer_shared::id::JobId;
    use buzzer_shared::time::Time;

    #[test]
    fn the_oldest_is_forgotten_first_and_a_repeated_one_counts_once() {
        let job = JobId::new(Time::from_millis(1));
        let run = |dispatch| RunId { job, dispatch };
        let runs: Vec<_> = (0..=u32::try_from(REMEMBERED).unwrap()).map(run).collect();
        let mut recent = Recent::default();
        for &run in &runs[..REMEMBERED] {
            recent.remember(run);
            recent.remember(run);
        }
        assert!(runs[..REMEMBERED].iter().all(|&run| recent.contains(run)));
        recent.remember(runs[REMEMBERED]);
        assert!(!recent.contains(runs[0]));
        assert!(runs[1..].iter().all(|&run| recent.contains(run)));
        assert_eq!((recent.runs.len(), recent.order.len()), (REMEMBERED, REMEMBERED));
    }
}
