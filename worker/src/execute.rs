//! One request, from its slot to its acknowledgement.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::WorkerId;
use buzzer_shared::message::{Outcome, Request, Retry, ReturnReason, RunResult};
use buzzer_shared::problem::job;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Time};
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info_span, warn};

use crate::context::JobContext;
use crate::error::{JobError, shorten};
use crate::handler::{Failure, Runner};
use crate::held::Hold;
use crate::outcomes::{Outcomes, too_large};
use crate::registry::Registered;
use crate::signals::{SignalSender, Signals};

/// So much of a panic's message is kept.
const MAX_PANIC: usize = 8 * 1024;

/// Runs requests and answers them.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) worker: WorkerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outcomes: Outcomes,
    pub(crate) signals: SignalSender,
    /// The largest output, in bytes.
    pub(crate) max_body: usize,
    /// One permit for each CPU-bound run at a time.
    pub(crate) cores: Arc<Semaphore>,
    pub(crate) shutdown: Shutdown,
    /// Canceled when running handlers may go on no longer.
    pub(crate) cut: CancellationToken,
}

/// How a run ended.
#[derive(Debug)]
enum Ended {
    /// The handler came back.
    Finished(Result<Bytes, Failure>),
    TimedOut,
    Panicked(String),
    /// The worker stops, and it was not done.
    Cut,
}

/// A CPU-bound run's right to a core. Held until the function really returns.
type Core = OwnedSemaphorePermit;

impl Executor {
    /// Runs a request and answers it. The slot is free again as soon as the handler is done.
    pub(crate) async fn execute(
        self: Arc<Self>,
        kind: Arc<Registered>,
        request: Request,
        hold: Hold,
        slot: OwnedSemaphorePermit,
    ) {
        let span = info_span!("run", job.id = %request.run.job, job.kind = %request.kind, attempt = request.attempt);
        let (started_at, result) = self.run(&kind, request).instrument(span).await;
        drop(slot);
        self.answer(hold, started_at, result).await;
    }

    /// Answers a request that was not started.
    pub(crate) async fn hand_back(self: Arc<Self>, hold: Hold) {
        self.answer(hold, None, RunResult::Returned(ReturnReason::Stopping)).await;
    }

    /// Hands the outcome over, and only then acknowledges. The other way round, a crash in between would lose it;
    /// this way round, a crash in between runs the job twice.
    async fn answer(&self, hold: Hold, started_at: Option<Time>, result: RunResult) {
        let outcome = Outcome { run: hold.run(), worker: self.worker, started_at, result };
        if self.outcomes.send(outcome).await.is_ok() {
            hold.acknowledge();
        }
    }

    async fn run(&self, kind: &Registered, request: Request) -> (Option<Time>, RunResult) {
        // A job may shorten its kind's timeout, not lengthen it.
        let limit = request.timeout.min(kind.spec.timeout.as_duration());
        let core = match kind.runner {
            Runner::Async(_) => None,
            Runner::Cpu(_) => match self.core(limit).await {
                Some(core) => Some(core),
                None => return (None, RunResult::Returned(ReturnReason::NoSlot)),
            },
        };
        let started_at = self.clock.now();
        let ended = self.call(&kind.runner, request, started_at, limit, core).await;
        (Some(started_at), classify(ended, limit, self.max_body))
    }

    /// Waits for a core. `None` when there is none within `limit`, for runaways may keep them all, and another worker
    /// may have one; or when the worker stops.
    async fn core(&self, limit: Duration) -> Option<Core> {
        tokio::select! {
            biased;
            core = Arc::clone(&self.cores).acquire_owned() => core.ok(),
            () = self.shutdown.requested() => None,
            () = tokio::time::sleep(limit) => None,
        }
    }

    /// Calls the handler under its time limit. Here, and nowhere else, a panic is caught: of the handler, of reading
    /// its input, of writing its output, of being dropped.
    async fn call(
        &self,
        runner: &Runner,
        request: Request,
        started_at: Time,
        limit: Duration,
        core: Option<Core>,
    ) -> Ended {
        let ctx = JobContext::new(request.run, request.attempt, Instant::now(), limit);
        let _over = ctx.cancellation().clone().drop_guard();
        let mut signals = Signals::new(&self.signals, request.run, ctx.clone(), started_at);
        let call = async {
            // The handler first: one that is done at once starts no timer.
            tokio::select! {
                biased;
                result = start(runner, ctx, request.input, core) => Ended::Finished(result),
                () = tokio::time::sleep(limit) => Ended::TimedOut,
                () = self.cut.cancelled() => Ended::Cut,
                never = signals.pump() => match never {},
            }
        };
        let ended = AssertUnwindSafe(call).catch_unwind().await;
        signals.last_word();
        ended.unwrap_or_else(|panic| Ended::Panicked(panic_text(&*panic)))
    }
}

async fn start(runner: &Runner, ctx: JobContext, input: Bytes, core: Option<Core>) -> Result<Bytes, Failure> {
    match runner {
        Runner::Async(run) => run(ctx, input).await,
        Runner::Cpu(run) => {
            let run = Arc::clone(run);
            let running = tokio::task::spawn_blocking(move || {
                let _core = core;
                run(ctx, input)
            });
            match running.await {
                Ok(result) => result,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => Err(JobError::retry("the worker's runtime ends").into()),
                },
            }
        }
    }
}

/// What the API is told of a run that ended so.
fn classify(ended: Ended, limit: Duration, max_body: usize) -> RunResult {
    match ended {
        Ended::Finished(Ok(output)) if output.len() > max_body => too_large(output.len(), max_body),
        Ended::Finished(Ok(output)) => RunResult::Succeeded(output),
        Ended::Finished(Err(Failure::Rejected(reason))) => {
            RunResult::Failed { problem: job::rejected_input(reason), retry: Retry::Never }
        }
        Ended::Finished(Err(Failure::Failed(error))) => {
            debug!(%error, "The handler failed");
            error.into_result()
        }
        Ended::TimedOut => RunResult::Failed { problem: job::timeout(limit), retry: Retry::Policy },
        Ended::Panicked(message) => {
            warn!(message, "The handler panicked");
            RunResult::Failed { problem: job::panic(&message), retry: Retry::Policy }
        }
        Ended::Cut => RunResult::Returned(ReturnReason::Stopping),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => (*text).to_owned(),
        (None, Some(text)) => text.clone(),
        (None, None) => "a panic without a message".to_owned(),
    };
    shorten(text, MAX_PANIC)
}
