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
//! A handler may run twice for one job: after a crash, the job is handed to another worker. What it does to the
//! world should bear that; [`JobContext::job_id`] is a good key. Where it cannot,
//! [`HandlerOptions::at_most_once`] never runs a job twice, and ends one whose worker was lost as `failed: lost`.
//!
//! A job that somebody cancels asks its handler to stop: [`JobContext::canceled`] for one that waits,
//! [`JobContext::is_canceled`] for one that computes. A handler that takes no notice is dropped after some seconds.
//!
//! The stock worker also runs the kinds that a file declares ([`Declared`]), each by a program or by a service: for work
//! that is not written in Rust.
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
