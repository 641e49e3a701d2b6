//! Buzzer's HTTP service: it accepts jobs, stores them, sends them out, takes the replies, and tells whoever waits.
//!
//! One job's road: [`jobs`] `submit` → [`store`] `submit` → `202` → [`lanes`], [`dispatch`] → the broker → a worker →
//! the broker → [`replies`] → [`journal`] → [`store`] `apply`, which asks [`lifecycle`] → [`wake`] → [`jobs`] `get`.

pub mod app;
pub mod config;
pub mod state;

pub mod jobs;
pub mod kinds;
pub mod ops;
pub mod parked;

pub mod extract;
mod header;
mod openapi;
pub mod problem;
mod serve;

pub mod bounds;
pub mod cancel;
pub mod catalog;
pub mod dispatch;
pub mod forget;
pub mod hearing;
pub mod journal;
pub mod lanes;
pub mod parking;
pub mod pulse;
pub mod replicas;
pub mod replies;
pub mod retention;
pub mod signals;
pub mod sweep;
pub mod tally;
pub mod wake;

pub mod lifecycle;
pub mod store;
