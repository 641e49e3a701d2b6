//! How fast Buzzer is, against what RabbitMQ itself can carry, in one run on one machine: the table of marks.
//!
//! ```text
//! cargo build --release --workspace && target/release/speed [--part NAME]… [--rounds N] [--jobs N]
//! ```
//! Parts, each on fresh processes in every round, one after the other, so that a change of the machine meets all alike:
//!
//! - `sqlite`, `postgres`: `echo` jobs of 256 bytes over 64 connections, ends learned by the feed, with RabbitMQ and one
//!   worker, after RabbitMQ by itself was measured in the same run;
//! - `embedded`: the same with `buzzer up`;
//! - `submit`: submissions alone, while RabbitMQ is away;
//! - `single`: jobs with `Prefer: wait` at 50 a second;
//! - `growth`: the same with 1 and with 200 kinds, with 1 and with 50 workers;
//! - `memory`: the API's, idle. Not measured unless asked for. `streams` and `scale` measure it under load.
//!
//! Workers have 512 slots, deep enough that a kind as quick as `echo` never waits for RabbitMQ's confirms.
//!
//! The table shows the medians beside the marks. Everything shares this machine's cores: broker, API, worker and client
//! (`buzzer bench`).

use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use buzzer_tests::load::{memory_mib, slots_are};
use buzzer_tests::lone::Lone;
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_worker::{JobContext, JobError, Worker, WorkerBuilder};
use serde_json::Value;
use tokio::process::Command;

const QUIET: (&str, &str) = ("BUZZER_LOG", "warn,lapin=off,buzzer_api::app=info");
/// Nobody listens there.
const AWAY: &str = "amqp://guest:guest@127.0.0.1:1/%2f";
/// Ten seconds' worth.
const SINGLE_JOBS: &str = "500";
const SLOTS: usize = 512;
const KINDS: usize = 200;
const WORKERS: usize = 50;
const USUAL: [Part; 6] = [Part::Sqlite, Part::Postgres, Part::Embedded, Part::Submit, Part::Single, Part::Growth];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Sqlite,
    Postgres,
    Embedded,
    Submit,
    Single,
    Growth,
    Memory,
}

#[derive(Debug)]
struct Arguments {
    parts: Vec<Part>,
    rounds: usize,
    jobs: usize,
}

/// A line of the table, in one round.
#[derive(Debug, Clone)]
struct Figure {
    part: Part,
    what: &'static str,
    value: f64,
    unit: &'static str,
    /// Empty where there is none.
    mark: &'static str,
}

/// Where the measurements take place.
struct Ground {
    node: RabbitNode,
    database: Option<PostgresServer>,
    jobs: usize,
}

/// An API and a worker on RabbitMQ.
struct System {
    outside: Outside,
    api: Api,
    worker: Service,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let database = if arguments.parts.contains(&Part::Postgres) { Some(PostgresServer::start().await) } else { None };
    let ground = Ground { node: RabbitNode::start().await, database, jobs: arguments.jobs };
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        for part in &arguments.parts {
            let figures = ground.measure(*part).await.with_context(|| format!("{part:?}"))?;
            for Figure { what, value, unit, .. } in &figures {
                eprintln!("round {number}, {:<9} {what:<28} {value:>9.2} {unit}", part.name());
            }
            rounds.push(figures);
        }
    }
    print(&rounds, &arguments);
    Ok(())
}

impl Ground {
    async fn measure(&self, part: Part) -> Result<Vec<Figure>> {
        match part {
            Part::Sqlite => self.through_rabbitmq(part, "≥ 50 %, better 60 %").await,
            Part::Postgres => self.through_rabbitmq(part, "≥ 40 %").await,
            Part::Embedded => self.embedded().await,
            Part::Submit => self.submit().await,
            Part::Single => self.single().await,
            Part::Growth => self.growth().await,
            Part::Memory => self.memory().await,
        }
    }

    async fn through_rabbitmq(&self, part: Part, mark: &'static str) -> Result<Vec<Figure>> {
        let mut system = self.system(part).await;
        let (jobs, warm_up) = self.amount();
        let broker = self.node.url();
        let (api, worker) = (watch("api", system.api.process()), watch("worker", &system.worker));
        let compared = ["--compare-raw", broker.as_str(), "--watch", &api, "--watch", &worker];
        let report = bench(&system.api, &[&["--jobs", &jobs, "--warm-up", &warm_up][..], &compared].concat()).await?;
        let figure = |what, value, unit, mark| Figure { part, what, value, unit, mark };
        let cpu = |name: &str| number(&report, &["processes", name, "cpu_seconds_per_10000"]);
        let figures = vec![
            figure("RabbitMQ by itself", number(&report, &["raw", "per_second"])?, "/s", ""),
            figure("handed in", number(&report, &["handed_in_per_second"])?, "/s", ""),
            figure("done", number(&report, &["done_per_second"])?, "/s", ""),
            figure("done / RabbitMQ by itself", number(&report, &["done_to_raw_percent"])?, "%", mark),
            figure("CPU per 10,000, API", cpu("api")?, "s", ""),
            figure("CPU per 10,000, worker", cpu("worker")?, "s", ""),
            figure("CPU per 10,000, both", cpu("api")? + cpu("worker")?, "s", "≤ 1.5 s"),
            figure("CPU per 10,000, client", cpu("client")?, "s", ""),
        ];
        system.stop().await;
        Ok(figures)
    }

    async fn embedded(&self) -> Result<Vec<Figure>> {
        let mut up = Outside::up(&[QUIET, ("BUZZER_SLOTS", &SLOTS.to_string())]).await;
        let (jobs, warm_up) = self.amount();
        let watched = watch("up", up.process());
        let report = bench(&up, &["--jobs", &jobs, "--warm-up", &warm_up, "--watch", &watched]).await?;
        let figure = |what, value, unit, mark| Figure { part: Part::Embedded, what, value, unit, mark };
        let cpu = |name: &str| number(&report, &["processes", name, "cpu_seconds_per_10000"]);
        Ok(vec![
            figure("handed in", number(&report, &["handed_in_per_second"])?, "/s", ""),
            figure("done", number(&report, &["done_per_second"])?, "/s", "≥ 12,000 /s"),
            figure("CPU per 10,000, both", cpu("up")?, "s", "≤ 1.5 s"),
            figure("CPU per 10,000, client", cpu("client")?, "s", ""),
        ])
    }

    /// On a store that knows the kind from a time when RabbitMQ was there.
    async fn submit(&self) -> Result<Vec<Figure>> {
        let mut before = self.system(Part::Submit).await;
        before.stop().await;
        let outside = Outside::on(&self.node);
        let api = outside.api(&[QUIET, ("BUZZER_STORE", &before.api.store()), ("BUZZER_BROKER", AWAY)]).await;
        let (jobs, warm_up) = self.amount();
        let report = bench(&api, &["--learn", "none", "--jobs", &jobs, "--warm-up", &warm_up]).await?;
        let figure = |what, value, unit, mark| Figure { part: Part::Submit, what, value, unit, mark };
        Ok(vec![
            figure("accepted", number(&report, &["handed_in_per_second"])?, "/s", "≥ 18,000 /s"),
            figure("answer, p99", number(&report, &["answer_ms", "p99"])?, "ms", ""),
        ])
    }

    async fn single(&self) -> Result<Vec<Figure>> {
        let mut system = self.system(Part::Single).await;
        let broker = self.node.url();
        let report = self.one_by_one(&system.api, &["--compare-raw", broker.as_str()]).await?;
        let figure = |what, value, unit, mark| Figure { part: Part::Single, what, value, unit, mark };
        let figures = vec![
            figure("RabbitMQ by itself, p50", number(&report, &["raw", "p50_ms"])?, "ms", ""),
            figure("result, p50", number(&report, &["result_ms", "p50"])?, "ms", ""),
            figure("p50 / RabbitMQ by itself", number(&report, &["p50_to_raw_p50"])?, "×", "≤ 2 ×"),
            figure("result, p99", number(&report, &["result_ms", "p99"])?, "ms", "≤ 8 ms"),
        ];
        system.stop().await;
        Ok(figures)
    }

    /// Kinds and workers come to a system that runs, so that nothing else differs.
    async fn growth(&self) -> Result<Vec<Figure>> {
        let mut system = self.system(Part::Growth).await;
        let p50 = async || number(&self.one_by_one(&system.api, &[]).await?, &["result_ms", "p50"]);
        let alone = p50().await?;

        let many = Lone::start(kinds(KINDS - 1), &self.node, &system.outside);
        system.api.knows(&kind(KINDS - 1)).await;
        let of_many_kinds = p50().await?;
        drop(many);

        let mut workers: Vec<Service> = (1..WORKERS).map(|_| system.worker()).collect();
        slots_are(&system.api.client(), "echo", WORKERS * SLOTS).await;
        let of_many_workers = p50().await?;
        for worker in &mut workers {
            worker.terminate().await;
        }
        system.stop().await;
        let figure = |what, value, unit, mark| Figure { part: Part::Growth, what, value, unit, mark };
        Ok(vec![
            figure("p50, 1 kind, 1 worker", alone, "ms", ""),
            figure("200 kinds / 1 kind", of_many_kinds / alone, "×", "flat"),
            figure("50 workers / 1 worker", of_many_workers / alone, "×", "flat"),
        ])
    }

    /// Jobs at 50 a second, each with `Prefer: wait`.
    async fn one_by_one(&self, api: &Api, more: &[&str]) -> Result<Value> {
        // As busy as in the other parts first: what is measured is low load, not the first jobs.
        bench(api, &["--jobs", &self.amount().1, "--warm-up", "0"]).await?;
        let slowly =
            ["--learn", "wait", "--rate", "50/s", "--connections", "16", "--jobs", SINGLE_JOBS, "--warm-up", "50"];
        bench(api, &[&slowly[..], more].concat()).await
    }

    async fn memory(&self) -> Result<Vec<Figure>> {
        let mut system = self.system(Part::Memory).await;
        let value = memory_mib(system.api.process().id())?;
        system.stop().await;
        Ok(vec![Figure { part: Part::Memory, what: "API, idle", value, unit: "MiB", mark: "≤ 40 MiB" }])
    }

    /// A fresh one that knows `echo`.
    async fn system(&self, part: Part) -> System {
        let outside = Outside::on(&self.node);
        let store = match &self.database {
            Some(server) if part == Part::Postgres => Some(server.database().await),
            _ => None,
        };
        let mut settings = vec![QUIET];
        settings.extend(store.as_ref().map(|url| ("BUZZER_STORE", url.as_str())));
        let api = outside.api(&settings).await;
        let worker = worker(&outside);
        api.knows("echo").await;
        System { outside, api, worker }
    }

    /// How many jobs are measured, and how many go before.
    fn amount(&self) -> (String, String) {
        (self.jobs.to_string(), self.jobs.div_ceil(10).to_string())
    }
}

impl System {
    /// One more.
    fn worker(&self) -> Service {
        worker(&self.outside)
    }

    async fn stop(&mut self) {
        self.worker.terminate().await;
        self.api.process().terminate().await;
    }
}

fn worker(outside: &Outside) -> Service {
    outside.worker(&[("BUZZER_LOG", "warn,lapin=off"), ("BUZZER_SLOTS", &SLOTS.to_string())])
}

/// So many kinds that nobody asks for.
fn kinds(count: usize) -> WorkerBuilder {
    let same = |_: JobContext, input: Value| async { Ok::<_, JobError>(input) };
    (1..=count).fold(Worker::builder(), |builder, number| builder.handler(&kind(number), same))
}

fn kind(number: usize) -> String {
    format!("kind.n{number}")
}

fn watch(name: &str, service: &Service) -> String {
    format!("{name}={}", service.id())
}

/// What `buzzer bench` says of this API.
async fn bench(api: &Api, arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new(std::env::current_exe()?.with_file_name("buzzer"));
    command.args(["bench", "--json"]).args(arguments).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    command.env_clear().env("BUZZER_SERVER", format!("http://{}", api.address()));
    let output = command.output().await.context("`buzzer` is built beside this: cargo build --release --workspace")?;
    ensure!(output.status.success(), "buzzer bench {arguments:?}: {}", output.status);
    serde_json::from_slice(&output.stdout).context("buzzer bench prints JSON")
}

fn number(report: &Value, path: &[&str]) -> Result<f64> {
    let value = path.iter().fold(report, |value, name| &value[name]);
    value.as_f64().with_context(|| format!("{path:?} in {report}"))
}

fn print(rounds: &[Vec<Figure>], arguments: &Arguments) {
    let Arguments { rounds: count, jobs, .. } = arguments;
    println!("median of {count} rounds; {jobs} echo jobs of 256 bytes, 64 connections, workers of {SLOTS} slots");
    let all: Vec<_> = rounds.iter().flatten().collect();
    // Every round has the same lines in the same order.
    for figure in all.iter().take(all.len() / arguments.rounds) {
        let Figure { part, what, unit, mark, .. } = figure;
        let same = all.iter().filter(|other| other.part == *part && other.what == *what);
        let mut values: Vec<_> = same.map(|figure| figure.value).collect();
        values.sort_by(f64::total_cmp);
        let (median, name) = (values[values.len() / 2], part.name());
        let precision = if *unit == "/s" { 0 } else { 2 };
        let line = format!("{name:<9} {what:<28} {median:>9.precision$} {unit:<4} {mark}");
        println!("{}", line.trim_end());
    }
    if arguments.parts.contains(&Part::Memory) {
        println!("memory with 10,000 open streams: `streams`; with 1,000,000 jobs: `scale`");
    }
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::Embedded => "embedded",
            Self::Submit => "submit",
            Self::Single => "single",
            Self::Growth => "growth",
            Self::Memory => "memory",
        }
    }

    fn read(name: &str) -> Result<Self> {
        let mut all = USUAL.into_iter().chain([Self::Memory]);
        all.find(|part| part.name() == name)
            .context("--part is sqlite, postgres, embedded, submit, single, growth or memory")
    }
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { parts: Vec::new(), rounds: 5, jobs: 30_000 };
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} takes a value"))?;
            let count =
                || value.parse().ok().filter(|count| *count > 0).with_context(|| format!("{word} is at least 1"));
            match word.as_str() {
                "--part" => arguments.parts.push(Part::read(&value)?),
                "--rounds" => arguments.rounds = count()?,
                "--jobs" => arguments.jobs = count()?,
                _ => bail!("{word} is unknown; there are --part, --rounds, --jobs"),
            }
        }
        if arguments.parts.is_empty() {
            arguments.parts = USUAL.to_vec();
        }
        Ok(arguments)
    }
}
