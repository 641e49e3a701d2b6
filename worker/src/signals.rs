//! What a run tells while it runs: that it started, and how far it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::Broker;
use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::message::{Message, Signal, SignalBody};
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::Route;
use tracing::debug;

use crate::context::{JobContext, Progress};

/// A run that ends sooner sends no signal: its outcome says when it started.
const QUIET: Duration = Duration::from_millis(50);
/// The time between two signals of a run. Eight a second, so that `started` and the last word included they are
/// never more than ten.
const SPACING: Duration = Duration::from_millis(125);

/// The way to the signals' queue.
#[derive(Debug)]
pub(crate) struct SignalSender {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) route: Route,
    pub(crate) worker: WorkerId,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The signals of one run.
#[derive(Debug)]
pub(crate) struct Signals<'a> {
    sender: &'a SignalSender,
    run: RunId,
    ctx: JobContext,
    /// When the run began, as long as that is still to be told.
    started_at: Option<Time>,
    /// The number of the last signal.
    n: u32,
}

impl<'a> Signals<'a> {
    /// The signals of a run that began at `started_at`; `None` when the API knows that already.
    pub(crate) fn new(sender: &'a SignalSender, run: RunId, ctx: JobContext, started_at: Option<Time>) -> Self {
        Self { sender, run, ctx, started_at, n: 0 }
    }

    /// Sends what there is to tell for as long as it is polled.
    ///
    /// While one signal is on its way the next waits, and only the latest report is kept: nothing piles up.
    pub(crate) async fn pump(&mut self) -> Infallible {
        if let Some(started_at) = self.started_at {
            tokio::time::sleep(QUIET).await;
            self.publish(SignalBody::Started, started_at).await;
        }
        loop {
            self.ctx.reported().await;
            if let Some(progress) = self.ctx.take_progress() {
                self.publish(progress.into(), self.sender.clock.now()).await;
                tokio::time::sleep(SPACING).await;
            }
        }
    }

    /// Sends the last report, if the run sent signals at all. The run does not wait for it.
    pub(crate) fn last_word(mut self) {
        if self.n == 0 {
            return;
        }
        if let Some(progress) = self.ctx.take_progress() {
            let message = self.message(progress.into(), self.sender.clock.now());
            let (broker, route) = (Arc::clone(&self.sender.broker), self.sender.route.clone());
            tokio::spawn(async move { broker.publish(route, message).await });
        }
    }

    async fn publish(&mut self, body: SignalBody, at: Time) {
        let message = self.message(body, at);
        if let Err(error) = self.sender.broker.publish(self.sender.route.clone(), message).await {
            debug!(job.id = %self.run.job, %error, "A signal was lost");
        }
    }

    fn message(&mut self, body: SignalBody, at: Time) -> Message {
        self.n += 1;
        Signal { run: self.run, n: self.n, worker: self.sender.worker, at, body }.to_message()
    }
}

impl From<Progress> for SignalBody {
    fn from(Progress { percent, message }: Progress) -> Self {
        SignalBody::Progress { percent, message }
    }
}
