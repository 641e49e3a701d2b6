//! How much may be accepted: past the bound a submission is refused, and what was accepted before is not touched.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{Store, StoreError, Usage};

/// What there is against what there may be, as this replica knows it. Soft: the store is asked once a second, and other
/// replicas may accept meanwhile. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bounds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    limits: Limits,
    unfinished: AtomicU64,
    bytes: AtomicU64,
}

/// How much there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Jobs that are not done.
    pub waiting: u64,
    /// Bytes in the store.
    pub stored: u64,
}

/// Why no more is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    Waiting { limit: u64 },
    Stored { limit: u64 },
}

impl Bounds {
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner { limits, unfinished: AtomicU64::new(0), bytes: AtomicU64::new(0) }))
    }

    /// Counts one more job, if there is room for it.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn admit(&self) -> Result<(), Full> {
        let Inner { limits, unfinished, bytes } = &*self.0;
        if bytes.load(Ordering::Relaxed) >= limits.stored {
            return Err(Full::Stored { limit: limits.stored });
        }
        let one_more = |count: u64| (count < limits.waiting).then_some(count + 1);
        match unfinished.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more) {
            Ok(_) => Ok(()),
            Err(_) => Err(Full::Waiting { limit: limits.waiting }),
        }
    }

    /// Asks the store how much there is.
    pub async fn refresh(&self, store: &dyn Store) -> Result<(), StoreError> {
        let Usage { unfinished, bytes } = store.usage().await?;
        self.0.unfinished.store(unfinished, Ordering::Relaxed);
        self.0.bytes.store(bytes, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_past_the_bound_nothing_is_admitted() {
        let bounds = Bounds::new(Limits { waiting: 2, stored: 100 });
        assert_eq!([bounds.admit(), bounds.admit()], [Ok(()), Ok(())]);
        assert_eq!(bounds.admit(), Err(Full::Waiting { limit: 2 }));
        bounds.0.unfinished.store(1, Ordering::Relaxed);
        assert_eq!(bounds.admit(), Ok(()), "one is done");
        bounds.0.bytes.store(100, Ordering::Relaxed);
        assert_eq!(bounds.admit(), Err(Full::Stored { limit: 100 }));
    }
}
