//! How much of one kind runs at a time.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The slots of one kind. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    permits: Arc<Semaphore>,
    count: u16,
}

impl Slots {
    pub(crate) fn new(count: u16) -> Self {
        Self { permits: Arc::new(Semaphore::new(count.into())), count }
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// A free slot, as soon as there is one.
    pub(crate) async fn one(&self) -> Option<OwnedSemaphorePermit> {
        // Never closed, so there always is one some time.
        Arc::clone(&self.permits).acquire_owned().await.ok()
    }

    pub(crate) fn are_taken(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Ends once no handler of the kind runs.
    pub(crate) async fn all_free(&self) {
        let _ = self.permits.acquire_many(self.count.into()).await;
    }
}
