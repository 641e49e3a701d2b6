//! Buzzer's worker: a library to write handlers with, and the stock worker.
//!
//! A worker of your own is a program like this. It announces its kind with the schemas of its types, so the API
//! checks and documents jobs of it without being told.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use buzzer_worker::{JobContext, JobError, Worker};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize, JsonSchema)]
//! struct Count {
//!     /// The text whose words are counted.
//!     text: String,
//! }
//!
//! #[derive(Serialize, JsonSchema)]
//! struct Words {
//!     words: usize,
//! }
//!
//! async fn count(ctx: JobContext, input: Count) -> Result<Words, JobError> {
//!     if input.text.is_empty() {
//!         return Err(JobError::fail("there is no text").with_type("https://example.com/empty"));
//!     }
//!     ctx.progress(50.0, "counting");
//!     Ok(Words { words: input.text.split_whitespace().count() })
//! }
//!
//! fn main() -> ExitCode {
//!     Worker::builder().handler("words.count", count).run()
//! }
//! ```
//!
//! `examples/worker` is such a program, whole: with its own `Cargo.toml`, tests and Dockerfile.
//!
//! # What is told about a kind
//!
//! The types say what an input and an output are; doc comments and `#[schemars(…)]` go into the documents. The rest is
//! in [`HandlerOptions`]. Whoever says something else about a kind than before makes a new version of it;
//! `/v1/kinds/{kind}` shows both while workers of both run, and what the new one breaks. What the API does not take,
//! like an example that does not fit its input, the worker logs, and `/v1/workers` shows.
//!
//! ```
//! use std::time::Duration;
//!
//! use buzzer_worker::{HandlerOptions, JobContext, JobError, RetryPolicy, Worker};
//!
//! # async fn greet(_: JobContext, name: String) -> Result<String, JobError> { Ok(format!("Hello, {name}")) }
//! let options = HandlerOptions::new()
//!     .title("Greet")
//!     .description("Writes a greeting.")
//!     .example("Ada")
//!     .timeout(Duration::from_secs(20))
//!     .retry(RetryPolicy { max_attempts: 3, ..RetryPolicy::default() });
//! let worker = Worker::builder().handler_with("text.greet", options, greet).build();
//! assert!(worker.is_ok());
//! ```
//!
//! # Failing
//!
//! Any error that `?` meets is tried again as the job's policy has it. [`JobError`] says more: never again, or not before
//! some time has passed, and a problem type of your own for the client. A panic fails the job, not the worker.
//!
//! ```
//! use std::time::Duration;
//!
//! use buzzer_worker::{JobContext, JobError};
//!
//! async fn pay(_: JobContext, card: String) -> Result<(), JobError> {
//!     if card.is_empty() {
//!         return Err(JobError::fail("there is no card").with_type("https://example.com/no-card"));
//!     }
//!     let limit: u32 = std::env::var("LIMIT")?.parse()?;
//!     if limit == 0 {
//!         return Err(JobError::retry_after(Duration::from_secs(60), "the bank is closed"));
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Running twice, and stopping
//!
//! A handler may run twice for one job: after a crash, the job is handed to another worker. What it does to the
//! world should bear that; [`JobContext::job_id`] is a good key. Where it cannot,
//! [`HandlerOptions::at_most_once`] never runs a job twice, and ends one whose worker was lost as `failed: lost`.
//!
//! A job that somebody cancels asks its handler to stop: [`JobContext::canceled`] for one that waits,
//! [`JobContext::is_canceled`] for one that computes. A handler that takes no notice is dropped after some seconds.
//!
//! ```
//! use buzzer_worker::{JobContext, JobError, Worker};
//!
//! fn primes(ctx: JobContext, up_to: u32) -> Result<u32, JobError> {
//!     let mut found = 0;
//!     for number in 2..up_to {
//!         if ctx.is_canceled() {
//!             return Err(JobError::fail("asked to stop"));
//!         }
//!         found += u32::from((2..number).all(|divisor| number % divisor != 0));
//!         ctx.progress(100.0 * f64::from(number) / f64::from(up_to), "");
//!     }
//!     Ok(found)
//! }
//!
//! // A plain function that keeps a core busy: it runs off the async threads.
//! let worker = Worker::builder().cpu_handler("primes.count", primes);
//! # assert!(worker.build().is_ok());
//! ```
//!
//! # Testing
//!
//! [`testing`] runs a handler without a broker, and shows what came of it and all that it told.
//!
//! # Programs and services
//!
//! The stock worker also runs the kinds that a file declares ([`Declared`]), each by a program or by a service: for work
//! that is not written in Rust.
//!
//! # Inside
//!
//! In reading order: a [`WorkerBuilder`] collects [`Handler`]s and makes a [`Worker`]; its runtime takes requests (one
//! intake per kind), sorts out at a desk what is not to be run, executes the rest, hands their outcomes over and only
//! then acknowledges. Kinds with more than ten minutes, those that run at most once, and suspects (requests that may
//! have brought workers down) are acknowledged before they run; a suspect runs with nothing beside it.

mod builder;
mod call;
mod config;
mod context;
mod declared;
mod desk;
mod early;
mod egress;
mod error;
mod exec;
mod execute;
mod gate;
mod handler;
mod handlers;
mod health;
mod held;
mod intake;
mod outcomes;
mod process;
mod pulse;
mod push;
mod registry;
mod report;
mod retry_after;
mod runtime;
mod signals;
mod slots;
mod stock;
pub mod testing;

pub use buzzer_shared::id::JobId;
pub use buzzer_shared::message::Retry;
pub use buzzer_shared::problem::Problem;
pub use buzzer_shared::retry::RetryPolicy;

pub use builder::{BuildError, WorkerBuilder};
pub use config::{ProcessConfig, StockConfig, WorkerConfig};
pub use context::JobContext;
pub use declared::{Declared, DeclaredError, Mistake};
pub use error::JobError;
pub use exec::guard;
pub use handler::{Handler, HandlerOptions, Input, Output, RawJson};
pub use process::ProcessError;
pub use runtime::{Worker, WorkerError};
pub use stock::{lone_stock_worker, stock_worker};
