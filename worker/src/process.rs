//! A worker that has a process of its own: from the command line to the exit code.

use std::process::ExitCode;
use std::sync::Arc;

use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::command_line;
use buzzer_shared::config::BrokerAddress;
use buzzer_shared::health::{self, Unwell};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::telemetry;
use clap::Parser;

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
    #[error("the embedded broker lives in `buzzer up`, with the API beside it; BUZZER_BROKER takes an amqp:// URL")]
    Embedded,
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error(transparent)]
    Unwell(#[from] Unwell),
}

impl WorkerBuilder {
    /// Runs the worker as a program of its own: reads flags and environment, connects to RabbitMQ, and runs jobs
    /// until SIGTERM or SIGINT. Starts its own threads, so call it from a plain `main`.
    ///
    /// What is wrong is told on standard error, in one line.
    pub fn run(self) -> ExitCode {
        let CommandLine { process, worker } = command_line::read();
        self.config(worker).run_with(&process)
    }

    /// The same with settings that were read already; the worker's own come from [`config`](Self::config).
    pub fn run_with(self, process: &ProcessConfig) -> ExitCode {
        match self.try_run_with(process) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn try_run_with(self, process: &ProcessConfig) -> Result<(), ProcessError> {
        if let (true, Some(address)) = (process.health, process.listen) {
            return Ok(health::ask(address, "/livez")?);
        }
        telemetry::start_log(&process.log).map_err(|error| ProcessError::Log(error.to_string()))?;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(ProcessError::Runtime)?;
        let ended = runtime.block_on(self.serve(process));
        // Not waiting for CPU-bound handlers that were cut off: their jobs are handed back, and they may never return.
        runtime.shutdown_background();
        ended
    }

    /// The same inside a runtime that is there already. Mind that the end of a runtime waits for CPU-bound handlers,
    /// unless it is ended by `shutdown_background`.
    ///
    /// # Errors
    /// When the worker cannot be built or started, and when it ends in another way than by a signal.
    pub async fn serve(self, process: &ProcessConfig) -> Result<(), ProcessError> {
        let worker = match process.listen {
            Some(address) => self.listen(address),
            None => self,
        };
        let worker = worker.build()?;
        let BrokerAddress::Amqp(url) = process.broker.address() else { return Err(ProcessError::Embedded) };
        let shutdown = Shutdown::on_signals().map_err(ProcessError::Signals)?;
        let broker: Arc<dyn Broker> = AmqpBroker::connect(url.clone(), "buzzer-worker");
        let ended = worker.run(Arc::clone(&broker), process.broker.topology(), shutdown).await;
        broker.close().await;
        Ok(ended?)
    }
}
