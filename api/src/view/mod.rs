//! What clients see: the JSON shapes of a job and of an event, the same wherever one is shown.

mod event;
mod job;

pub use event::{EventView, to_line};
pub use job::{Content, JobView, Waiting};
