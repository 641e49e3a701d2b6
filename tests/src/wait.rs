//! Waiting for a condition, never for a time.

use std::time::Duration;

use buzzer_prove::wait;

/// Looks again and again until `condition` tells something, and returns that.
///
/// # Panics
/// With `what` when the time is up.
pub async fn eventually<T>(what: &str, limit: Duration, condition: impl AsyncFnMut() -> Option<T>) -> T {
    wait::eventually(what, limit, condition).await.unwrap_or_else(|late| panic!("{late}"))
}

/// What `future` comes to within `limit`.
///
/// # Panics
/// With `what` when the time is up.
pub fn within<T>(what: &str, limit: Duration, future: impl Future<Output = T>) -> impl Future<Output = T> {
    let waiting = Box::pin(wait::within(what, limit, future));
    async { waiting.await.unwrap_or_else(|late| panic!("{late}")) }
}
