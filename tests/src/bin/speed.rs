//! How fast Buzzer is, against what RabbitMQ itself can carry, in one run on one machine.
//!
//! ```text
//! cargo build --release --workspace && target/release/speed [--rounds N] [--jobs N] [--connections N] [--store postgres]
//! ```
//! Each round measures the raw two-hop limit (`raw.rs`), then completed jobs a second through the whole system
//! (`buzzer-api` on SQLite or, if asked for, on a PostgreSQL of its own; one `buzzer-worker`, `echo` with 256 bytes, everything durable), then the round trip of
//! single jobs with `Prefer: wait` at 50 a second. The table shows the medians. Everything shares this machine's cores:
//! broker, API, worker and client.

use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use buzzer_tests::client::Client;
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use futures_util::{StreamExt, stream};
use reqwest::Method;
use serde_json::{Value, json};

const BODY: usize = 256;
/// The jobs of a low load, and how far apart they come.
const SINGLE_JOBS: u32 = 200;
const SINGLE_EVERY: Duration = Duration::from_millis(20);
/// No run that works takes longer.
const LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy)]
struct Arguments {
    rounds: usize,
    jobs: usize,
    connections: usize,
    /// SQLite if not.
    postgres: bool,
}

/// What one round came to.
#[derive(Debug, Clone, Copy)]
struct Round {
    raw_per_second: f64,
    raw_p50_ms: f64,
    accepted_per_second: f64,
    completed_per_second: f64,
    api_cpu_seconds: f64,
    worker_cpu_seconds: f64,
    single_p50_ms: f64,
    single_p99_ms: f64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let node = RabbitNode::start().await;
    let database = if arguments.postgres { Some(PostgresServer::start().await) } else { None };
    let mut rounds = Vec::new();
    for number in 1..=arguments.rounds {
        let round = round(&node, database.as_ref(), arguments).await?;
        eprintln!("round {number}: {round:?}");
        rounds.push(round);
    }
    print(&rounds, arguments);
    Ok(())
}

async fn round(node: &RabbitNode, database: Option<&PostgresServer>, arguments: Arguments) -> Result<Round> {
    let deep = raw(node, arguments.jobs, 1000)?;
    let single = raw(node, 1000, 1)?;
    let outside = Outside::on(node);
    let store = match database {
        Some(server) => Some(server.database().await),
        None => None,
    };
    let mut settings = vec![("BUZZER_LOG", "warn,lapin=off,buzzer_api::app=info")];
    settings.extend(store.as_ref().map(|url| ("BUZZER_STORE", url.as_str())));
    let mut api = outside.api(&settings).await;
    let mut worker = outside.worker(&[("BUZZER_LOG", "warn,lapin=off")]);
    api.knows("echo").await;
    let client = api.client();
    completed(&client, arguments.jobs / 10, arguments.connections).await?;

    let (api_before, worker_before) = (cpu_seconds(api.process().id())?, cpu_seconds(worker.id())?);
    let (accepted_per_second, completed_per_second) = completed(&client, arguments.jobs, arguments.connections).await?;
    let per_10_000 = 10_000.0 / arguments.jobs as f64;
    let api_cpu_seconds = (cpu_seconds(api.process().id())? - api_before) * per_10_000;
    let worker_cpu_seconds = (cpu_seconds(worker.id())? - worker_before) * per_10_000;
    let (single_p50_ms, single_p99_ms) = round_trips(&client).await?;
    worker.terminate().await;
    api.process().terminate().await;
    Ok(Round {
        raw_per_second: field(&deep, "round_trips_per_second")?,
        raw_p50_ms: field(&single, "p50_ms")?,
        accepted_per_second,
        completed_per_second,
        api_cpu_seconds,
        worker_cpu_seconds,
        single_p50_ms,
        single_p99_ms,
    })
}

/// The raw baseline, in a process of its own as the services are.
fn raw(node: &RabbitNode, messages: usize, depth: usize) -> Result<Value> {
    let program = std::env::current_exe()?.with_file_name("raw");
    let output = Command::new(program)
        .args(["--json", "--broker", node.url().as_str()])
        .args(["--messages", &messages.to_string(), "--depth", &depth.to_string()])
        .output()
        .context("`raw` is built beside this: cargo build --release -p buzzer-tests")?;
    ensure!(output.status.success(), "raw: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("raw prints JSON")
}

/// Hands in jobs over so many connections as fast as they are taken, and waits until all are done. Accepted and
/// completed jobs a second.
async fn completed(client: &Client, jobs: usize, connections: usize) -> Result<(f64, f64)> {
    let body = json!({ "input": "x".repeat(BODY - 2) }).to_string();
    let started = Instant::now();
    let submissions = (0..jobs).map(|_| {
        let request = client.request(Method::POST, "/v1/jobs/echo").header("content-type", "application/json");
        let request = request.body(body.clone());
        async move {
            let answer = client.send(request).await?;
            ensure!(answer.status.as_u16() == 202, "{}", answer.text);
            Ok(())
        }
    });
    let mut submissions = stream::iter(submissions).buffer_unordered(connections);
    while let Some(answer) = submissions.next().await {
        answer?;
    }
    let accepted = started.elapsed();
    loop {
        let kind = &client.get("/v1/stats").await?.json()["kinds"]["echo"];
        if kind["waiting"] == 0 && kind["out"] == 0 && kind["retrying"] == 0 {
            break;
        }
        ensure!(started.elapsed() < LIMIT, "the jobs are not done: {kind}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok((jobs as f64 / accepted.as_secs_f64(), jobs as f64 / started.elapsed().as_secs_f64()))
}

/// Single jobs at a steady pace: p50 and p99 from the request to the answer with the output, in milliseconds.
async fn round_trips(client: &Client) -> Result<(f64, f64)> {
    let body = json!({ "input": "x".repeat(BODY - 2) }).to_string();
    let mut pace = tokio::time::interval(SINGLE_EVERY);
    let mut times = Vec::new();
    for _ in 0..SINGLE_JOBS {
        pace.tick().await;
        let request = client.request(Method::POST, "/v1/jobs/echo").header("content-type", "application/json");
        let started = Instant::now();
        let answer = client.send(request.header("prefer", "wait=10").body(body.clone())).await?;
        ensure!(answer.status.as_u16() == 200, "{}", answer.text);
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[times.len() * 99 / 100]))
}

/// User and system time of a process since it began. Fields 14 and 15 of `/proc/PID/stat`, in hundredths of a second.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, and may hold spaces.
    let (_, rest) = stat.rsplit_once(')').context("a stat line")?;
    let fields: Vec<_> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(ticks as f64 / 100.0)
}

fn field(report: &Value, name: &str) -> Result<f64> {
    report[name].as_f64().with_context(|| format!("{name} in {report}"))
}

fn print(rounds: &[Round], arguments: Arguments) {
    let median = |of: fn(&Round) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let Arguments { jobs, connections, .. } = arguments;
    println!("median of {} rounds; {jobs} echo jobs of {BODY} bytes, {connections} connections", rounds.len());
    println!("raw two hops, depth 1000      {:>9.0} /s", median(|r| r.raw_per_second));
    println!("accepted                      {:>9.0} /s", median(|r| r.accepted_per_second));
    println!("completed                     {:>9.0} /s", median(|r| r.completed_per_second));
    println!("completed / raw               {:>9.0} %", median(|r| 100.0 * r.completed_per_second / r.raw_per_second));
    println!("API, CPU per 10,000 jobs      {:>9.2} s", median(|r| r.api_cpu_seconds));
    println!("worker, CPU per 10,000 jobs   {:>9.2} s", median(|r| r.worker_cpu_seconds));
    println!("raw two hops, depth 1, p50    {:>9.2} ms", median(|r| r.raw_p50_ms));
    println!("Prefer: wait at 50/s, p50     {:>9.2} ms", median(|r| r.single_p50_ms));
    println!("Prefer: wait at 50/s, p99     {:>9.2} ms", median(|r| r.single_p99_ms));
    println!("p50 / raw p50                 {:>9.1}", median(|r| r.single_p50_ms / r.raw_p50_ms));
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { rounds: 5, jobs: 20_000, connections: 64, postgres: false };
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} takes a value"))?;
            if word == "--store" {
                ensure!(["sqlite", "postgres"].contains(&value.as_str()), "--store is sqlite or postgres");
                arguments.postgres = value == "postgres";
                continue;
            }
            let value: usize = value.parse().with_context(|| format!("{word} takes a number"))?;
            ensure!(value > 0, "{word} is at least 1");
            match word.as_str() {
                "--rounds" => arguments.rounds = value,
                "--jobs" => arguments.jobs = value,
                "--connections" => arguments.connections = value,
                _ => anyhow::bail!("{word} is unknown; there are --rounds, --jobs, --connections, --store"),
            }
        }
        Ok(arguments)
    }
}
