//! Buzzer's HTTP service: it accepts jobs, stores them, sends them out, takes the replies, and tells whoever waits.

pub mod lifecycle;
pub mod store;
