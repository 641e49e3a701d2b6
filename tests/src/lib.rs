//! What the tests stand on: a private RabbitMQ, a private PostgreSQL, a publisher without manners, processes of ours, a
//! whole Buzzer inside the test, a ledger of what was promised, and ways to wait for conditions.

pub mod client;
pub mod foreign;
pub mod guardian;
pub mod hostile;
pub mod inside;
pub mod ledger;
pub mod lone;
pub mod outside;
pub mod postgres;
pub mod process;
pub mod rabbitmq;
pub mod wait;
