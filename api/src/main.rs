use std::process::ExitCode;
use std::sync::Arc;

use buzzer_api::app::{App, BrokerLine};
use buzzer_api::config::ApiConfig;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::config::{BrokerAddress, BrokerConfig, LogConfig};
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
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Settings::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("buzzer-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    telemetry::start_log(&settings.log)?;
    let shutdown = Shutdown::on_signals()?;
    let BrokerAddress::Amqp(url) = settings.broker.broker.clone() else {
        anyhow::bail!(
            "the embedded broker lives in `buzzer up`, with a worker beside it; BUZZER_BROKER takes an amqp:// URL"
        );
    };
    let broker = AmqpBroker::connect(url, "buzzer-api");
    let line = BrokerLine { broker, topology: settings.broker.topology(), durable: true };
    Ok(App::start(settings.api, line, Arc::new(SystemClock), shutdown).await?.stopped().await?)
}
