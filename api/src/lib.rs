//! Buzzer's HTTP service: it accepts jobs, stores them, sends them out, takes the replies, and tells whoever waits.
//!
//! One job's road: [`jobs`] `submit` → [`store`] `submit` → `202` → [`lanes`], [`dispatch`] → the broker → a worker →
//! the broker → [`replies`] → [`journal`] → [`store`] `apply`, which asks [`lifecycle`] → [`wake`] → [`jobs`] `get`, `events`.

pub mod app;
pub mod config;
pub mod state;

pub mod events;
pub mod jobs;
pub mod kinds;
pub mod ops;
pub mod parked;
pub mod socket;
pub mod tickets;
pub mod webhooks;

mod asyncapi;
pub mod auth;
pub mod extract;
mod header;
mod negotiate;
mod openapi;
pub mod origins;
mod pace;
pub mod problem;
mod serve;
mod streams;
pub mod view;
mod webhook_url;
mod websocket;

mod aside;
mod descriptors;

pub mod bell;
pub mod bounds;
pub mod cancel;
pub mod catalog;
pub mod deliver;
pub mod dispatch;
pub mod feeds;
pub mod forget;
pub mod hearing;
pub mod journal;
pub mod lanes;
pub mod letters;
pub mod parking;
pub mod pulse;
pub mod readiness;
pub mod replicas;
pub mod replies;
pub mod retention;
pub mod senders;
pub mod signals;
pub mod streak;
pub mod sweep;
pub mod tally;
pub mod wake;

pub mod contracts;
pub mod delivery;
pub mod lifecycle;
pub mod store;
