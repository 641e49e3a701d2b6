//! What the tests stand on: a private RabbitMQ, processes of ours, a whole Buzzer inside the test, and ways to wait for
//! conditions.

pub mod client;
pub mod guardian;
pub mod hostile;
pub mod inside;
pub mod outside;
pub mod process;
pub mod rabbitmq;
pub mod wait;
