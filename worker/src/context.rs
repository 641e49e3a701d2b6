//! What a handler is given besides its input.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buzzer_shared::id::{JobId, RunId};
use buzzer_shared::message::SignalBody;
use buzzer_shared::text::shorten;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::report::Reports;

/// So much of a progress message is kept.
const MAX_MESSAGE: usize = 1024;
/// What `deadline` tells when a time limit is beyond all reckoning.
const FAR: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// The run that a handler works on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct JobContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    run: RunId,
    attempt: u32,
    deadline: Instant,
    cancellation: CancellationToken,
    reports: Mutex<Reports>,
    reported: Notify,
}

impl JobContext {
    /// The context of a run that begins at `now` and may take `limit`; it is asked to stop by `cancellation`.
    pub(crate) fn new(
        run: RunId,
        attempt: u32,
        now: Instant,
        limit: Duration,
        cancellation: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner {
            run,
            attempt,
            deadline: now + limit.min(FAR),
            cancellation,
            reports: Mutex::default(),
            reported: Notify::new(),
        }))
    }

    /// From now on each report stays by itself, and none is left out: for a test that wants to see them all.
    pub(crate) fn keep_all_reports(&self) {
        *self.reports() = Reports::keeping_all();
    }

    /// A context that belongs to no worker, to call a handler in its own tests. What it reports goes nowhere; canceled
    /// it is through its own [`cancellation`](Self::cancellation).
    pub fn detached(job: JobId, attempt: u32, limit: Duration) -> Self {
        Self::new(RunId { job, dispatch: 1 }, attempt, Instant::now(), limit, CancellationToken::new())
    }

    /// The job that is worked on.
    pub fn job_id(&self) -> JobId {
        self.0.run.job
    }

    /// Which attempt this is: 1 for the first. Rises only after a reported failure or a timeout.
    pub fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// When the run is ended as `timeout`.
    pub fn deadline(&self) -> std::time::Instant {
        self.0.deadline.into_std()
    }

    /// How long the run may still take.
    pub fn remaining(&self) -> Duration {
        self.0.deadline.saturating_duration_since(Instant::now())
    }

    /// Canceled when somebody asks the job to stop, when its time is up, and when the worker goes.
    ///
    /// Who was asked to stop has some seconds for it (`--cancel-grace`): an output that still comes counts, for the
    /// work was done; any error ends the job as `canceled`. In all other cases, and after that grace, an async handler
    /// is dropped. A CPU-bound one cannot be dropped: it should look at [`is_canceled`](Self::is_canceled) from time
    /// to time, for until it returns it takes up a core.
    pub fn cancellation(&self) -> &CancellationToken {
        &self.0.cancellation
    }

    /// Whether [`cancellation`](Self::cancellation) is canceled: stop, and return any error.
    pub fn is_canceled(&self) -> bool {
        self.0.cancellation.is_cancelled()
    }

    /// Ends once [`cancellation`](Self::cancellation) is canceled. For `tokio::select!`, beside what takes long.
    pub async fn canceled(&self) {
        self.0.cancellation.cancelled().await;
    }

    /// Tells how far the run is: `percent` is 0 to 100, `message` may be empty.
    ///
    /// Never blocks. Report as often as you like: the latest report goes out, at most ten times a second.
    pub fn progress(&self, percent: impl Into<Option<f64>>, message: impl Into<String>) {
        let percent = percent.into().filter(|percent| percent.is_finite()).map(|percent| percent.clamp(0.0, 100.0));
        let message = Some(shorten(message.into(), MAX_MESSAGE)).filter(|message| !message.is_empty());
        self.reports().progress(percent, message);
        self.0.reported.notify_one();
    }

    /// Tells something to read, like a line that a log file would have. It becomes an event of the job, `job.log`.
    ///
    /// Never blocks. Lines that come faster than ten times a second go together; beyond 64 KiB that wait they are left
    /// out, and that is told. All events of a job take 1 MiB at most.
    pub fn log(&self, text: impl AsRef<str>) {
        self.reports().log(text.as_ref());
        self.0.reported.notify_one();
    }

    /// Shows the next piece of the output before it is whole, for whoever watches: it becomes an event of the job,
    /// `job.output`. What the handler returns is the output all the same.
    ///
    /// Never blocks, and has the bounds of [`log`](Self::log): pieces may be left out.
    pub fn output(&self, chunk: impl AsRef<str>) {
        self.reports().output(chunk.as_ref());
        self.0.reported.notify_one();
    }

    /// Every report that nobody has taken yet. What is told after that is lost.
    pub(crate) fn last_reports(&self) -> Vec<SignalBody> {
        let mut reports = self.reports();
        reports.close();
        std::iter::from_fn(|| reports.next()).collect()
    }

    /// The next report that nobody has taken yet.
    pub(crate) fn take_report(&self) -> Option<SignalBody> {
        self.reports().next()
    }

    /// Whole after every operation, so a panic elsewhere cannot have left it broken.
    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends once there is something to take.
    pub(crate) async fn reported(&self) {
        self.0.reported.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buzzer_shared::time::Time;

    #[tokio::test]
    async fn the_latest_report_wins_and_is_within_bounds() {
        let ctx = JobContext::detached(JobId::new(Time::from_millis(1)), 1, Duration::MAX);
        ctx.progress(10.0, "first");
        ctx.progress(120.0, "");
        ctx.reported().await;
        assert_eq!(ctx.take_report(), Some(SignalBody::Progress { percent: Some(100.0), message: None }));
        ctx.progress(f64::NAN, "x".repeat(5000));
        let Some(SignalBody::Progress { percent: None, message: Some(message) }) = ctx.take_report() else {
            panic!("no progress")
        };
        assert!(message.len() < MAX_MESSAGE + 4);
        assert_eq!(ctx.take_report(), None);
    }
}
