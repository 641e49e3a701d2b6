//! What Buzzer's API and workers must agree on, and nothing else.
//!
//! In reading order: the words ([`id`], [`kind`], [`job`], [`time`], [`retry`], [`problem`]), what is said with them
//! ([`message`], [`webhook`]), what a kind may ask of inputs and outputs ([`contract`]), where it travels ([`topology`]),
//! how it gets there ([`broker`]), which URLs may be called ([`egress`]), and what every process of ours does the same
//! way ([`config`], [`from_file`], [`command_line`], [`environment`], [`telemetry`], [`text`], [`shutdown`], [`health`]).
//! [`bite`] is for tests of the tests.

pub mod id;
pub mod job;
pub mod kind;
pub mod problem;
pub mod retry;
pub mod time;

pub mod contract;
pub mod message;
pub mod topology;
pub mod webhook;

pub mod broker;

pub mod egress;

pub mod bite;

pub mod command_line;
pub mod config;
pub mod environment;
pub mod from_file;
pub mod health;
pub mod shutdown;
pub mod telemetry;
pub mod text;
