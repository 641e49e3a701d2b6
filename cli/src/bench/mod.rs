//! `buzzer bench`: how fast a server is. [`phase`] hands the jobs in over [`connection`]s, as [`schedule`] has it where a
//! rate is to be held, and learns their ends, from the [`feed`] for one; [`ledger`] knows which are ours, [`tally`]
//! counts. [`process`] sees what it costs, [`raw`] what RabbitMQ gives by itself, and [`report`] tells all of it.

mod bar;
mod connection;
mod feed;
mod histogram;
mod ledger;
mod phase;
mod plan;
mod process;
mod raw;
mod report;
mod schedule;
mod tally;
mod target;

use buzzer_shared::config::{BrokerAddress, ByteSize};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::Span;
use bytes::Bytes;
use clap::{Args, value_parser};
use serde_json::value::RawValue;

use self::phase::Load;
use self::plan::{Amount, Learn, Rate};
use self::process::{Watched, Watcher};
pub use self::raw::TwoHops;
use self::report::Report;
use self::tally::Tally;
use self::target::Target;
use crate::client::ServerConfig;
use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  buzzer bench
  buzzer bench --rate 50/s --learn wait --connections 16
  buzzer bench --jobs 30000 --watch api=4711 --watch worker=4712 --compare-raw amqp://guest:guest@127.0.0.1:5672/%2f

The JSON has: kind, input_bytes, connections, learn, rate_per_second, jobs, jobs_done, jobs_not_succeeded, jobs_missing, \
jobs_late, busy_answers, seconds, handed_in_per_second, done_per_second; answer_ms and result_ms with p50, p90, p99, p999, \
max; processes, by name, with cpu_seconds, cpu_seconds_per_10000, memory_mib, memory_peak_mib; raw with per_second, \
cpu_seconds_per_10000, p50_ms, p99_ms; done_to_raw_percent and p50_to_raw_p50. What was not measured is null.";

/// Measure how fast the server is: hand in jobs, learn their ends, tell rates, times and what it cost.
///
/// Without `--rate`, each connection hands in the next job as soon as the one before is answered (a closed loop). With
/// it, jobs come at fixed times whether or not the server keeps up, and each is timed from when it should have begun.
/// The client takes its share of the machine: see what it says of itself as `client`. The jobs stay on the server like
/// any others. Exit code 1 when a job did not succeed, or was not done after `--patience`.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Bench {
    /// What sort of work the jobs are.
    #[arg(default_value = "echo")]
    kind: Kind,

    /// The input of each job.
    #[arg(long, short, value_name = "JSON", allow_hyphen_values = true, value_parser = input, conflicts_with = "size")]
    input: Option<Box<RawValue>>,

    /// The bytes of each job's input, a text of JSON, where no other is given.
    #[arg(long, value_name = "BYTES", default_value = "256")]
    size: ByteSize,

    /// How many connections hand in jobs.
    #[arg(long, short, default_value_t = 64, value_parser = value_parser!(u16).range(1..))]
    connections: u16,

    /// How many jobs are handed in.
    #[arg(long, short = 'n', value_name = "N", value_parser = value_parser!(u64).range(1..), conflicts_with = "duration")]
    jobs: Option<u64>,

    /// How long jobs are handed in.
    #[arg(long, short, value_name = "LENGTH", default_value = "10s")]
    duration: Span,

    /// So many jobs per second, like `50/s`, at fixed times.
    #[arg(long, short, value_name = "N/s")]
    rate: Option<Rate>,

    /// How the end of each job is learned.
    #[arg(long, short, value_enum, default_value_t = Learn::Feed)]
    learn: Learn,

    /// What goes before and is not counted: a time, or a number of jobs. 0 leaves it out.
    #[arg(long, value_name = "LENGTH|N", default_value = "2s")]
    warm_up: Amount,

    /// How long nothing may move before the jobs that are not done count as missing.
    #[arg(long, value_name = "LENGTH", default_value = "60s")]
    patience: Span,

    /// A process on this machine whose CPU time and memory are told, together with all that descend from it. Memory
    /// that several of them share counts for each. May be repeated.
    #[arg(long, short, value_name = "NAME=PID")]
    watch: Vec<Watched>,

    /// Measure first what this RabbitMQ carries without Buzzer (two hops over quorum queues, confirmed, 256 bytes), and
    /// compare.
    #[arg(long, value_name = "AMQP-URL")]
    compare_raw: Option<BrokerAddress>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

fn input(text: &str) -> Result<Box<RawValue>, String> {
    RawValue::from_string(text.to_owned()).map_err(|error| format!("not JSON: {error}"))
}

impl Bench {
    pub async fn run(self, server: ServerConfig) -> Result<(), Failure> {
        let input = self.input()?;
        let load = self.load(Target::new(server)?, &input)?;
        let raw = match &self.compare_raw {
            Some(BrokerAddress::Amqp(url)) => Some(raw::raw(url).await?),
            Some(BrokerAddress::Embedded) => {
                return Err(Failure::Usage("--compare-raw takes the address of a RabbitMQ".into()));
            }
            None => None,
        };
        let amount = self.jobs.map_or(Amount::Time(self.duration.into()), Amount::Jobs);
        let watched: Vec<_> = own().into_iter().chain(self.watch).collect();
        if let Some(name) = process::used_twice(&watched) {
            return Err(Failure::Usage(format!("--watch: two processes have the name {name:?}")));
        }
        let (patience, warm_up) = (self.patience, self.warm_up);
        // On one thread, with nobody else on it.
        let measuring = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                if !warm_up.is_none() {
                    let tally = load.run(warm_up, "warm-up").await?;
                    complete(&tally, patience)?;
                }
                let watcher = Watcher::start(watched)?;
                let tally = load.run(amount, "bench").await?;
                let usages = watcher.stop()?;
                Ok::<_, Failure>((Report::new(&load, input.get().len(), &tally, usages, raw), tally))
            })
        });
        let (report, tally) = measuring.await.map_err(|error| Failure::Up(error.into()))??;
        report.print(self.json)?;
        complete(&tally, patience)
    }

    fn input(&self) -> Result<Box<RawValue>, Failure> {
        match &self.input {
            Some(input) => Ok(input.clone()),
            None => {
                let quotes = 2;
                let letters = self.size.0.checked_sub(quotes);
                let letters =
                    letters.ok_or_else(|| Failure::Usage("--size is at least 2: the quotes of a text".into()))?;
                input(&format!("\"{}\"", "x".repeat(letters))).map_err(Failure::Usage)
            }
        }
    }

    fn load(&self, target: Target, input: &RawValue) -> Result<Load, Failure> {
        let body = Bytes::from(format!("{{\"input\":{}}}", input.get()));
        let submission = target.submission(&self.kind, body, self.learn == Learn::Wait)?;
        Ok(Load {
            target,
            kind: self.kind.clone(),
            submission,
            connections: self.connections.into(),
            rate: self.rate,
            learn: self.learn,
            patience: self.patience.into(),
        })
    }
}

/// This process, where it can be seen.
fn own() -> Option<Watched> {
    process::own_cpu_seconds().ok().map(|_| Watched::client())
}

/// # Errors
/// When a job is missing or did not succeed.
fn complete(tally: &Tally, patience: Span) -> Result<(), Failure> {
    match tally {
        Tally { under_way: missing @ 1.., .. } => Err(Failure::Missing { missing: *missing, patience }),
        Tally { not_succeeded: count @ 1.., .. } => Err(Failure::NotSucceeded(*count)),
        _ => Ok(()),
    }
}
