use std::sync::Arc;

use buzzer_api::app::{App, BrokerLine};
use buzzer_api::config::ApiConfig;
use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::broker::embedded::EmbeddedBroker;
use buzzer_shared::config::{BrokerAddress, LogConfig, prefix};
use buzzer_shared::from_file::FromFile;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::telemetry;
use buzzer_shared::time::{Clock, Span, SystemClock};
use buzzer_shared::topology::Topology;
use buzzer_worker::{Declared, StockConfig, WorkerConfig, stock_worker};
use clap::builder::BoolishValueParser;
use clap::{Args, value_parser};

const EGRESS_ALLOW: &str = "Private networks that jobs and webhooks may call although they are not public, webhooks also \
    without TLS: CIDRs with commas between them, like `10.0.0.0/8,fd12:3456::/32`. None unless given";

/// The API and a worker in this one process: nothing to install, to try Buzzer out or for a small site.
///
/// Everybody is let in (`--auth off`), which is why it listens on a loopback address unless told otherwise.
#[derive(Debug, Args)]
#[command(mut_arg("auth", |auth| auth.default_value("off")))]
#[command(mut_arg("egress_allow", |allow| allow.help(EGRESS_ALLOW).long_help(EGRESS_ALLOW)))]
pub struct Up {
    #[command(flatten)]
    api: ApiConfig,

    /// RabbitMQ's address, or `embedded` for a broker inside this process.
    #[arg(long, env = "BUZZER_BROKER", hide_env_values = true, default_value = "embedded")]
    broker: BrokerAddress,

    /// A file that holds RabbitMQ's address, so that its password need not stand in the environment.
    #[arg(long, env = "BUZZER_BROKER_FILE", value_name = "FILE", conflicts_with = "broker")]
    broker_file: Option<FromFile<BrokerAddress>>,

    /// What the names of all exchanges and queues on RabbitMQ begin with.
    #[arg(long, env = "BUZZER_PREFIX", default_value = "buzzer", value_parser = prefix)]
    prefix: String,

    /// How many jobs of one kind run at a time.
    #[arg(long, env = "BUZZER_SLOTS", default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    slots: u16,

    /// How long a canceled run may go on to finish what it must; then it is dropped.
    #[arg(long, env = "BUZZER_CANCEL_GRACE", default_value = "5s")]
    cancel_grace: Span,

    /// Also run the kinds to try things out with: demo.sleep, demo.progress, demo.flaky, demo.fail.
    #[arg(long, env = "BUZZER_DEMO", value_parser = BoolishValueParser::new())]
    demo: bool,

    /// A file that declares more kinds, each run by a program or by a service: `worker.toml`, see
    /// docs/guides/write-a-worker.md.
    #[arg(long, env = "BUZZER_WORKER_CONFIG", value_name = "FILE")]
    worker_config: Option<Declared>,

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
        let app = App::start(self.api, line, Arc::new(SystemClock), api_shutdown.clone()).await?;
        // Whichever ends first, by itself or because it was asked to, takes the other with it.
        let working = async {
            let worked = worker.run(broker, topology, shutdown.clone()).await;
            api_shutdown.request();
            worked
        };
        let serving = async {
            let served = app.stopped().await;
            shutdown.request();
            served
        };
        let (worked, served) = tokio::join!(working, serving);
        served?;
        Ok(worked?)
    }

    fn line(&self, clock: Arc<dyn Clock>) -> BrokerLine {
        let (broker, durable): (Arc<dyn Broker>, bool) = match self.broker_file.as_deref().unwrap_or(&self.broker) {
            BrokerAddress::Embedded => (Arc::new(EmbeddedBroker::new(clock)), false),
            BrokerAddress::Amqp(url) => (AmqpBroker::connect(url.clone(), "buzzer"), true),
        };
        BrokerLine { broker, topology: Topology::new(&self.prefix), durable }
    }

    fn worker(&self) -> StockConfig {
        let ApiConfig { drain, max_body, leases, .. } = self.api;
        // A lease must outlast several beats.
        let usual = WorkerConfig::default().beat;
        let beat = usual.min(Span::from(leases.run_lease.as_duration() / 6));
        let worker = WorkerConfig { slots: self.slots, drain, max_body, cancel_grace: self.cancel_grace, beat };
        let (egress_allow, declared) = (self.api.webhooks.egress_allow.clone(), self.worker_config.clone());
        StockConfig { worker, demo: self.demo, egress_allow, declared }
    }
}
