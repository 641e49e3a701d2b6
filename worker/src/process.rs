//! A worker that has a process of its own: from the command line to the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::config::BrokerAddress;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::telemetry;
use clap::{Args, CommandFactory, FromArgMatches, Parser};

use crate::builder::{BuildError, WorkerBuilder};
use crate::config::{ProcessConfig, WorkerConfig};
use crate::runtime::WorkerError;

/// What every worker understands on its command line.
#[derive(Debug, Parser)]
#[command(about = "Runs jobs of Buzzer", long_about = None)]
struct CommandLine {
    #[command(flatten)]
    process: ProcessConfig,
    #[command(flatten)]
    worker: WorkerConfig,
}

/// Why a worker's process ended without having done its work.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error("--log cannot be read: {0}")]
    Log(String),
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
    #[error("cannot start: {0}")]
    Runtime(std::io::Error),
    #[error("a worker of its own needs RabbitMQ (--broker amqp://…); the embedded broker lives in `buzzer up`")]
    Embedded,
    #[error("cannot use the broker: {0}")]
    Broker(String),
    #[error(transparent)]
    Worker(#[from] WorkerError),
}
