use std::time::Duration;

use buzzer_shared::time::{Clock, Time};
use tokio::time::Instant;

/// A clock that goes as the timers of its runtime do: where those are paused, time passes only while everybody waits.
#[derive(Debug)]
pub(super) struct RuntimeClock {
    origin: Time,
    began: Instant,
}

impl RuntimeClock {
    /// It shows `origin` now.
    pub(super) fn from(origin: Time) -> Self {
        Self { origin, began: Instant::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Clock for RuntimeClock {
    fn now(&self) -> Time {
        self.origin + self.elapsed()
    }
}
