//! RabbitMQ's own speed, measured by a process of its own, whose CPU time then can be told.

use std::process::Stdio;
use std::time::Duration;

use buzzer_shared::broker::amqp::baseline::{BaselineError, TwoHops as Queues};
use buzzer_shared::config::BrokerAddress;
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::process::Command;
use tokio::time::timeout;
use url::Url;

use super::process::own_cpu_seconds;
use crate::failure::Failure;
use crate::output;

/// Messages under way at a time, where RabbitMQ is to be as fast as it can be.
const DEEP: u16 = 1_000;
const DEEP_MESSAGES: usize = 20_000;
/// Messages that go one at a time.
const SINGLE_MESSAGES: usize = 1_000;
/// No RabbitMQ that works takes longer for all that.
const LIMIT: Duration = Duration::from_secs(300);
/// A fresh quorum queue needs a moment; the first messages are not counted.
const WARM_UP: usize = 200;

/// What RabbitMQ carries without Buzzer: there and back over two quorum queues, confirmed, 256 bytes a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Raw {
    /// Round trips with 1,000 under way.
    pub per_second: f64,
    /// What its client takes for 10,000 of these.
    pub cpu_seconds_per_10000: f64,
    /// Of one round trip at a time.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// Measures what `bench --compare-raw` compares with, and prints it as JSON. `buzzer bench` calls this.
#[derive(Debug, Args)]
pub struct TwoHops {
    /// RabbitMQ's address.
    #[arg(long, env = "BUZZER_BROKER", hide_env_values = true)]
    broker: BrokerAddress,
}

impl TwoHops {
    pub async fn run(self) -> Result<(), Failure> {
        let BrokerAddress::Amqp(url) = self.broker else {
            return Err(Failure::Usage("the embedded broker is no RabbitMQ".into()));
        };
        let raw = measure(&url).await?;
        Ok(output::line(serde_json::to_vec(&raw).map_err(std::io::Error::from)?)?)
    }
}

async fn measure(url: &Url) -> Result<Raw, Failure> {
    let failed = |error: BaselineError| Failure::Baseline(error.to_string());
    let mut deep = Queues::open(url, DEEP).await.map_err(failed)?;
    deep.exchange(WARM_UP).await.map_err(failed)?;
    let cpu_before = own_cpu_seconds()?;
    let took = deep.exchange(DEEP_MESSAGES).await.map_err(failed)?.took;
    let cpu_seconds = own_cpu_seconds()? - cpu_before;
    deep.close().await.map_err(failed)?;

    let mut single = Queues::open(url, 1).await.map_err(failed)?;
    single.exchange(WARM_UP).await.map_err(failed)?;
    let mut round_trips = single.exchange(SINGLE_MESSAGES).await.map_err(failed)?.round_trips;
    single.close().await.map_err(failed)?;
    round_trips.sort_unstable();
    let millis = |percent: usize| round_trips[SINGLE_MESSAGES * percent / 100].as_secs_f64() * 1000.0;
    Ok(Raw {
        per_second: DEEP_MESSAGES as f64 / took.as_secs_f64(),
        cpu_seconds_per_10000: cpu_seconds * 10_000.0 / DEEP_MESSAGES as f64,
        p50_ms: millis(50),
        p99_ms: millis(99),
    })
}

fn too_slow() -> String {
    format!("not measured within {} s: RabbitMQ hangs, or takes no messages; `buzzer doctor` tells", LIMIT.as_secs())
}

/// What this RabbitMQ carries, measured by a process of its own.
pub async fn raw(url: &Url) -> Result<Raw, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    // Not on the command line: the address may hold a password.
    command.arg("two-hops").env("BUZZER_BROKER", url.as_str()).kill_on_drop(true);
    let measuring = timeout(LIMIT, command.stdin(Stdio::null()).output());
    let output = measuring.await.map_err(|_| Failure::Baseline(too_slow()))??;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.trim().trim_start_matches("buzzer: ").trim_start_matches("--compare-raw: ");
        return Err(Failure::Baseline(output::plain(said)));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| Failure::Baseline(error.to_string()))
}
