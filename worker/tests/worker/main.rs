//! A worker against a fake API, over the broker inside the process.

mod drain;
mod holding;
mod outcomes;
mod stage;
mod telling;
