//! One call of a handler, and what it ends with.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::message::{Retry, ReturnReason, RunResult, Told};
use buzzer_shared::problem::job;
use buzzer_shared::text::shorten;
use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::context::JobContext;
use crate::error::JobError;
use crate::gate::Company;
use crate::handler::{Failure, Runner};
use crate::outcomes::too_large;
use crate::signals::Signals;

/// So much of a panic's message is kept.
const MAX_PANIC: usize = 8 * 1024;

/// A call that is about to be made, and what may end it.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(crate) ctx: JobContext,
    /// How long it may take.
    pub(crate) limit: Duration,
    /// How long it may go on once somebody asked it to stop.
    pub(crate) grace: Duration,
    /// Canceled once somebody wants the run to stop.
    pub(crate) wish: CancellationToken,
    /// Canceled when it may go on no longer, for the worker stops.
    pub(crate) cut: &'a CancellationToken,
    /// Where what it tells goes; `None` when somebody else takes it.
    pub(crate) signals: Option<Signals<'a>>,
}

/// What a run takes up until its handler is really gone, which for a CPU-bound function may be after its end.
#[derive(Debug)]
pub(crate) struct Seat {
    /// A CPU-bound run's right to a core.
    pub(crate) _core: Option<OwnedSemaphorePermit>,
    pub(crate) _company: Company,
}

/// How a call ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// The handler came back.
    Finished(Result<Bytes, Failure>),
    TimedOut(Duration),
    Panicked(String),
    /// Somebody asked it to stop, and nothing came of it.
    Canceled,
    /// The worker stops, and it was not done.
    Cut,
}

impl Call<'_> {
    /// Calls the handler under its limits. Here, and nowhere else, a panic is caught: of the handler, of reading its
    /// input, of writing its output, of being dropped. Tells how it ended, and what it told last.
    pub(crate) async fn make(self, runner: &Runner, input: Bytes, seat: Seat) -> (Ended, Vec<Told>) {
        let Self { ctx, limit, grace, wish, cut, mut signals } = self;
        let _over = ctx.cancellation().clone().drop_guard();
        let handler = start(runner, ctx.clone(), input, seat);
        let out_of_patience = async {
            wish.cancelled().await;
            tokio::time::sleep(grace).await;
        };
        let pump = async {
            match &mut signals {
                Some(signals) => signals.pump().await,
                None => std::future::pending().await,
            }
        };
        let call = async {
            // The handler first: one that is done at once starts no timer.
            tokio::select! {
                biased;
                result = handler => Ended::Finished(result),
                () = tokio::time::sleep(limit) => Ended::TimedOut(limit),
                () = cut.cancelled() => Ended::Cut,
                () = out_of_patience => Ended::Canceled,
                never = pump => match never {},
            }
        };
        let ended = AssertUnwindSafe(call).catch_unwind().await;
        let ended = ended.unwrap_or_else(|panic| {
            let message = panic_text(&*panic);
            warn!(message, "The handler panicked");
            Ended::Panicked(message)
        });
        let ended = if wish.is_cancelled() { ended.after_cancel() } else { ended };
        (ended, signals.map_or_else(Vec::new, Signals::last_words))
    }
}

async fn start(runner: &Runner, ctx: JobContext, input: Bytes, seat: Seat) -> Result<Bytes, Failure> {
    match runner {
        Runner::Async(run) => {
            let _seat = seat;
            run(ctx, input).await
        }
        Runner::Cpu(run) => {
            let run = Arc::clone(run);
            let running = tokio::task::spawn_blocking(move || {
                let _seat = seat;
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

impl Ended {
    /// The same, when somebody asked the handler to stop before: only a success still counts, for the work was done.
    fn after_cancel(self) -> Self {
        match self {
            Self::Finished(Ok(output)) => Self::Finished(Ok(output)),
            _ => Self::Canceled,
        }
    }

    /// What the API is told of it. An output may have at most `max_body` bytes.
    pub(crate) fn into_result(self, max_body: usize) -> RunResult {
        match self {
            Self::Finished(Ok(output)) if output.len() > max_body => too_large(output.len(), max_body),
            Self::Finished(Ok(output)) => RunResult::Succeeded(output),
            Self::Finished(Err(Failure::Rejected(reason))) => {
                // The API has taken it, perhaps by what another worker says of the kind: that one may read it.
                RunResult::Failed { problem: job::rejected_input(reason), retry: Retry::Policy }
            }
            Self::Finished(Err(Failure::Failed(error))) => {
                debug!(%error, "The handler failed");
                error.into_result()
            }
            Self::TimedOut(limit) => RunResult::Failed { problem: job::timeout(limit), retry: Retry::Policy },
            Self::Panicked(message) => RunResult::Failed { problem: job::panic(&message), retry: Retry::Policy },
            Self::Canceled => RunResult::Canceled,
            Self::Cut => RunResult::Returned(ReturnReason::Stopping),
        }
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
