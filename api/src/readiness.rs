//! Whether this replica can take jobs.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::time::Time;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::store::{Store, StoreError};

/// For so long an answer of the store is good.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// Whether the store works. The question is a write: it is asked once at a time and once a second at most, however many
/// want to know, for they need no key. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Option<Answer>>>);

#[derive(Debug)]
struct Answer {
    at: Instant,
    works: Result<(), StoreError>,
}

impl Readiness {
    /// # Errors
    /// Why the store does not work.
    pub async fn of(&self, store: &Arc<dyn Store>, now: Time) -> Result<(), StoreError> {
        let mut last = Arc::clone(&self.0).lock_owned().await;
        if let Some(answer) = last.as_ref().filter(|answer| answer.at.elapsed() < GOOD_FOR) {
            return answer.works.clone();
        }
        let store = Arc::clone(store);
        // Whoever asks may hang up. The question goes on without them, or each of them would leave one behind that keeps a
        // connection to a slow database, until there is none for those who have a key.
        let asking = tokio::spawn(async move {
            let works = store.probe(now).await;
            *last = Some(Answer { at: Instant::now(), works: works.clone() });
            works
        });
        asking.await.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
    }
}
