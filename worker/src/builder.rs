//! How a worker is put together.

use std::collections::HashMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use buzzer_shared::kind::{DeliveryMode, InvalidKind, Kind, KindSpec};
use buzzer_shared::message::ANNOUNCE_MAX;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Clock, SystemClock};
use bytes::Bytes;
use serde_json::Value;

use crate::config::WorkerConfig;
use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions, Input, Output, Runner, input_schema, output_schema};
use crate::registry::{Registered, Registry};
use crate::runtime::Worker;

/// Collects handlers and settings. Mistakes are told by [`build`](Self::build).
#[derive(Debug)]
#[must_use = "a worker does nothing until it is run"]
pub struct WorkerBuilder {
    config: WorkerConfig,
    version: String,
    cores: usize,
    listen: Option<SocketAddr>,
    clock: Arc<dyn Clock>,
    candidates: Vec<Candidate>,
}

/// So much of an announcement is not of kinds: who the worker is, and where.
const ENVELOPE: usize = 4 << 10;

/// A handler as it was given.
#[derive(Debug)]
struct Candidate {
    kind: String,
    options: HandlerOptions,
    input_schema: Value,
    output_schema: Value,
    /// Why the handler cannot read its own example.
    bad_example: Option<serde_json::Error>,
    /// File and line, where a file declares it.
    declared_at: Option<String>,
    runner: Runner,
}

/// Why a worker cannot be built. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    Kind(#[from] InvalidKind),
    #[error("two handlers run the kind {0}: give one of them another kind, or leave it out")]
    Twice(Kind),
    #[error("{place}: the worker has a handler of its own for the kind {kind}: give this one another name")]
    DeclaredTwice { kind: Kind, place: String },
    #[error("the worker runs no kind: add a handler")]
    NoHandler,
    #[error("the kind {0} has no slots: give it at least one")]
    NoSlots(Kind),
    #[error("the kind {0} has no time to run: give it a timeout above zero")]
    NoTime(Kind),
    #[error("the kind {0} has no attempts: give its retry policy at least one")]
    NoAttempts(Kind),
    #[error("the kind {0} is run at most once, so it is never tried again: leave its retry policy out")]
    RetriedAtMostOnce(Kind),
    #[error("the handler of {kind} cannot read its own example ({reason}): mend the example or the input type")]
    Example { kind: Kind, reason: serde_json::Error },
    #[error(
        "all that the worker says of its kinds has {size} bytes, and may have {ANNOUNCE_MAX}: make schemas and descriptions smaller, or let another worker run some of them"
    )]
    TooMuchSaid { size: usize },
    #[error("the beat is zero: give it some seconds, like 5s")]
    NoBeat,
}

impl Default for WorkerBuilder {
    fn default() -> Self {
        Self {
            config: WorkerConfig::default(),
            version: env!("CARGO_PKG_VERSION").into(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            listen: None,
            clock: Arc::new(SystemClock),
            candidates: Vec::new(),
        }
    }
}

impl WorkerBuilder {
    /// Runs jobs of `kind` with an async function.
    pub fn handler<F, Fut, I, O>(self, kind: &str, run: F) -> Self
    where
        F: Fn(JobContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, JobError>> + Send + 'static,
        I: Input,
        O: Output,
    {
        self.handler_with(kind, HandlerOptions::default(), run)
    }

    /// The same, with what is told about the kind and how it is run.
    pub fn handler_with<F, Fut, I, O>(self, kind: &str, options: HandlerOptions, run: F) -> Self
    where
        F: Fn(JobContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, JobError>> + Send + 'static,
        I: Input,
        O: Output,
    {
        self.add::<I, O>(kind, options, Runner::of_async(run))
    }

    /// Runs jobs with a type of your own, which names its kind itself.
    pub fn register<H: Handler>(self, handler: H) -> Self {
        let options = handler.options();
        self.add::<H::Input, H::Output>(H::KIND, options, Runner::of_type(handler))
    }

    /// Runs jobs of `kind` with a plain function that keeps a core busy or blocks.
    ///
    /// It runs off the async threads; all such runs of a worker together are at most as many as there are cores. At
    /// its timeout the job ends, but the function cannot be stopped: it takes up its core until it returns.
    pub fn cpu_handler<F, I, O>(self, kind: &str, run: F) -> Self
    where
        F: Fn(JobContext, I) -> Result<O, JobError> + Send + Sync + 'static,
        I: Input,
        O: Output,
    {
        self.cpu_handler_with(kind, HandlerOptions::default(), run)
    }

    /// The same, with what is told about the kind and how it is run.
    pub fn cpu_handler_with<F, I, O>(self, kind: &str, options: HandlerOptions, run: F) -> Self
    where
        F: Fn(JobContext, I) -> Result<O, JobError> + Send + Sync + 'static,
        I: Input,
        O: Output,
    {
        self.add::<I, O>(kind, options, Runner::of_cpu(run))
    }

    /// How the worker works.
    pub fn config(mut self, config: WorkerConfig) -> Self {
        self.config = config;
        self
    }

    /// The version that the worker tells of itself; this library's otherwise.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// How many CPU-bound jobs run at a time; as many as the machine has cores otherwise.
    pub fn cores(mut self, cores: usize) -> Self {
        self.cores = cores.max(1);
        self
    }

    /// Answers `/livez` there. Off otherwise.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Where the present comes from; the machine's clock otherwise.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The worker, ready to run.
    ///
    /// # Errors
    /// A kind that is none or that two handlers run, an example that its handler cannot read, a number that is zero, a
    /// retry policy for what is run at most once.
    pub fn build(self) -> Result<Worker, BuildError> {
        let Self { config, version, cores, listen, clock, candidates } = self;
        if config.beat.as_duration().is_zero() {
            return Err(BuildError::NoBeat);
        }
        let registry = registry_of(candidates, config.slots, cores)?;
        let size = serde_json::to_vec(&registry.specs()).map_or(0, |said| said.len() + ENVELOPE);
        if size > ANNOUNCE_MAX {
            return Err(BuildError::TooMuchSaid { size });
        }
        Ok(Worker { registry, config, version, cores, listen, clock })
    }

    /// What it would run, however much there is to say of it.
    pub(crate) fn registry(self) -> Result<Registry, BuildError> {
        registry_of(self.candidates, self.config.slots, self.cores)
    }

    /// Runs jobs of `kind` with what has no types of its own, but the schemas of its input and its output.
    pub(crate) fn with_schemas(
        mut self,
        kind: &str,
        options: HandlerOptions,
        (input_schema, output_schema): (Value, Value),
        runner: Runner,
    ) -> Self {
        let kind = kind.into();
        self.candidates.push(Candidate {
            kind,
            options,
            input_schema,
            output_schema,
            bad_example: None,
            declared_at: None,
            runner,
        });
        self
    }

    /// Where a file declares what was added last.
    pub(crate) fn declared_at(mut self, place: &str) -> Self {
        if let Some(candidate) = self.candidates.last_mut() {
            candidate.declared_at = Some(place.into());
        }
        self
    }

    fn add<I: Input, O: Output>(mut self, kind: &str, options: HandlerOptions, runner: Runner) -> Self {
        let bad_example =
            options.example.as_ref().and_then(|example| I::decode(&Bytes::from(example.to_string())).err());
        self = self.with_schemas(kind, options, (input_schema::<I>(), output_schema::<O>()), runner);
        if let Some(candidate) = self.candidates.last_mut() {
            candidate.bad_example = bad_example;
        }
        self
    }
}

/// What is run: a kind that has no slots of its own has `usual`, or as many as there are `cores` where it computes.
fn registry_of(candidates: Vec<Candidate>, usual: u16, cores: usize) -> Result<Registry, BuildError> {
    let place = |candidate: &Candidate| Some((candidate.kind.clone(), candidate.declared_at.clone()?));
    let mut places: HashMap<_, _> = candidates.iter().filter_map(place).collect();
    let cores = u16::try_from(cores).unwrap_or(u16::MAX);
    let mut registry = Registry::default();
    for candidate in candidates {
        let slots = if candidate.runner.is_cpu() { cores } else { usual };
        registry.insert(candidate.register(slots)?).map_err(|kind| match places.remove(kind.as_str()) {
            Some(place) => BuildError::DeclaredTwice { kind, place },
            None => BuildError::Twice(kind),
        })?;
    }
    if registry.is_empty() { Err(BuildError::NoHandler) } else { Ok(registry) }
}

impl Candidate {
    /// The kind as it is announced and run, with `slots` unless it has its own.
    fn register(self, slots: u16) -> Result<Registered, BuildError> {
        let kind: Kind = self.kind.parse()?;
        let options = self.options;
        let slots = options.slots.unwrap_or(slots);
        if slots == 0 {
            return Err(BuildError::NoSlots(kind));
        }
        if options.timeout.as_millis() == 0 {
            return Err(BuildError::NoTime(kind));
        }
        let retry = match (options.delivery, options.retry) {
            (DeliveryMode::AtMostOnce, None) => RetryPolicy::NEVER,
            (DeliveryMode::AtMostOnce, Some(_)) => return Err(BuildError::RetriedAtMostOnce(kind)),
            (DeliveryMode::AtLeastOnce, retry) => retry.unwrap_or_default(),
        };
        if retry.max_attempts == 0 {
            return Err(BuildError::NoAttempts(kind));
        }
        if let Some(reason) = self.bad_example {
            return Err(BuildError::Example { kind, reason });
        }
        let spec = KindSpec {
            title: options.title.unwrap_or_else(|| kind.to_string()),
            name: kind,
            description: options.description,
            input_schema: self.input_schema,
            output_schema: self.output_schema,
            example: options.example,
            retry,
            timeout: options.timeout,
            slots,
            delivery: options.delivery,
        };
        Ok(Registered { spec, runner: self.runner })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::RawJson;
    use std::time::Duration;

    async fn same(_: JobContext, input: RawJson) -> Result<RawJson, JobError> {
        Ok(input)
    }

    async fn count(_: JobContext, input: u32) -> Result<u32, JobError> {
        Ok(input)
    }

    fn error(builder: WorkerBuilder) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_the_way_out() {
        let builder = WorkerBuilder::default;
        let options = HandlerOptions::new;
        let no_attempts = RetryPolicy { max_attempts: 0, ..RetryPolicy::default() };
        for (builder, part) in [
            (builder(), "add a handler"),
            (builder().handler("No Kind", same), "words of a-z"),
            (builder().handler("a", same).handler("a", count), "another kind"),
            (
                builder().handler("a", same).declared_at("worker.toml, line 3").handler("a", count),
                "worker.toml, line 3: the worker has a handler of its own for the kind a: give this one another name",
            ),
            (builder().handler_with("a", options().slots(0), same), "at least one"),
            (builder().handler_with("a", options().timeout(Duration::ZERO), same), "above zero"),
            (builder().handler_with("a", options().retry(no_attempts), same), "at least one"),
            (
                builder().handler_with("a", options().retry(RetryPolicy::default()).at_most_once(), same),
                "leave its retry",
            ),
            (builder().handler_with("a", options().example("seven"), count), "mend the example"),
            (builder().handler_with("a", options().description("x".repeat(ANNOUNCE_MAX)), same), "another worker"),
        ] {
            let text = error(builder);
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn a_kind_is_announced_with_its_schemas_and_slots() {
        let worker = WorkerBuilder::default()
            .cores(3)
            .handler_with("count", HandlerOptions::new().title("Count").example(7), count)
            .cpu_handler("crunch", |_, input: u32| Ok(input))
            .build()
            .unwrap();
        let specs = worker.registry.specs();
        assert_eq!(specs[0].input_schema["type"], "integer");
        assert_eq!((specs[0].title.as_str(), specs[0].slots), ("Count", 64));
        assert_eq!((specs[1].title.as_str(), specs[1].slots), ("crunch", 3));
        assert_eq!((specs[1].retry, specs[1].delivery), (RetryPolicy::default(), DeliveryMode::AtLeastOnce));
    }

    #[test]
    fn what_is_run_at_most_once_is_never_tried_again() {
        let options = HandlerOptions::new().at_most_once();
        let worker = WorkerBuilder::default().handler_with("pay", options, count).build().unwrap();
        let spec = &worker.registry.specs()[0];
        assert_eq!((spec.retry, spec.delivery), (RetryPolicy::NEVER, DeliveryMode::AtMostOnce));
    }
}
