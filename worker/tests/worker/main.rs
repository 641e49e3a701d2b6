//! A worker against a fake API, over the broker inside the process.

#![expect(clippy::unwrap_used, reason = "in tests a panic is a failure")]

mod canceling;
mod drain;
mod early;
mod holding;
mod outcomes;
mod stage;
mod suspects;
mod telling;
