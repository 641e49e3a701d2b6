//! Waiting for a condition, never for a time.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Looks again and again until `condition` tells something, and returns that.
///
/// # Panics
/// With `what` when the time is up.
pub async fn eventually<T>(what: &str, limit: Duration, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(started.elapsed() < limit, "{what}: not so after {limit:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// What `future` comes to within `limit`.
///
/// # Panics
/// With `what` when the time is up.
pub async fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after {limit:?}"),
    }
}
