//! Kinds to try things out with, and for tests.

mod fail;
mod flaky;
mod progress;
mod sleep;

use crate::builder::WorkerBuilder;

/// So long a demo may take, in seconds: within the timeout of its kind.
const MAX_SECONDS: f64 = 240.0;

pub(super) fn register(worker: WorkerBuilder) -> WorkerBuilder {
    worker.register(sleep::Sleep).register(progress::Progress).register(flaky::Flaky).register(fail::Fail)
}
