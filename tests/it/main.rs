//! Buzzer's promises, tried as its users meet them: over HTTP, on real processes and a real RabbitMQ.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, and says where")]

mod broker;
mod document;
mod faults;
mod hostile;
mod http;
mod outside;
mod readme;
mod walls;
mod wire;
