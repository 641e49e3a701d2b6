//! Buzzer's promises, tried as its users meet them: over HTTP, on real processes and a real RabbitMQ.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, and says where")]

mod broker;
mod cancel;
mod damage;
mod document;
mod faults;
mod full;
mod garbage;
mod hostile;
mod http;
mod http_request;
mod long_runs;
mod outside;
mod poison;
mod postgres;
mod readme;
mod replicas;
mod walls;
mod wire;
