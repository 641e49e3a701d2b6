//! Runs a handler in a test: no broker, no API, no other process.
//!
//! A [`Trial`] calls the handler as a worker would: it reads the input, keeps to the time limit, asks to stop, catches
//! panics, writes the output. What comes of it is a [`Tried`], with everything that the handler told.
//!
//! ```
//! use buzzer_worker::testing::{Ended, Trial};
//! use buzzer_worker::{JobContext, JobError, Worker};
//!
//! async fn half(ctx: JobContext, input: u32) -> Result<u32, JobError> {
//!     if input % 2 == 1 {
//!         return Err(JobError::fail("it is odd").with_type("https://example.com/odd"));
//!     }
//!     ctx.progress(50.0, "halving");
//!     Ok(input / 2)
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let worker = || Worker::builder().handler("number.half", half);
//!
//! let tried = Trial::of(worker(), "number.half").unwrap().run(8).await;
//! assert_eq!(tried.ended, Ended::Succeeded(4.into()));
//! assert_eq!(tried.progress(), [(Some(50.0), Some("halving"))]);
//!
//! let tried = Trial::of(worker(), "number.half").unwrap().run(7).await;
//! assert_eq!(tried.problem().unwrap().r#type, "https://example.com/odd");
//! # });
//! ```

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::id::{JobId, RunId};
use buzzer_shared::message::{Retry, RunResult, SignalBody};
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Clock;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::builder::{BuildError, WorkerBuilder};
use crate::call::{Call, Seat};
use crate::context::JobContext;
use crate::gate::Gate;
use crate::registry::Registered;

/// A run of a handler that is about to begin: the first attempt, within the time of its kind, unless told otherwise.
#[derive(Debug)]
#[must_use = "a trial does nothing until it is run"]
pub struct Trial {
    kind: Arc<Registered>,
    clock: Arc<dyn Clock>,
    max_body: usize,
    grace: Duration,
    attempt: u32,
    limit: Duration,
    cancel: Option<Cancel>,
}

/// When somebody asks the job to stop.
#[derive(Debug, Clone, Copy)]
enum Cancel {
    After(Duration),
    AtPercent(f64),
}

/// Why a handler cannot be tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("the worker runs no kind {kind:?}, but {known}")]
    NoSuchKind { kind: String, known: String },
}

/// How a run ended, as the API would be told.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// With the handler's output.
    Succeeded(Value),
    /// With the handler's problem, or Buzzer's: `/problems/rejected-input`, `/problems/timeout`, `/problems/panic`,
    /// `/problems/output-too-large`.
    Failed { problem: Problem, retry: Retry },
    /// It was asked to stop, and did, or was dropped after its grace.
    Canceled,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    pub ended: Ended,
    told: Vec<SignalBody>,
}

impl Trial {
    /// A trial of the handler that runs `kind` in this worker.
    ///
    /// # Errors
    /// When the worker cannot be built, or runs no such kind.
    pub fn of(worker: WorkerBuilder, kind: &str) -> Result<Self, TrialError> {
        let worker = worker.build()?;
        let Some(found) = worker.registry.kinds().find(|found| found.spec.name.as_str() == kind) else {
            let known: Vec<_> = worker.registry.kinds().map(|known| known.spec.name.to_string()).collect();
            return Err(TrialError::NoSuchKind { kind: kind.into(), known: known.join(", ") });
        };
        Ok(Self {
            kind: Arc::clone(found),
            limit: found.spec.timeout.as_duration(),
            clock: worker.clock,
            max_body: worker.config.max_body.0,
            grace: worker.config.cancel_grace.as_duration(),
            attempt: 1,
            cancel: None,
        })
    }

    /// The handler is told that it is this attempt; 1 is the first.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }

    /// The run may take so long, if its kind does not say less.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.limit = self.limit.min(limit);
        self
    }

    /// Somebody asks the job to stop once it runs so long. In a test with paused time, that takes none.
    pub fn cancel_after(mut self, length: Duration) -> Self {
        self.cancel = Some(Cancel::After(length));
        self
    }

    /// Somebody asks the job to stop once it tells that it is so far.
    pub fn cancel_at(mut self, percent: f64) -> Self {
        self.cancel = Some(Cancel::AtPercent(percent));
        self
    }

    /// Runs the handler with this input, which need not fit it.
    pub async fn run(self, input: impl Into<Value>) -> Tried {
        let (wish, cut) = (CancellationToken::new(), CancellationToken::new());
        let run = RunId { job: JobId::new(self.clock.now()), dispatch: 1 };
        let ctx = JobContext::new(run, self.attempt, Instant::now(), self.limit, wish.child_token());
        ctx.keep_all_reports();
        let company = Gate::new().enter().await.expect("a gate that nobody shut");
        let seat = Seat { _core: None, _company: company };
        let call = Call {
            ctx: ctx.clone(),
            limit: self.limit,
            grace: self.grace,
            wish: wish.clone(),
            cut: &cut,
            signals: None,
        };
        let mut told = Vec::new();
        let body = input.into().to_string().into();
        let ended = tokio::select! {
            (ended, _) = call.make(&self.kind.runner, body, seat) => ended,
            () = self.listen(&ctx, &wish, &mut told) => unreachable!("it listens for ever"),
        };
        told.extend(ctx.last_reports());
        Tried { ended: Ended::from(ended.into_result(self.max_body)), told }
    }

    /// Takes what the handler tells, and asks it to stop when it is time, for as long as it is polled.
    async fn listen(&self, ctx: &JobContext, wish: &CancellationToken, told: &mut Vec<SignalBody>) {
        let reports = async {
            loop {
                while let Some(report) = ctx.take_report() {
                    if let (Some(Cancel::AtPercent(at)), SignalBody::Progress { percent: Some(percent), .. }) =
                        (self.cancel, &report)
                        && *percent >= at
                    {
                        wish.cancel();
                    }
                    told.push(report);
                }
                ctx.reported().await;
            }
        };
        let time = async {
            if let Some(Cancel::After(length)) = self.cancel {
                tokio::time::sleep(length).await;
                wish.cancel();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = reports => {}
            () = time => {}
        }
    }
}

impl From<RunResult> for Ended {
    fn from(result: RunResult) -> Self {
        match result {
            // What a handler of its own writes is looked at here: a worker hands over its bytes.
            RunResult::Succeeded(output) => Self::Succeeded(
                serde_json::from_slice(&output).unwrap_or_else(|_| String::from_utf8_lossy(&output).into()),
            ),
            RunResult::Failed { problem, retry } => Self::Failed { problem, retry },
            // Nothing stops a trial but its cancel: it belongs to no worker that could stop.
            RunResult::Canceled | RunResult::Returned(_) => Self::Canceled,
        }
    }
}

impl Tried {
    /// The output; `None` when it did not succeed.
    pub fn output(&self) -> Option<&Value> {
        match &self.ended {
            Ended::Succeeded(output) => Some(output),
            Ended::Failed { .. } | Ended::Canceled => None,
        }
    }

    /// The problem; `None` when it did not fail.
    pub fn problem(&self) -> Option<&Problem> {
        match &self.ended {
            Ended::Failed { problem, .. } => Some(problem),
            Ended::Succeeded(_) | Ended::Canceled => None,
        }
    }

    /// Each progress that was told, in order, as percent and message. A worker sends at most ten of them a second.
    pub fn progress(&self) -> Vec<(Option<f64>, Option<&str>)> {
        let told = self.told.iter().filter_map(|told| match told {
            SignalBody::Progress { percent, message } => Some((*percent, message.as_deref())),
            SignalBody::Started | SignalBody::Log { .. } | SignalBody::Output { .. } => None,
        });
        told.collect()
    }

    /// Each piece of log, in order.
    pub fn log(&self) -> Vec<&str> {
        let told = self.told.iter().filter_map(|told| match told {
            SignalBody::Log { text } => Some(text.as_str()),
            SignalBody::Started | SignalBody::Progress { .. } | SignalBody::Output { .. } => None,
        });
        told.collect()
    }

    /// The pieces of output that were shown before it was whole, put together.
    pub fn shown(&self) -> String {
        let told = self.told.iter().filter_map(|told| match told {
            SignalBody::Output { chunk } => Some(chunk.as_str()),
            SignalBody::Started | SignalBody::Progress { .. } | SignalBody::Log { .. } => None,
        });
        told.collect()
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::problem::job;

    use super::*;
    use crate::{HandlerOptions, JobError, Worker};

    /// Does what its input says.
    async fn obey(ctx: JobContext, input: String) -> Result<u32, JobError> {
        match input.as_str() {
            "tell" => {
                (1..=20_u32).for_each(|step| ctx.progress(f64::from(step) * 5.0, format!("step {step}")));
                ctx.log("one");
                ctx.log("two\nlines");
                ctx.output("ha");
                ctx.output("lf");
                Ok(ctx.attempt())
            }
            "wait" => {
                ctx.progress(30.0, "");
                ctx.canceled().await;
                Err(JobError::fail("stopped"))
            }
            "ignore" => {
                tokio::time::sleep(Duration::from_secs(3600)).await;
                Ok(0)
            }
            "panic" => panic!("as asked"),
            _ => Err(JobError::retry_after(Duration::from_secs(7), "busy")),
        }
    }

    fn trial() -> Trial {
        let options = HandlerOptions::new().timeout(Duration::from_secs(60));
        Trial::of(Worker::builder().handler_with("obey", options, obey), "obey").unwrap()
    }

    #[tokio::test]
    async fn everything_that_is_told_is_there() {
        let tried = trial().attempt(3).run("tell").await;
        assert_eq!(tried.output(), Some(&3.into()));
        assert_eq!(tried.progress().len(), 20, "nothing is left out");
        assert_eq!(tried.progress()[19], (Some(100.0), Some("step 20")));
        assert_eq!(tried.log(), ["one", "two\nlines"]);
        assert_eq!(tried.shown(), "half");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_ends_as_it_would_in_a_worker() {
        let problem = async |input: &str| trial().run(input).await.problem().unwrap().r#type.clone();
        assert_eq!(problem("panic").await, job::PANIC);
        assert_eq!(problem("ignore").await, job::TIMEOUT);
        let rejected = trial().run(7).await;
        assert_eq!(rejected.problem().unwrap().r#type, job::REJECTED_INPUT);
        let Ended::Failed { retry, .. } = trial().run("").await.ended else { panic!("not failed") };
        assert_eq!(retry, Retry::After(Duration::from_secs(7)));
        let begun = Instant::now();
        trial().timeout(Duration::from_secs(2)).run("ignore").await;
        assert_eq!(begun.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_asked_to_stop_stops_or_is_dropped() {
        assert_eq!(trial().cancel_at(30.0).run("wait").await.ended, Ended::Canceled);
        let begun = Instant::now();
        assert_eq!(trial().cancel_after(Duration::from_secs(1)).run("ignore").await.ended, Ended::Canceled);
        assert_eq!(begun.elapsed().as_secs(), 6, "with the grace of a worker");
        assert_eq!(trial().cancel_at(200.0).run("tell").await.output(), Some(&1.into()));
    }

    #[tokio::test]
    async fn a_plain_function_and_its_bounds_are_tried_too() {
        let worker = || {
            Worker::builder().cpu_handler("long", |ctx: JobContext, length: usize| {
                ctx.log("begun");
                Ok("x".repeat(length))
            })
        };
        let tried = Trial::of(worker(), "long").unwrap().run(3).await;
        assert_eq!((tried.output(), tried.log()), (Some(&"xxx".into()), vec!["begun"]));
        let tried = Trial::of(worker(), "long").unwrap().run(2 << 20).await;
        assert_eq!(tried.problem().unwrap().r#type, job::OUTPUT_TOO_LARGE);
    }

    #[test]
    fn what_cannot_be_tried_says_why() {
        let error = |worker| Trial::of(worker, "other").unwrap_err().to_string();
        assert!(error(Worker::builder()).contains("add a handler"));
        assert!(error(Worker::builder().handler("obey", obey)).contains("but obey"));
    }
}
