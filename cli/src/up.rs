use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use buzzer_api::app::{App, BrokerLine};
use buzzer_api::config::{ApiConfig, Leases, StoreAddress};
use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::broker::embedded::EmbeddedBroker;
use buzzer_shared::config::{BrokerAddress, ByteSize, LogConfig};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::telemetry;
use buzzer_shared::time::{Clock, Span, SystemClock};
use buzzer_shared::topology::Topology;
use buzzer_worker::{StockConfig, WorkerConfig, stock_worker};
use clap::Args;
use clap::builder::BoolishValueParser;

/// The API and a worker in this one process: nothing to install, to try Buzzer out or for a small site.
#[derive(Debug, Args)]
pub struct Up {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, env = "BUZZER_LISTEN", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,

    /// Where everything is kept: `sqlite:FILE`.
    #[arg(long, env = "BUZZER_STORE", default_value_t = StoreAddress::Sqlite(PathBuf::from("buzzer.db")))]
    store: StoreAddress,

    /// RabbitMQ's address, or `embedded` for a broker inside this process.
    #[arg(long, env = "BUZZER_BROKER", hide_env_values = true, default_value = "embedded")]
    broker: BrokerAddress,

    /// What the names of all exchanges and queues on RabbitMQ begin with.
    #[arg(long, env = "BUZZER_PREFIX", default_value = "buzzer")]
    prefix: String,

    /// How many jobs of one kind run at a time.
    #[arg(long, env = "BUZZER_SLOTS", default_value_t = 64)]
    slots: u16,

    /// Also run the kinds to try things out with: demo.sleep, demo.progress, demo.flaky, demo.fail.
    #[arg(long, env = "BUZZER_DEMO", value_parser = BoolishValueParser::new())]
    demo: bool,

    /// How large a request may be, and with it an input; and how large an output.
    #[arg(long, env = "BUZZER_MAX_BODY", default_value = "1MiB")]
    max_body: ByteSize,

    /// How long jobs are kept after they are done.
    #[arg(long, env = "BUZZER_KEEP", default_value = "7d")]
    keep: Span,

    /// How long running jobs may go on when the process is asked to stop.
    #[arg(long, env = "BUZZER_DRAIN", default_value = "30s")]
    drain: Span,

    #[command(flatten)]
    leases: Leases,

    #[command(flatten)]
    log: LogConfig,
}

impl Up {
    /// Runs until SIGTERM or SIGINT. The API outlives the worker, so that the last outcomes are stored.
    pub async fn run(self) -> anyhow::Result<()> {
        telemetry::start_log(&self.log)?;
        let shutdown = Shutdown::on_signals()?;
        let api_shutdown = shutdown.later();
        let line = self.line(Arc::new(SystemClock));
        let (broker, topology) = (Arc::clone(&line.broker), line.topology.clone());
        let worker = stock_worker(&self.worker()).build()?;
        let app = App::start(self.api(), line, Arc::new(SystemClock), api_shutdown.clone()).await?;
        let worked = worker.run(broker, topology, shutdown).await;
        api_shutdown.request();
        app.stopped().await?;
        Ok(worked?)
    }

    fn line(&self, clock: Arc<dyn Clock>) -> BrokerLine {
        let (broker, durable): (Arc<dyn Broker>, bool) = match &self.broker {
            BrokerAddress::Embedded => (Arc::new(EmbeddedBroker::new(clock)), false),
            BrokerAddress::Amqp(url) => (AmqpBroker::connect(url.clone(), "buzzer"), true),
        };
        BrokerLine { broker, topology: Topology::new(&self.prefix), durable }
    }

    fn api(&self) -> ApiConfig {
        ApiConfig {
            listen: self.listen,
            store: self.store.clone(),
            max_body: self.max_body,
            keep: self.keep,
            drain: self.drain,
            leases: self.leases,
        }
    }

    fn worker(&self) -> StockConfig {
        let worker =
            WorkerConfig { slots: self.slots, drain: self.drain, max_body: self.max_body, ..WorkerConfig::default() };
        StockConfig { worker, demo: self.demo }
    }
}
