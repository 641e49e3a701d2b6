//! What the tests stand on: a private RabbitMQ, processes of ours, and ways to wait for conditions.

pub mod guardian;
pub mod process;
pub mod rabbitmq;
pub mod wait;
