//! Whether Buzzer grows: with more workers, with many jobs that wait, with many that are done.
//!
//! ```text
//! cargo build --release --workspace && target/release/scale [--jobs N] [--store postgres]
//! ```
//! Four measurements, each on a fresh store and real processes on a RabbitMQ of their own:
//!
//! - workers: jobs a second of a kind that sleeps 100 ms, on one worker of 8 slots and on four;
//! - waiting: how long a submission takes (p99, 8 connections) with nothing waiting and with N jobs waiting (a million
//!   unless said otherwise), the API's memory then, and what RabbitMQ holds of them;
//! - finished: `echo` jobs a second with an empty store and with N finished jobs in it, the median of three;
//! - retention: how long a submission takes (p99, 8 connections) with those N kept, and while they are all deleted.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use buzzer_tests::client::Client;
use buzzer_tests::load::{Load, memory_mib, slots_are};
use buzzer_tests::outside::{Api, Outside};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use serde_json::json;

const QUIET: (&str, &str) = ("BUZZER_LOG", "warn,lapin=off,buzzer_api::app=info");
const SLOTS: usize = 8;
/// A million jobs are deleted within this.
const LONGEST: Duration = Duration::from_secs(1200);
const LOOK: Duration = Duration::from_millis(200);
/// Jobs a second are the median of so many runs, after so many jobs that are not counted.
const ROUNDS: usize = 3;
const WARM_UP: usize = 5_000;

#[derive(Debug, Clone, Copy)]
struct Arguments {
    jobs: usize,
    /// SQLite if not.
    postgres: bool,
}

/// Where the measurements take place.
struct Ground {
    node: RabbitNode,
    database: Option<PostgresServer>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::read(std::env::args().skip(1))?;
    let database = if arguments.postgres { Some(PostgresServer::start().await) } else { None };
    let ground = Ground { node: RabbitNode::start().await, database };
    workers(&ground).await?;
    waiting(&ground, arguments.jobs).await?;
    finished(&ground, arguments.jobs).await
}

impl Ground {
    /// An API on a fresh store.
    async fn api(&self, outside: &Outside) -> Api {
        let store = match &self.database {
            Some(server) => Some(server.database().await),
            None => None,
        };
        // The mark itself is a million that wait; it must leave room for those that are measured.
        let mut settings = vec![QUIET, ("BUZZER_MAX_WAITING", "100000000")];
        settings.extend(store.as_ref().map(|url| ("BUZZER_STORE", url.as_str())));
        outside.api(&settings).await
    }
}

async fn workers(ground: &Ground) -> Result<()> {
    let outside = Outside::on(&ground.node);
    let api = ground.api(&outside).await;
    let client = api.client();
    let slots = SLOTS.to_string();
    let mut working = Vec::new();
    let mut rates = Vec::new();
    for count in [1, 4] {
        while working.len() < count {
            working.push(outside.worker(&[("BUZZER_LOG", "warn,lapin=off"), ("BUZZER_SLOTS", &slots)]));
        }
        slots_are(&client, "demo.sleep", count * SLOTS).await;
        // Twenty rounds for every slot.
        let jobs = count * SLOTS * 200;
        let load = Load { kind: "demo.sleep", input: json!({ "seconds": 0.1 }), jobs, connections: 16 };
        rates.push(load.complete(&client).await?.1);
    }
    println!("1 worker, 8 slots, 100 ms     {:>9.1} jobs/s", rates[0]);
    println!("4 workers                     {:>9.1} jobs/s, {:.2} × one", rates[1], rates[1] / rates[0]);
    Ok(())
}

async fn waiting(ground: &Ground, jobs: usize) -> Result<()> {
    let outside = Outside::on(&ground.node);
    let mut api = ground.api(&outside).await;
    let client = api.client();
    let slots = SLOTS.to_string();
    let worker = outside.worker(&[("BUZZER_LOG", "warn,lapin=off"), ("BUZZER_SLOTS", &slots)]);
    slots_are(&client, "demo.sleep", SLOTS).await;
    // The longest there is: all but a window of them wait.
    let load = |jobs, connections| Load { kind: "demo.sleep", input: json!({ "seconds": 240 }), jobs, connections };
    load(2_000, 8).hand_in(&client).await?;
    let empty = load(5_000, 8).hand_in(&client).await?.percentile(99);
    let memory_before = memory_mib(api.process().id())?;
    let filled = load(jobs, 64).hand_in(&client).await?;
    let full = load(5_000, 8).hand_in(&client).await?.percentile(99);
    let held = ground.node.ctl(&["list_queues", "name", "messages"]).await;
    let queue = format!("{}.requests.demo.sleep.v1", outside.prefix);
    let held = held.lines().find_map(|line| line.strip_prefix(&queue)).context("the queue of demo.sleep")?;
    println!("submit p99, nothing waits     {empty:>9.2} ms");
    println!(
        "submit p99, {jobs} wait     {full:>9.2} ms, {:.2} × empty (filled at {:.0}/s)",
        full / empty,
        filled.per_second
    );
    println!("API memory                    {:>9.0} MiB, {memory_before:.0} before", memory_mib(api.process().id())?);
    println!("RabbitMQ holds of them        {:>9}", held.trim());
    drop(worker);
    Ok(())
}

async fn finished(ground: &Ground, jobs: usize) -> Result<()> {
    let outside = Outside::on(&ground.node);
    let mut api = ground.api(&outside).await;
    let client = api.client();
    let worker = outside.worker(&[("BUZZER_LOG", "warn,lapin=off")]);
    slots_are(&client, "echo", 64).await;
    let load = |jobs| Load { kind: "echo", input: json!("x".repeat(254)), jobs, connections: 64 };
    load(WARM_UP).complete(&client).await?;
    let empty = median(&load(20_000), &client).await?;
    load(jobs).complete(&client).await?;
    let full = median(&load(20_000), &client).await?;
    let kept = jobs + WARM_UP + 2 * ROUNDS * 20_000;
    println!("completed, empty store        {empty:>9.0} jobs/s");
    println!("completed, {jobs} finished  {full:>9.0} jobs/s, {:.0} % of empty", 100.0 * full / empty);
    println!("API memory                    {:>9.0} MiB", memory_mib(api.process().id())?);
    retention(&outside, api, kept).await?;
    drop(worker);
    Ok(())
}

/// On the store of an API that has kept so many jobs until now.
async fn retention(outside: &Outside, mut api: Api, kept: usize) -> Result<()> {
    let load = Load { kind: "echo", input: json!("x".repeat(254)), jobs: 5_000, connections: 8 };
    let before = load.hand_in(&api.client()).await?.percentile(99);
    load.ended(&api.client()).await?;
    let newest = api.client().get("/v1/jobs?limit=1").await?.json()["items"][0]["id"].clone();
    let newest = format!("/v1/jobs/{}", newest.as_str().context("a job")?);
    api.process().terminate().await;

    let forgetful = outside.api(&[QUIET, ("BUZZER_STORE", &api.store()), ("BUZZER_KEEP", "1s")]).await;
    let (client, began) = (forgetful.client(), Instant::now());
    let deleting = load.hand_in(&client).await?.percentile(99);
    ensure!(client.get(&newest).await?.status.is_success(), "all were deleted before the measurement was over");
    while client.get(&newest).await?.status.is_success() {
        ensure!(began.elapsed() < LONGEST, "they were not deleted");
        tokio::time::sleep(LOOK).await;
    }
    let per_second = (kept + load.jobs) as f64 / began.elapsed().as_secs_f64();
    println!("submit p99, {kept} kept     {before:>9.2} ms");
    println!(
        "submit p99, being deleted     {deleting:>9.2} ms, {:.2} × kept ({per_second:.0}/s deleted)",
        deleting / before
    );
    Ok(())
}

async fn median(load: &Load<'_>, client: &Client) -> Result<f64> {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        rates.push(load.complete(client).await?.1);
    }
    rates.sort_by(f64::total_cmp);
    Ok(rates[ROUNDS / 2])
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self { jobs: 1_000_000, postgres: false };
        while let Some(word) = words.next() {
            let value = words.next().with_context(|| format!("{word} takes a value"))?;
            match (word.as_str(), value.as_str()) {
                ("--store", "sqlite") => arguments.postgres = false,
                ("--store", "postgres") => arguments.postgres = true,
                ("--store", _) => bail!("--store is sqlite or postgres"),
                ("--jobs", number) => arguments.jobs = number.parse().context("--jobs takes a number")?,
                _ => bail!("{word} is unknown; there are --jobs, --store"),
            }
        }
        ensure!(arguments.jobs > 0, "--jobs is at least 1");
        Ok(arguments)
    }
}
