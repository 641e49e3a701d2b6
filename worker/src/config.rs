//! Settings of a worker: flags or environment, the same names everywhere.

use std::net::SocketAddr;

use buzzer_shared::config::{BrokerConfig, ByteSize, LogConfig, listen};
use buzzer_shared::egress::AllowList;
use buzzer_shared::time::Span;
use clap::Args;
use clap::builder::BoolishValueParser;

use crate::declared::Declared;

/// How a worker works.
#[derive(Debug, Clone, Args)]
pub struct WorkerConfig {
    /// How many jobs of one async kind run at a time, unless the kind says otherwise.
    #[arg(long, env = "BUZZER_SLOTS", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub slots: u16,

    /// How long running jobs may go on once the worker is asked to stop; then they are handed back.
    #[arg(long, env = "BUZZER_DRAIN", default_value = "30s")]
    pub drain: Span,

    /// How long a job that somebody canceled may take to stop; then its handler is dropped.
    #[arg(long, env = "BUZZER_CANCEL_GRACE", default_value = "5s")]
    pub cancel_grace: Span,

    /// How often the worker tells that it is alive and what it holds. Leases live on it, and a
    /// worker that is silent for 15s counts as gone: at most 5s.
    #[arg(long, env = "BUZZER_BEAT", default_value = "5s", value_parser = beat)]
    pub beat: Span,

    /// The largest output that is handed over; a larger one ends the job as `output-too-large`.
    #[arg(long, env = "BUZZER_MAX_BODY", default_value = "1MiB")]
    pub max_body: ByteSize,
}

fn beat(text: &str) -> Result<Span, String> {
    let beat: Span = text.parse().map_err(|error| format!("{error}"))?;
    let range = Span::from_millis(100)..=Span::from_secs(5);
    if range.contains(&beat) { Ok(beat) } else { Err("a beat comes every 100ms to 5s".into()) }
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            slots: 64,
            drain: Span::from_secs(30),
            cancel_grace: Span::from_secs(5),
            beat: Span::from_secs(5),
            max_body: ByteSize(1 << 20),
        }
    }
}

/// The stock worker: how it works, and which kinds it runs.
#[derive(Debug, Clone, Default, Args)]
pub struct StockConfig {
    #[command(flatten)]
    pub worker: WorkerConfig,

    /// Also run the kinds to try things out with: demo.sleep, demo.progress, demo.flaky, demo.fail, demo.crash.
    #[arg(long, env = "BUZZER_DEMO", value_parser = BoolishValueParser::new())]
    pub demo: bool,

    /// Private networks that jobs and webhooks may call although they are not public: CIDRs with commas between them, like
    /// `10.0.0.0/8,fd12:3456::/32`. None unless given.
    #[arg(long, env = "BUZZER_EGRESS_ALLOW", value_name = "CIDRS", default_value_t, hide_default_value = true)]
    pub egress_allow: AllowList,

    /// A file that declares more kinds, each run by a program or by a service: `worker.toml`, see
    /// docs/guides/write-a-worker.md.
    #[arg(long = "config", alias = "worker-config", env = "BUZZER_WORKER_CONFIG", value_name = "FILE")]
    pub declared: Option<Declared>,
}

/// What a worker that has a process of its own needs besides.
#[derive(Debug, Clone, Args)]
pub struct ProcessConfig {
    #[command(flatten)]
    pub broker: BrokerConfig,

    #[command(flatten)]
    pub log: LogConfig,

    /// Where /livez is answered, like 127.0.0.1:8081. Off unless given.
    #[arg(long, env = "BUZZER_LISTEN", value_parser = listen)]
    pub listen: Option<SocketAddr>,

    /// Asks the worker that runs on this machine whether it is well, and exits with 0 or 1: for the health checks of
    /// containers.
    #[arg(long, requires = "listen")]
    pub health: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Stock {
        #[command(flatten)]
        process: ProcessConfig,
        #[command(flatten)]
        stock: StockConfig,
    }

    #[test]
    fn the_defaults_are_the_same_without_a_command_line() {
        let parsed = Stock::try_parse_from(["buzzer-worker"]).unwrap();
        assert_eq!(format!("{:?}", parsed.stock), format!("{:?}", StockConfig::default()));
        assert!(parsed.process.listen.is_none());
    }

    #[test]
    fn flags_are_read_and_nonsense_is_refused() {
        let line = "buzzer-worker --demo --slots 3 --drain 1m --egress-allow 10.0.0.0/8,::1";
        let parsed = Stock::try_parse_from(line.split(' ')).unwrap();
        assert!(parsed.stock.demo);
        assert_eq!(parsed.stock.egress_allow.to_string(), "10.0.0.0/8,::1/128");
        assert_eq!((parsed.stock.worker.slots, parsed.stock.worker.drain), (3, Span::from_secs(60)));
        assert!(Stock::try_parse_from(["buzzer-worker", "--slots", "0"]).is_err());
        assert!(Stock::try_parse_from(["buzzer-worker", "--egress-allow", "localhost"]).is_err());
    }
}
