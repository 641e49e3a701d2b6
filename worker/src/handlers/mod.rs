//! The kinds that the stock worker runs.

mod demo;
mod echo;

pub(crate) use demo::{Crash, Fail, Flaky, Progress, Sleep};
pub(crate) use echo::Echo;
