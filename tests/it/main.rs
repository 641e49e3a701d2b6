//! Buzzer's promises, tried as its users meet them: over HTTP, on real processes and a real RabbitMQ.

mod broker;
mod http;
mod walls;
