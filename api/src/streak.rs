//! Tells of what goes wrong again and again.

use crate::store::StoreError;

/// A step that is repeated for ever. The log has a line when it begins to fail, and one when it works again: a store that is
/// away for an hour is no reason for thousands.
#[derive(Debug)]
pub struct Streak {
    /// What does not happen while it fails.
    missing: &'static str,
    failing: bool,
}

impl Streak {
    pub fn new(missing: &'static str) -> Self {
        Self { missing, failing: false }
    }

    /// Takes note of what came of a step.
    pub fn note<T>(&mut self, outcome: Result<T, StoreError>) -> Option<T> {
        let missing = self.missing;
        match &outcome {
            Err(error) if self.failing => tracing::debug!(%error, "still {missing}"),
            Err(error) => tracing::warn!(%error, "{missing}; it is tried until it works"),
            Ok(_) if self.failing => tracing::info!("no longer {missing}"),
            Ok(_) => {}
        }
        self.failing = outcome.is_err();
        outcome.ok()
    }
}
