use std::time::Duration;

use buzzer_shared::time::Time;

/// How an endpoint fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Since when every attempt has failed; `None` when the last one did not.
    pub failing_since: Option<Time>,
    /// It has asked to be left alone until then, or it is given time to recover.
    pub paused_until: Option<Time>,
    /// Whether its last answer took long.
    pub slow: bool,
    /// Nothing is told any more, and what waits goes on waiting.
    pub disabled: Option<Disabled>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disabled {
    pub at: Time,
    pub why: Why,
}

/// Why an endpoint is disabled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Its owner said so.
    Owner,
    /// It answered `410 Gone`.
    Gone,
    /// Every attempt has failed for days.
    Failing,
}

/// Of the time for which an endpoint has failed, one part in so many passes before it is tried again; at most so long.
const PAUSE_SHARE: u32 = 10;
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// An answer that takes longer is a slow one.
const SLOW: Duration = Duration::from_secs(1);

impl Health {
    /// After an attempt that took so long, whatever came of it.
    pub(super) fn after(self, duration: Duration) -> Self {
        Self { slow: duration > SLOW, ..self }
    }

    /// After an attempt that failed. Whoever has failed for long is asked less often, whatever else waits for it.
    pub(super) fn after_failure(self, retry_after: Option<Duration>, now: Time) -> Self {
        let since = self.failing_since.unwrap_or(now);
        let pause = (now.since(since) / PAUSE_SHARE).min(PAUSE_MAX).max(retry_after.unwrap_or_default());
        let until = (now + pause).max(self.paused_until.unwrap_or(now));
        Self { failing_since: Some(since), paused_until: (until > now).then_some(until), ..self }
    }

    pub(super) fn after_success(self) -> Self {
        Self { failing_since: None, paused_until: None, ..self }
    }
}
