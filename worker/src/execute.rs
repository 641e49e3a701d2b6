//! One request, from its slot to its acknowledgement.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::WorkerId;
use buzzer_shared::message::{Outcome, Request, ReturnReason, RunResult, Started, Told};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Time};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, info_span};

use crate::call::{Call, Seat};
use crate::context::JobContext;
use crate::gate::{Alone, Gate};
use crate::held::Hold;
use crate::outcomes::{GaveUp, Outcomes};
use crate::registry::Registered;
use crate::signals::{SignalSender, Signals};

/// So long a run waits for a core.
const CORE_PATIENCE: Duration = Duration::from_secs(60);
/// So long a suspect keeps the others out: longer than any run that is not acknowledged early.
const ALONE_MAX: Duration = Duration::from_secs(600);

/// Runs requests and answers them.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) worker: WorkerId,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) outcomes: Outcomes,
    pub(crate) signals: SignalSender,
    /// The largest output, in bytes.
    pub(crate) max_body: usize,
    /// How long a canceled run may go on.
    pub(crate) cancel_grace: Duration,
    /// One permit for each CPU-bound run at a time.
    pub(crate) cores: Arc<Semaphore>,
    pub(crate) gate: Gate,
    pub(crate) shutdown: Shutdown,
    /// Canceled when running handlers may go on no longer.
    pub(crate) cut: CancellationToken,
}

/// A run whose handler is called next.
#[derive(Debug)]
pub(crate) struct Begun {
    kind: Arc<Registered>,
    request: Request,
    hold: Hold,
    slot: OwnedSemaphorePermit,
    start: Start,
    span: Span,
}

/// A run's start, and what it takes up besides its slot.
#[derive(Debug)]
struct Start {
    at: Time,
    /// Whether the API knows of it already: then the request is acknowledged.
    told: bool,
    seat: Seat,
    alone: Option<Alone>,
}

/// A run that has ended.
#[derive(Debug)]
struct Run {
    started_at: Time,
    /// What it told last.
    told: Vec<Told>,
    result: RunResult,
}

/// Why a handler is not called.
#[derive(Debug)]
enum NotBegun {
    /// This is answered instead.
    Answer(RunResult),
    /// Nothing is answered: the request comes again.
    GaveUp,
}

impl Executor {
    /// Runs a request and answers it. The slot is free again as soon as the handler is done.
    pub(crate) async fn execute(
        self: Arc<Self>,
        kind: Arc<Registered>,
        request: Request,
        hold: Hold,
        slot: OwnedSemaphorePermit,
    ) {
        if let Some(begun) = self.begin(kind, request, hold, slot).await {
            self.finish(begun).await;
        }
    }

    /// Waits for all that a run needs before its handler is called. `None` when it is not to be called; then that is
    /// answered. What is acknowledged early is acknowledged now.
    pub(crate) async fn begin(
        &self,
        kind: Arc<Registered>,
        request: Request,
        hold: Hold,
        slot: OwnedSemaphorePermit,
    ) -> Option<Begun> {
        let span = info_span!("run", job.id = %request.run.job, job.kind = %request.kind, attempt = request.attempt);
        match self.start(&kind, &request, &hold).instrument(span.clone()).await {
            Ok(start) => Some(Begun { kind, request, hold, slot, start, span }),
            Err(NotBegun::Answer(result)) => {
                drop(slot);
                self.answer_unstarted(hold, result).await;
                None
            }
            Err(NotBegun::GaveUp) => None,
        }
    }

    /// Calls the handler, and answers.
    pub(crate) async fn finish(&self, begun: Begun) {
        let Begun { kind, request, hold, slot, start, span } = begun;
        let Start { at, told, seat, alone } = start;
        let (run, limit) = (request.run, limit(&kind, &request));
        // A child: what a handler cancels itself must not look like somebody's wish.
        let token = hold.cancellation().child_token();
        let ctx = JobContext::new(run, request.attempt, Instant::now(), limit, token);
        let signals = Some(Signals::new(&self.signals, run, ctx.clone(), (!told).then_some(at)));
        let wish = hold.cancellation().clone();
        let call = Call { ctx, limit, grace: self.cancel_grace, wish, cut: &self.cut, signals };
        let calling = async {
            let (ended, told) = call.make(&kind.runner, request.input, seat).await;
            Run { started_at: at, told, result: ended.into_result(self.max_body) }
        };
        let calling = pin!(calling.instrument(span));
        let (run, alone) =
            self.alone_for_a_while(calling, alone, Started { run, worker: self.worker, at, charged: false }).await;
        drop(slot);
        self.answer(hold, run).await;
        // Only now, or a crash in between would be charged to it.
        drop(alone);
    }

    /// Waits for the end of a run, and lets others start beside it after a while: one that takes hours must not shut
    /// the worker for them. Before that the API is told that it has company.
    async fn alone_for_a_while(
        &self,
        mut calling: Pin<&mut impl Future<Output = Run>>,
        alone: Option<Alone>,
        in_company: Started,
    ) -> (Run, Option<Alone>) {
        let Some(alone) = alone else { return (calling.await, None) };
        let told = async {
            tokio::time::sleep(ALONE_MAX).await;
            self.outcomes.say_started(&in_company).await
        };
        tokio::select! {
            biased;
            run = &mut calling => return (run, Some(alone)),
            Ok(()) = told => drop(alone),
        }
        (calling.await, None)
    }

    /// Answers a request that was not started.
    pub(crate) async fn answer_unstarted(&self, hold: Hold, result: RunResult) {
        let outcome = Outcome { run: hold.run(), worker: self.worker, started_at: None, told: Vec::new(), result };
        self.hand_over(hold, outcome).await;
    }

    /// Answers a request that was run.
    async fn answer(&self, hold: Hold, run: Run) {
        let Run { started_at, told, result } = run;
        let outcome = Outcome { run: hold.run(), worker: self.worker, started_at: Some(started_at), told, result };
        self.hand_over(hold, outcome).await;
    }

    /// Hands the outcome over, and only then acknowledges. The other way round, a crash in between would lose it;
    /// this way round, a crash in between runs the job twice.
    async fn hand_over(&self, hold: Hold, outcome: Outcome) {
        if bites(Fault::AcknowledgeBeforeOutcome) {
            hold.acknowledge_early().await;
        }
        if self.outcomes.send(outcome).await.is_ok() {
            hold.acknowledge();
        }
    }

    /// The start of a run, unless somebody asks it or the worker to stop before.
    async fn start(&self, kind: &Registered, request: &Request, hold: &Hold) -> Result<Start, NotBegun> {
        let canceled = || Err(NotBegun::Answer(RunResult::Canceled));
        let stopping = || Err(NotBegun::Answer(RunResult::Returned(ReturnReason::Stopping)));
        if hold.cancellation().is_cancelled() {
            return canceled();
        }
        if self.shutdown.is_requested() {
            return stopping();
        }
        tokio::select! {
            // What is ready at once waits for nothing else.
            biased;
            start = self.make_ready(kind, request, hold) => start,
            () = hold.cancellation().cancelled() => canceled(),
            () = self.shutdown.requested() => stopping(),
        }
    }

    async fn make_ready(&self, kind: &Registered, request: &Request, hold: &Hold) -> Result<Start, NotBegun> {
        let (seat, alone) = self.seat(kind, request).await.ok_or(returned(ReturnReason::NoSlot))?;
        let at = self.clock.now();
        if request.expires_in.is_some_and(|left| left <= hold.age()) {
            return Err(returned(ReturnReason::Expired));
        }
        let told = request.alone || request.at_most_once || kind.spec.acknowledges_early();
        if told {
            // In company nobody can say whose doing a crash is.
            let charged = alone.as_ref().is_some_and(|alone| alone.undisturbed);
            let started = Started { run: request.run, worker: self.worker, at, charged };
            self.outcomes.say_started(&started).await?;
            hold.acknowledge_early().await;
        }
        Ok(Start { at, told, seat, alone })
    }

    /// Waits for a core, where one is needed, and at the gate. `None` when that takes too long: another worker may
    /// have room.
    async fn seat(&self, kind: &Registered, request: &Request) -> Option<(Seat, Option<Alone>)> {
        let core = if kind.runner.is_cpu() { Some(self.core(limit(kind, request)).await?) } else { None };
        let (alone, company) = if request.alone {
            let (alone, company) = self.gate.enter_alone(&kind.spec.name).await?;
            (Some(alone), company)
        } else {
            (None, self.gate.enter().await?)
        };
        Some((Seat { _core: core, _company: company }, alone))
    }

    /// Waits for a core. `None` when there is none for long, for runaways may keep them all: another worker may have
    /// one, and RabbitMQ takes back what is not acknowledged.
    async fn core(&self, limit: Duration) -> Option<OwnedSemaphorePermit> {
        timeout(limit.min(CORE_PATIENCE), Arc::clone(&self.cores).acquire_owned()).await.ok()?.ok()
    }
}

impl From<GaveUp> for NotBegun {
    fn from(GaveUp: GaveUp) -> Self {
        Self::GaveUp
    }
}

fn returned(reason: ReturnReason) -> NotBegun {
    NotBegun::Answer(RunResult::Returned(reason))
}

/// How long the run may take. A job may shorten its kind's timeout, not lengthen it.
fn limit(kind: &Registered, request: &Request) -> Duration {
    request.timeout.min(kind.spec.timeout.as_duration())
}
