//! What may become of a job. Pure: no clock, no IO; time and chance come in as arguments.
//!
//! [`step()`] decides every move of every job. A store calls it inside its transaction and writes what comes out;
//! nobody else changes a job.

mod event;
mod events;
mod job;
mod report;
mod step;
#[cfg(test)]
mod table;

pub use event::{Entry, Event, LogType};
pub use events::Events;
pub use job::{Done, Early, Job, JobWebhook, Phase, Progress, RunLease, Suspicion};
pub use report::{Late, Report, TOLD_MAX};
pub use step::{Effect, Ignored, Transition, accept, step};
