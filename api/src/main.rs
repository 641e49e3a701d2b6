use std::process::ExitCode;
use std::sync::Arc;

use buzzer_api::app::{App, BrokerLine};
use buzzer_api::config::ApiConfig;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::command_line;
use buzzer_shared::config::{BrokerAddress, BrokerConfig, LogConfig};
use buzzer_shared::health;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::telemetry;
use buzzer_shared::time::SystemClock;
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Buzzer's HTTP service: accepts jobs, stores them, sends them to the workers through RabbitMQ, and tells the results.
#[derive(Debug, Parser)]
#[command(version)]
struct Settings {
    #[command(flatten)]
    api: ApiConfig,
    #[command(flatten)]
    broker: BrokerConfig,
    #[command(flatten)]
    log: LogConfig,

    /// Asks the API that runs on this machine whether it is well, and exits with 0 or 1: for the health checks of
    /// containers.
    #[arg(long)]
    health: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(command_line::read::<Settings>()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("buzzer-api: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    if settings.health {
        return Ok(health::ask(settings.api.listen, "/readyz")?);
    }
    telemetry::start_log(&settings.log)?;
    let shutdown = Shutdown::on_signals()?;
    let BrokerAddress::Amqp(url) = settings.broker.address().clone() else {
        anyhow::bail!(
            "the embedded broker lives in `buzzer up`, with a worker beside it; BUZZER_BROKER takes an amqp:// URL"
        );
    };
    let broker = AmqpBroker::connect(url, "buzzer-api");
    let line = BrokerLine { broker, topology: settings.broker.topology(), durable: true };
    Ok(App::start(settings.api, line, Arc::new(SystemClock), shutdown).await?.stopped().await?)
}
