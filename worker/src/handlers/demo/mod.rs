//! Kinds to try things out with, and for tests.

mod crash;
mod fail;
mod flaky;
mod progress;
mod sleep;

pub(crate) use crash::Crash;
pub(crate) use fail::Fail;
pub(crate) use flaky::Flaky;
pub(crate) use progress::Progress;
pub(crate) use sleep::Sleep;

/// So long a demo may take, in seconds: within the timeout of its kind.
const MAX_SECONDS: f64 = 240.0;
