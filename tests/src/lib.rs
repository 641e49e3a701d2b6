//! What the tests stand on: a private RabbitMQ, a private PostgreSQL, a publisher without manners, processes of ours, the
//! workers of the examples, a whole Buzzer inside the test, somebody whom webhooks tell, a model of Buzzer's promises, a
//! simulation, and ways to wait for conditions.

pub mod browser;
pub mod client;
pub mod compose;
pub mod conformance;
pub mod events;
pub mod example_worker;
pub mod foreign;
pub mod hostile;
pub mod inside;
mod judge;
pub mod ledger;
pub mod load;
pub mod lone;
pub mod model;
pub mod outside;
pub mod postgres;
pub mod python;
pub mod rabbitmq;
pub mod simulation;
pub mod sink;
pub mod socket;
pub mod wait;
pub mod wire;

/// Where this test was built.
pub(crate) fn programs() -> std::path::PathBuf {
    let test = std::env::current_exe().expect("a test that knows where it is");
    test.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).expect("a target directory").to_owned()
}
