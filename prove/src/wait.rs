//! Waiting for a condition, never for ever.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Something that did not come to be in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: not so after {limit:?}")]
pub struct TooLate {
    what: String,
    limit: Duration,
}

/// Looks again and again until `condition` tells something, and returns that.
///
/// # Errors
/// When the time is up.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> Result<T, TooLate> {
    let started = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return Ok(found);
        }
        if started.elapsed() >= limit {
            return Err(TooLate { what: what.into(), limit });
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What `future` comes to.
///
/// # Errors
/// When the time is up.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> Result<T, TooLate> {
    tokio::time::timeout(limit, future).await.map_err(|_| TooLate { what: what.into(), limit })
}
