//! The requests that this worker has taken and not yet answered.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_shared::broker::Receipt;
use buzzer_shared::id::RunId;

/// So many answered runs are remembered.
const REMEMBERED: usize = 4096;

/// What a worker holds. Cheap to clone; all clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Ledger>>);

#[derive(Debug, Default)]
struct Ledger {
    /// The receipt of each run's latest delivery: only that one still counts.
    receipts: HashMap<RunId, Receipt>,
    answered: Answered,
}

/// The runs that were answered last. A line may break between a confirmed outcome and its acknowledgement; then the
/// request comes again although all is said.
#[derive(Debug, Default)]
struct Answered {
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
    /// Its outcome is with the broker already: only the acknowledgement was lost.
    Answered(Receipt),
}

impl Held {
    /// Takes a delivery of `run`.
    pub(crate) fn take(&self, run: RunId, receipt: Receipt) -> Taken {
        let mut ledger = self.lock();
        if ledger.answered.runs.contains(&run) {
            return Taken::Answered(receipt);
        }
        match ledger.receipts.entry(run) {
            Entry::Occupied(mut held) => {
                held.insert(receipt);
                Taken::Adopted
            }
            Entry::Vacant(free) => {
                free.insert(receipt);
                Taken::New(Hold { run, held: self.clone() })
            }
        }
    }

    /// Every run that is held, in no order.
    pub(crate) fn runs(&self) -> Vec<RunId> {
        self.lock().receipts.keys().copied().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().receipts.len()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run that is held. Dropped without an acknowledgement, its request comes again, here or elsewhere.
#[derive(Debug)]
pub(crate) struct Hold {
    run: RunId,
    held: Held,
}

impl Hold {
    pub(crate) fn run(&self) -> RunId {
        self.run
    }

    /// The run is answered: acknowledges its latest delivery, and remembers it.
    pub(crate) fn acknowledge(self) {
        let receipt = {
            let mut ledger = self.held.lock();
            ledger.answered.remember(self.run);
            ledger.receipts.remove(&self.run)
        };
        if let Some(receipt) = receipt {
            receipt.acknowledge();
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.held.lock().receipts.remove(&self.run);
    }
}

impl Answered {
    fn remember(&mut self, run: RunId) {
        if self.order.len() == REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.runs.remove(&oldest);
        }
        self.runs.insert(run);
        self.order.push_back(run);
    }
}
