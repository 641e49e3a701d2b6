//! What a handler is: a function, or a type that has one, with what is told about it.

use std::fmt;
use std::future::{Future, ready};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Span;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::context::JobContext;
use crate::error::JobError;

/// One kind of work, as a type: for a handler that holds something, like a pool of connections.
///
/// A plain function needs none of this: [`WorkerBuilder::handler`](crate::WorkerBuilder::handler).
pub trait Handler: Send + Sync + 'static {
    /// The kind that it runs, like `image.transform`.
    const KIND: &'static str;
    type Input: Input;
    type Output: Output;

    /// What is told about the kind, and how it is run.
    fn options(&self) -> HandlerOptions {
        HandlerOptions::default()
    }

    /// Runs one job. Dropped at its timeout, or when it does not stop although it was asked to.
    fn run(&self, ctx: JobContext, input: Self::Input) -> impl Future<Output = Result<Self::Output, JobError>> + Send;
}

/// What is told about a kind, and how its jobs are run. All of it has a default.
#[derive(Debug, Clone)]
pub struct HandlerOptions {
    pub(crate) title: Option<String>,
    pub(crate) description: String,
    pub(crate) example: Option<Value>,
    /// `None` for the usual one.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) timeout: Span,
    pub(crate) slots: Option<u16>,
    pub(crate) delivery: DeliveryMode,
}

impl Default for HandlerOptions {
    fn default() -> Self {
        Self {
            title: None,
            description: String::new(),
            example: None,
            retry: None,
            timeout: Span::from_secs(300),
            slots: None,
            delivery: DeliveryMode::AtLeastOnce,
        }
    }
}

impl HandlerOptions {
    pub fn new() -> Self {
        Self::default()
    }

    /// A few words for lists; the kind's name otherwise.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// What it does, in Markdown.
    #[must_use]
    pub fn description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// An input that works. The worker is not built when the handler cannot read it.
    #[must_use]
    pub fn example(mut self, example: impl Into<Value>) -> Self {
        self.example = Some(example.into());
        self
    }

    /// How often and how soon a failed job is tried again; five attempts otherwise.
    #[must_use]
    pub fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = Some(retry);
        self
    }

    /// How long one run may take; five minutes otherwise. A job may ask for less, not for more.
    ///
    /// A kind with more than ten minutes is acknowledged before it runs, so that the broker does not take the request
    /// back: when its worker is lost, the job goes out again half a minute later.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// How many jobs of this kind run at a time; otherwise `--slots` for an async handler, and as many as there are
    /// cores for a CPU-bound one.
    #[must_use]
    pub fn slots(mut self, slots: u16) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Never runs a job twice, whatever happens: one whose end stays unknown, because its worker was lost, ends as
    /// `failed: lost`. For what must not be done twice, like moving money. Its jobs are never tried again, so it takes
    /// no retry policy.
    #[must_use]
    pub fn at_most_once(mut self) -> Self {
        self.delivery = DeliveryMode::AtMostOnce;
        self
    }
}

/// What a handler takes: any type that is `Deserialize` and `JsonSchema`, or [`RawJson`].
pub trait Input: JsonSchema + Sized + Send + 'static {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// When it is no JSON, or not this type's. The attempt then fails as `rejected-input`, and the next one is made by the policy.
    fn decode(body: &Bytes) -> Result<Self, serde_json::Error>;
}

/// What a handler gives: any type that is `Serialize` and `JsonSchema`, or [`RawJson`].
pub trait Output: JsonSchema + Send + 'static {
    /// Writes the body of an outcome.
    ///
    /// # Errors
    /// When the type cannot be written as JSON.
    fn encode(self) -> Result<Bytes, serde_json::Error>;
}

impl<T: DeserializeOwned + JsonSchema + Send + 'static> Input for T {
    fn decode(body: &Bytes) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(body)
    }
}

impl<T: Serialize + JsonSchema + Send + 'static> Output for T {
    fn encode(self) -> Result<Bytes, serde_json::Error> {
        serde_json::to_vec(&self).map(Bytes::from)
    }
}

/// Any JSON, as the very bytes that came: order of keys, form of numbers and white space included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawJson(Bytes);

impl RawJson {
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl TryFrom<Bytes> for RawJson {
    type Error = serde_json::Error;

    fn try_from(bytes: Bytes) -> Result<Self, serde_json::Error> {
        // Only looked at: nothing is built, nothing changed.
        serde_json::from_slice::<&RawValue>(&bytes)?;
        Ok(Self(bytes))
    }
}

impl Input for RawJson {
    fn decode(body: &Bytes) -> Result<Self, serde_json::Error> {
        body.clone().try_into()
    }
}

impl Output for RawJson {
    fn encode(self) -> Result<Bytes, serde_json::Error> {
        Ok(self.0)
    }
}

impl JsonSchema for RawJson {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AnyJson".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "Any JSON" })
    }
}

/// A handler from which the types are gone: bytes in, bytes out.
pub(crate) enum Runner {
    /// Runs on the async threads.
    Async(Box<dyn Fn(JobContext, Bytes) -> Running + Send + Sync>),
    /// Runs off them, at most as many at a time as there are cores.
    Cpu(Arc<dyn Fn(JobContext, Bytes) -> Result<Bytes, Failure> + Send + Sync>),
}

/// A call of an async handler.
type Running = BoxFuture<'static, Result<Bytes, Failure>>;

/// How a handler that came back failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was never called: its input cannot be read.
    Rejected(serde_json::Error),
    Failed(JobError),
}

impl From<JobError> for Failure {
    fn from(error: JobError) -> Self {
        Failure::Failed(error)
    }
}

impl Runner {
    pub(crate) fn of_async<F, Fut, I, O>(run: F) -> Self
    where
        F: Fn(JobContext, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, JobError>> + Send + 'static,
        I: Input,
        O: Output,
    {
        Runner::Async(Box::new(move |ctx, body| match I::decode(&body) {
            Ok(input) => {
                let running = run(ctx, input);
                Box::pin(async move { encode(running.await?) })
            }
            Err(error) => Box::pin(ready(Err(Failure::Rejected(error)))),
        }))
    }

    pub(crate) fn of_type<H: Handler>(handler: H) -> Self {
        let handler = Arc::new(handler);
        Self::of_async(move |ctx, input| {
            let handler = Arc::clone(&handler);
            async move { handler.run(ctx, input).await }
        })
    }

    pub(crate) fn of_cpu<F, I, O>(run: F) -> Self
    where
        F: Fn(JobContext, I) -> Result<O, JobError> + Send + Sync + 'static,
        I: Input,
        O: Output,
    {
        Runner::Cpu(Arc::new(move |ctx, body| {
            let input = I::decode(&body).map_err(Failure::Rejected)?;
            encode(run(ctx, input)?)
        }))
    }

    pub(crate) fn is_cpu(&self) -> bool {
        matches!(self, Runner::Cpu(_))
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_cpu() { "Cpu" } else { "Async" })
    }
}

/// JSON Schema (2020-12) of what a type reads.
pub(crate) fn input_schema<I: Input>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<I>().to_value()
}

/// JSON Schema (2020-12) of what a type writes.
pub(crate) fn output_schema<O: Output>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<O>().to_value()
}

fn encode(output: impl Output) -> Result<Bytes, Failure> {
    output.encode().map_err(|error| JobError::fail(format!("the output cannot be written as JSON: {error}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_json_is_whole_and_of_utf_8() {
        let read =
            |bytes: &'static [u8]| RawJson::try_from(Bytes::from_static(bytes)).map(|json| json.as_bytes().clone());
        assert_eq!(read(br#" {"b": 1.50, "a": "\u0000"} "#).unwrap(), &br#" {"b": 1.50, "a": "\u0000"} "#[..]);
        assert!(read(b"1 2").is_err() && read(b"").is_err() && read(b"NaN").is_err());
        assert!(read(b"\"caf\xe9\"").is_err(), "Latin-1");
    }
}
