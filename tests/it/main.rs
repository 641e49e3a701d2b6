//! Buzzer's promises, tried as its users meet them: over HTTP, on real processes and a real RabbitMQ.

#![expect(clippy::unwrap_used, reason = "a test that unwraps in vain fails, and says where")]

mod asyncapi;
mod bench;
mod broker;
mod cancel;
mod clients;
mod conformance;
mod damage;
mod doctor;
mod document;
mod events;
mod example;
mod example_worker;
mod faults;
mod foreign;
mod full;
mod fuzz;
mod garbage;
mod hostile;
mod http;
mod http_request;
mod keys;
mod long_runs;
mod outside;
mod page;
mod poison;
mod postgres;
mod programs;
mod prove;
mod push;
mod readme;
mod receivers;
mod replicas;
mod simulation;
mod sockets;
mod start;
mod tickets;
mod users;
mod walls;
mod webhooks;
mod wire;
mod worker_programs;
mod worker_test;
