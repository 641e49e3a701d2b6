//! What a run tells while it runs: that it started, and what its handler reports.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::Broker;
use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::message::{Signal, SignalBody, TOLD_MAX, Told};
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::Route;
use tokio::time::Instant;
use tracing::debug;

use crate::context::JobContext;

/// A run that ends sooner sends no signal: its outcome says all.
const QUIET: Duration = Duration::from_millis(50);
/// The time between two signals of a run. Eight a second, so that with `started` they are never more than ten.
const SPACING: Duration = Duration::from_millis(125);
/// A signal younger than this may not have arrived yet when the run ends: the outcome carries it once more.
const YOUNG: Duration = Duration::from_secs(1);

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
    /// The reports of the last second, with when they were sent; `None` for the one that is on its way.
    young: VecDeque<(Option<Instant>, Told)>,
}

impl<'a> Signals<'a> {
    /// The signals of a run that began at `started_at`; `None` when the API knows that already.
    pub(crate) fn new(sender: &'a SignalSender, run: RunId, ctx: JobContext, started_at: Option<Time>) -> Self {
        Self { sender, run, ctx, started_at, n: 0, young: VecDeque::new() }
    }

    /// Sends what there is to tell for as long as it is polled.
    ///
    /// While one signal is on its way the next waits, and what is reported meanwhile is bounded: nothing piles up.
    pub(crate) async fn pump(&mut self) -> Infallible {
        if let Some(started_at) = self.started_at {
            tokio::time::sleep(QUIET).await;
            let started = self.told(SignalBody::Started, started_at);
            self.publish(started).await;
        }
        loop {
            let Some(report) = self.ctx.take_report() else {
                self.ctx.reported().await;
                continue;
            };
            let told = self.told(report, self.sender.clock.now());
            self.young.retain(|(at, _)| is_young(*at));
            // Before it is sent: should the run end meanwhile, nobody knows whether it was.
            self.young.push_back((None, told.clone()));
            self.publish(told).await;
            if let Some((at, _)) = self.young.back_mut() {
                *at = Some(Instant::now());
            }
            tokio::time::sleep(SPACING).await;
        }
    }

    /// What the outcome is to carry: the reports of the last second, and those that were still to be sent. Where that is
    /// too much, the oldest are left out, and a line says so.
    pub(crate) fn last_words(mut self) -> Vec<Told> {
        let young = std::mem::take(&mut self.young).into_iter().filter(|(at, _)| is_young(*at));
        let mut words: VecDeque<Told> = young.map(|(_, told)| told).collect();
        // All at once: a handler that cannot be dropped may go on telling for ever.
        for report in self.ctx.last_reports() {
            let told = self.told(report, self.sender.clock.now());
            words.push_back(told);
        }
        let mut bytes: usize = words.iter().map(size).sum();
        let mut left_out = Vec::new();
        while bytes > TOLD_MAX
            && let Some(oldest) = words.pop_front()
        {
            bytes -= size(&oldest);
            left_out.push(oldest);
        }
        if let Some(Told { n, at, .. }) = left_out.last() {
            let text = format!("{} reports were left out here: too many at the end of the run", left_out.len());
            words.push_front(Told { n: *n, at: *at, body: SignalBody::Log { text } });
        }
        words.into()
    }

    async fn publish(&self, told: Told) {
        let Told { n, at, body } = told;
        let signal = Signal { run: self.run, n, worker: self.sender.worker, at, body };
        if let Err(error) = self.sender.broker.publish(self.sender.route.clone(), signal.to_message()).await {
            debug!(job.id = %self.run.job, %error, "A signal was lost");
        }
    }

    fn told(&mut self, body: SignalBody, at: Time) -> Told {
        self.n += 1;
        Told { n: self.n, at, body }
    }
}

/// Whether a report that was sent then, or is on its way, may not have arrived.
fn is_young(sent: Option<Instant>) -> bool {
    sent.is_none_or(|at| at.elapsed() < YOUNG)
}

/// As JSON in a list. Plain data with text keys: to write it cannot fail.
fn size(told: &Told) -> usize {
    serde_json::to_vec(told).map_or(0, |json| json.len() + 1)
}
