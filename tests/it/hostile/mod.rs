//! The promises against a model, on the API's real parts: a broker that loses, doubles and delays, workers that do all
//! that workers can do wrong, clients that want everything at once, and kills.
//!
//! A seed tells how the dice fall; what the threads make of it differs from run to run. `BUZZER_SEED=7` tries one seed
//! only, `BUZZER_SEEDS=500` that many.

mod races;
mod system;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use buzzer_api::store::sqlite::SqliteStore;
use buzzer_shared::broker::Broker;
use buzzer_shared::id::WorkerId;
use buzzer_shared::message::{Outcome, Retry, RunResult};
use buzzer_shared::problem::{Problem, job};
use buzzer_shared::time::{Clock, Span, SystemClock};
use buzzer_shared::topology::Route;
use buzzer_tests::client::Client;
use buzzer_tests::hostile::{HostileNode, Rates};
use buzzer_tests::inside::topology;
use buzzer_tests::model::bad_days;
use buzzer_tests::model::customer::{Customer, flood, look};
use buzzer_tests::model::ledger::{Audit, Ledger, Said};
use buzzer_tests::model::worker::{LONG, Manners, ONCE, PLAIN, ScriptedWorker, success};
use buzzer_tests::wait::eventually;
use futures_util::{FutureExt, StreamExt, stream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;

use system::Api;

/// How many seeds are tried, unless `BUZZER_SEEDS` says otherwise.
const SEEDS: u64 = 16;
/// Much of their time they wait for leases to end.
const AT_ONCE: usize = 12;
/// For everything to be healed and done, on a busy machine.
const HEALED: Duration = Duration::from_secs(120);
/// The shortest there may be, so that healing is seen soon.
const SHORT: Span = Span::from_secs(1);
/// Longer than the test: what it heals does not count.
const LONG_LEASE: Span = Span::from_secs(600);
/// Slots of a worker: few enough that jobs wait for their turn.
const FEW: u16 = 6;
/// More than ever wait for the end of a long lease.
const MANY: u16 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_p3_p4_p5_p11_whatever_a_hostile_broker_does() {
    let ends = for_each_seed(SEEDS, |seed| async move {
        let mut world = World::start(seed, SHORT, FEW, bad_days).await;
        world.live().await;
        world.heal().await;
        world.speak_too_late().await;
        world.end().await
    })
    .await;
    // Otherwise the dice were too kind to try every promise. One seed alone may be.
    let all = ["succeeded", "failed", "canceled", job::EXPIRED, job::LOST, job::POISON];
    let missed: Vec<_> = all.into_iter().filter(|end| !ends.contains_key(*end)).collect();
    assert!(missed.is_empty() || number("BUZZER_SEED").is_some(), "no job ended as {missed:?}: {ends:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_no_confirmed_success_is_lost_however_often_the_api_is_killed() {
    for_each_seed(3, |seed| async move {
        let mut world = World::start(seed, LONG_LEASE, MANY, |_| Rates::HONEST).await;
        world.manners.mend();
        world.be_killed_under_load().await;
        world.all_that_succeeded_is_stored().await;
        // What was out when the API was killed waits for the end of its lease. This frees it at once.
        world.be_restarted_with_its_broker().await;
        world.heal().await;
        world.end().await
    })
    .await;
}

/// Tries several seeds at a time, and tells which of them broke a promise, and how. Returns how many jobs ended in each
/// way.
async fn for_each_seed<F>(usually: u64, world: impl Fn(u64) -> F) -> BTreeMap<String, usize>
where
    F: Future<Output = Audit>,
{
    let seeds = match number("BUZZER_SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("BUZZER_SEEDS").unwrap_or(usually),
    };
    let worlds = stream::iter(seeds).map(|seed| {
        // The other seeds go on.
        let ended = AssertUnwindSafe(world(seed)).catch_unwind();
        ended.map(move |ended| (seed, ended.unwrap_or_else(|panic| panicked(&*panic))))
    });
    let mut worlds = worlds.buffer_unordered(AT_ONCE);
    let (mut ends, mut bad) = (BTreeMap::new(), Vec::new());
    while let Some((seed, audit)) = worlds.next().await {
        audit.ends.into_iter().for_each(|(end, count)| *ends.entry(end).or_default() += count);
        if let Some(first) = audit.broken.first() {
            eprintln!("BUZZER_SEED={seed}: {} promises broken, the first:\n{first}", audit.broken.len());
            bad.push(seed);
        }
    }
    assert!(bad.is_empty(), "promises were broken with the seeds {bad:?}");
    ends
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// A world that stopped in the middle of it.
fn panicked(panic: &(dyn Any + Send)) -> Audit {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    Audit { broken: vec![text.unwrap_or("a panic, see above").into()], ends: BTreeMap::new() }
}

/// One Buzzer with everything around it.
struct World {
    dice: fastrand::Rng,
    folder: TempDir,
    lease: Span,
    rates: fn(&Route) -> Rates,
    node: HostileNode,
    api: Option<Api>,
    address: watch::Sender<Option<Client>>,
    workers: Vec<ScriptedWorker>,
    manners: Manners,
    ledger: Ledger,
}

impl World {
    /// Answers once every kind is known.
    async fn start(seed: u64, lease: Span, slots: u16, rates: fn(&Route) -> Rates) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let folder = TempDir::new().expect("a temporary folder");
        let node = HostileNode::new(Arc::new(SystemClock), dice.u64(..), rates);
        let api = Api::start(folder.path(), &node, true, lease).await;
        let address = watch::Sender::new(Some(api.client()));
        let (manners, ledger) = (Manners::new(slots), Ledger::default());
        let mut world =
            Self { dice, folder, lease, rates, node, api: Some(api), address, workers: Vec::new(), manners, ledger };
        world.hire();
        world.hire();
        let client = world.client();
        eventually("the kinds to be known", HEALED, async || {
            let kinds = client.get("/v1/kinds").await.ok()?.json();
            (kinds["items"].as_array()?.len() == [PLAIN, ONCE, LONG].len()).then_some(())
        })
        .await;
        world
    }

    /// Clients do what they do, and disasters strike until they are through.
    async fn live(&mut self) {
        let mut customers: Vec<_> = (0..3)
            .map(|_| Customer {
                api: self.address.subscribe(),
                ledger: self.ledger.clone(),
                dice: self.dice.fork(),
                deletes: true,
            })
            .collect();
        if self.dice.u32(..3) == 0 {
            customers[0].poison().await;
        }
        let shopping = customers.into_iter().map(|customer| tokio::spawn(customer.shop(30)));
        let mut shopping = futures_util::future::join_all(shopping);
        loop {
            let peace = Duration::from_millis(self.dice.u64(200..800));
            tokio::select! {
                ended = &mut shopping => {
                    ended.into_iter().for_each(|ended| ended.expect("no panic"));
                    return;
                }
                () = tokio::time::sleep(peace) => {}
            }
            self.be_struck().await;
        }
    }

    async fn be_struck(&mut self) {
        match self.dice.u32(..8) {
            0..3 => {
                self.kill_api().await;
                self.start_api(true).await;
            }
            3 => self.be_restarted_with_its_broker().await,
            // The broker comes back without what it carried, and nobody knows.
            4 => {
                self.kill_api().await;
                self.lose_broker().await;
                self.start_api(true).await;
            }
            _ => {
                let unlucky = self.dice.usize(..self.workers.len());
                self.workers.swap_remove(unlucky).kill().await;
                self.hire();
            }
        }
    }

    async fn kill_api(&mut self) {
        self.address.send_replace(None);
        if let Some(api) = self.api.take() {
            api.kill().await;
        }
    }

    async fn start_api(&mut self, durable: bool) {
        let api = Api::start(self.folder.path(), &self.node, durable, self.lease).await;
        self.address.send_replace(Some(api.client()));
        self.api = Some(api);
    }

    /// As when the broker lives inside the same process.
    async fn be_restarted_with_its_broker(&mut self) {
        self.kill_api().await;
        self.lose_broker().await;
        self.start_api(false).await;
    }

    async fn lose_broker(&mut self) {
        for worker in self.workers.drain(..) {
            worker.kill().await;
        }
        self.node = HostileNode::new(Arc::new(SystemClock), self.dice.u64(..), self.rates);
        self.hire();
        self.hire();
    }

    fn hire(&mut self) {
        let (ledger, manners) = (self.ledger.clone(), self.manners.clone());
        self.workers.push(ScriptedWorker::start(self.node.line(), ledger, manners, self.dice.fork()));
    }

    fn client(&self) -> Client {
        self.address.borrow().clone().expect("the API is there")
    }

    /// From now on all goes well. Ends once every job has, and nothing is under way any more.
    async fn heal(&mut self) {
        self.node.calm_down();
        self.manners.mend();
        self.hire();
        let client = self.client();
        let mut waited_for = Vec::new();
        let ended = async {
            loop {
                waited_for = unfinished(&client).await;
                let Some(first) = waited_for.first() else { return };
                let id = first["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
                look(&client, &self.ledger, id, "?wait=1").await;
            }
        };
        if tokio::time::timeout(HEALED, ended).await.is_err() {
            panic!("P1: {} jobs have not ended after {HEALED:?}, as {}", waited_for.len(), waited_for[0]);
        }
        eventually("all runs and messages to end", HEALED, async || {
            (self.manners.runs() == 0 && self.node.delayed() == 0).then_some(())
        })
        .await;
    }

    /// Every job that was ever run has ended. Whatever is said of it now changes nothing.
    async fn speak_too_late(&self) {
        let client = self.client();
        for job in self.ledger.accepted_jobs() {
            look(&client, &self.ledger, job, "").await;
        }
        let (line, worker) = (self.node.line(), WorkerId::new(SystemClock.now()));
        for run in self.ledger.runs() {
            let number = self.ledger.says(run, Said::Succeeded, true);
            let problem = Problem::new("late", "Late", "It must not count.").with("report", number);
            let failed = RunResult::Failed { problem, retry: Retry::Policy };
            for result in [success(number, run, worker), failed] {
                let outcome = Outcome { run, worker, started_at: Some(SystemClock.now()), told: Vec::new(), result };
                line.publish(topology().outcome(), outcome.to_message()).await.expect("an honest broker");
            }
        }
        // Outcomes are taken in order: once this one is stored, those before it have been dealt with.
        let last = client.accepted(PLAIN, &json!("the last one")).await;
        client.done(&last, HEALED).await;
        for job in self.ledger.accepted_jobs() {
            look(&client, &self.ledger, job, "").await;
        }
    }

    /// Whenever some more successes were confirmed, the API is killed, and outcomes are on their way.
    async fn be_killed_under_load(&mut self) {
        for _ in 0..5 {
            let ledger = &self.ledger;
            let enough = ledger.count_confirmed() + self.dice.usize(20..60);
            let load = tokio::spawn(flood(self.client(), ledger.clone()));
            eventually("successes to be confirmed", HEALED, async || {
                (ledger.count_confirmed() >= enough).then_some(())
            })
            .await;
            self.kill_api().await;
            load.await.expect("no panic");
            self.start_api(true).await;
        }
    }

    async fn all_that_succeeded_is_stored(&self) {
        let client = self.client();
        eventually("all runs to end", HEALED, async || (self.manners.runs() == 0).then_some(())).await;
        for id in self.ledger.certainly_succeeded() {
            let job = client.done(&id.to_string(), HEALED).await;
            if job["state"] != "succeeded" {
                self.ledger.broken(format!("P1: the success of {id} was confirmed, but it ended as {job}"));
            }
        }
    }

    /// Kills everything, and tells which promises were broken.
    async fn end(mut self) -> Audit {
        self.kill_api().await;
        for worker in self.workers.drain(..) {
            worker.kill().await;
        }
        let store = SqliteStore::open(&system::store(self.folder.path())).expect("the store");
        self.ledger.audit(&store).await
    }
}

/// The jobs that have not ended.
async fn unfinished(client: &Client) -> Vec<Value> {
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/jobs?limit=500{cursor}")).await.expect("a list").json();
        let jobs = page["items"].as_array().expect("a list");
        found.extend(jobs.iter().filter(|job| job["done"] != true).cloned());
        let Some(next) = page["next"].as_str() else { return found };
        cursor = format!("&cursor={next}");
    }
}
