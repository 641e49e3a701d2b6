//! The model in a time of its own: the API's real endpoints, loops and SQLite store, on a broker and among workers and
//! clients that do all that can be done wrong. One thread and a paused clock, so that hours take no time, and a seed is
//! always the same run: `src/bin/simulate.rs` sees to what is left of chance in the process.
//!
//! A process of the API may be killed wherever it waits for the store or the broker ([`life`]): before, when nothing has
//! happened, and after, when all has and nobody was told.

mod api;
mod clock;
mod life;
mod mortal;
mod watchers;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use buzzer_api::store::sqlite::SqliteStore;
use buzzer_api::store::{Filter, Listed, Page, Store};
use buzzer_shared::broker::Broker;
use buzzer_shared::id::{Tenant, WorkerId};
use buzzer_shared::message::{Message, Outcome, Retry, RunResult};
use buzzer_shared::problem::Problem;
use buzzer_shared::time::{Clock, Span, Time};
use buzzer_shared::topology::Route;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::hostile::{HostileNode, Rates};
use crate::inside::topology;
use crate::model::bad_days;
use crate::model::customer::Customer;
use crate::model::ledger::{Audit, Ledger, Said};
use crate::model::worker::{Manners, ScriptedWorker, success};
use api::{Api, Surroundings};
use clock::RuntimeClock;
use life::{Death, Life};
use mortal::here_and_now;
use watchers::{FeedReader, Follower, JobReader, Waiter, check_feed};

/// When every simulation begins: 2026-01-01T00:00:00Z.
const ORIGIN: Time = Time::from_millis(1_767_225_600_000);
/// For everything to be healed and done.
const HEALED: Duration = Duration::from_secs(300);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(100);
/// An API that is killed where jobs change is so within so many steps of that.
const CHANGES: u32 = 30;
/// Slots of a worker: few enough that jobs wait for their turn.
const FEW: u16 = 6;

/// How much is tried in one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// How many things each client does.
    pub actions: usize,
    /// How many processes are killed at most, besides the misfortunes of messages.
    pub kills: u32,
}

impl Size {
    pub const WHOLE: Size = Size { actions: 15, kills: 10 };
}

/// What came of one run.
#[derive(Debug)]
pub struct Report {
    /// Every promise that was broken.
    pub broken: Vec<String>,
    /// How many jobs ended in each way.
    pub ends: BTreeMap<String, usize>,
    /// How long it took, by its own clock.
    pub lasted: Duration,
    /// Of all that is stored in the end: the same for the same run.
    pub digest: u64,
}

/// Runs one simulation on a store in `folder`. On a runtime of one thread, whose time is paused.
pub async fn simulate(seed: u64, size: Size, folder: &Path) -> Report {
    fastrand::seed(seed);
    let mut world = World::start(seed, size, folder).await;
    world.live().await;
    world.heal().await;
    world.end().await
}

/// The store's file in the folder of a run.
pub fn store_in(folder: &Path) -> PathBuf {
    folder.join("buzzer.db")
}

/// What a world is like.
#[derive(Debug, Clone, Copy)]
struct Nature {
    rates: fn(&Route) -> Rates,
    lease: Span,
    /// How often the store fails the API.
    stumbles: f64,
    /// The longest time that the API is away after it was killed.
    away: Duration,
    /// An API that is killed at one of its steps is so within so many.
    steps: u32,
    /// Whether every run goes well, and no success that was confirmed may be lost.
    honest: bool,
}

impl Nature {
    fn of(dice: &mut fastrand::Rng) -> Self {
        if dice.bool() {
            let (lease, away) = (Span::from_secs(10), Duration::from_secs(15));
            Self { rates: |_| Rates::HONEST, lease, stumbles: 0.0, away, steps: 150, honest: true }
        } else {
            let stumbles = [0.0, 0.0, 0.02][dice.usize(..3)];
            let (lease, away) = (Span::from_secs(1), Duration::from_millis(1500));
            Self { rates: bad_days, lease, stumbles, away, steps: 400, honest: false }
        }
    }
}

/// One Buzzer with everything around it.
struct World {
    dice: fastrand::Rng,
    size: Size,
    nature: Nature,
    clock: Arc<RuntimeClock>,
    store: Arc<dyn Store>,
    node: HostileNode,
    api: Option<Api>,
    address: watch::Sender<Option<Client>>,
    workers: Vec<ScriptedWorker>,
    watchers: JoinSet<()>,
    manners: Manners,
    ledger: Ledger,
    /// Whether no job is ever deleted.
    whole: bool,
    kills: u32,
    /// Whether processes live for as long as they like.
    calm: bool,
}

impl World {
    /// Answers once the kinds are known.
    async fn start(seed: u64, size: Size, folder: &Path) -> Self {
        let mut dice = fastrand::Rng::with_seed(seed);
        let nature = Nature::of(&mut dice);
        let clock = Arc::new(RuntimeClock::from(ORIGIN));
        let store = Arc::new(SqliteStore::open_here(&store_in(folder)).expect("a store"));
        let node = HostileNode::new(Arc::<RuntimeClock>::clone(&clock), dice.u64(..), nature.rates);
        let mut world = Self {
            whole: dice.bool(),
            dice,
            size,
            nature,
            clock,
            store,
            node,
            api: None,
            address: watch::Sender::new(None),
            workers: Vec::new(),
            watchers: JoinSet::new(),
            manners: Manners::new(FEW),
            ledger: Ledger::default(),
            kills: 0,
            calm: true,
        };
        if nature.honest {
            world.manners.mend();
        }
        world.start_api(true).await;
        world.hire();
        world.hire();
        world.watch();
        world
            .until("the kinds to be known", async |world| {
                here_and_now(world.store.kinds()).is_ok_and(|kinds| kinds.len() == 3)
            })
            .await;
        world.calm = false;
        let life = world.api.as_ref().expect("it was started").life.clone();
        world.doom(&life);
        world
    }

    fn watch(&mut self) {
        for _ in 0..4 {
            let clock: Arc<dyn Clock> = Arc::<RuntimeClock>::clone(&self.clock);
            let (api, ledger, dice) = (self.address.subscribe(), self.ledger.clone(), self.dice.fork());
            self.watchers.spawn(Waiter { api, ledger, clock, dice }.wait());
        }
        let (api, ledger, dice) = (self.address.subscribe(), self.ledger.clone(), self.dice.fork());
        self.watchers.spawn(FeedReader { api, ledger, dice }.read());
        let (api, ledger, dice) = (self.address.subscribe(), self.ledger.clone(), self.dice.fork());
        self.watchers.spawn(JobReader { api, store: Arc::clone(&self.store), ledger, dice }.read());
        let (store, ledger, dice) = (Arc::clone(&self.store), self.ledger.clone(), self.dice.fork());
        self.watchers.spawn(Follower { store, ledger, dice, whole: self.whole }.follow());
    }

    /// Clients do what they do, and disasters strike until they are through.
    async fn live(&mut self) {
        let deletes = !self.whole;
        let mut shopping = JoinSet::new();
        for n in 0..3 {
            let (api, ledger, dice) = (self.address.subscribe(), self.ledger.clone(), self.dice.fork());
            let mut customer = Customer { api, ledger, dice, deletes };
            // Killed far more often, and with nothing else to hide what that costs.
            let actions = if self.nature.honest { self.size.actions * 2 } else { self.size.actions };
            let poison = n == 0 && !self.nature.honest && self.dice.u32(..5) == 0;
            shopping.spawn(async move {
                if poison {
                    customer.poison().await;
                }
                customer.shop(actions).await;
            });
        }
        loop {
            let peace = Duration::from_millis(self.dice.u64(100..600));
            let killed = self.api.as_ref().expect("it is started again at once").life.end();
            tokio::select! {
                biased;
                ended = shopping.join_next() => match ended {
                    Some(ended) => ended.expect("no panic"),
                    None => return,
                },
                () = killed.cancelled() => self.restart_api().await,
                () = tokio::time::sleep(peace) => self.be_struck().await,
            }
        }
    }

    async fn be_struck(&mut self) {
        if self.kills >= self.size.kills {
            return;
        }
        self.kills += 1;
        match self.dice.u32(..8) {
            0..3 => self.restart_api().await,
            // As when the broker lives inside the same process.
            3 if !self.nature.honest => self.restart_with_broker(false).await,
            // The broker comes back without what it carried, and nobody knows.
            4 if !self.nature.honest => self.restart_with_broker(true).await,
            _ => {
                let unlucky = self.dice.usize(..self.workers.len());
                self.workers.swap_remove(unlucky).kill().await;
                self.hire();
            }
        }
    }

    async fn restart_api(&mut self) {
        self.kill_api().await;
        // Half of the time for as long as can be: beyond every lease.
        let away = self.nature.away.mul_f64(if self.dice.bool() { 1.0 } else { self.dice.f64() });
        tokio::time::sleep(away).await;
        self.start_api(true).await;
    }

    async fn restart_with_broker(&mut self, durable: bool) {
        self.kill_api().await;
        for worker in self.workers.drain(..) {
            worker.kill().await;
        }
        self.node = HostileNode::new(Arc::<RuntimeClock>::clone(&self.clock), self.dice.u64(..), self.nature.rates);
        self.hire();
        self.hire();
        self.start_api(durable).await;
    }

    async fn kill_api(&mut self) {
        self.address.send_replace(None);
        if let Some(api) = self.api.take() {
            api.kill().await;
        }
    }

    /// Starts it until it runs: it may be killed while it starts, too.
    async fn start_api(&mut self, durable: bool) {
        let around = Surroundings {
            store: Arc::clone(&self.store),
            clock: Arc::<RuntimeClock>::clone(&self.clock),
            lease: self.nature.lease,
            durable,
        };
        loop {
            let stumbles = if self.calm { 0.0 } else { self.nature.stumbles };
            let life = Life::new(self.dice.fork(), stumbles);
            if !self.calm {
                self.doom(&life);
            }
            self.api = Api::start(&around, self.node.line(), life).await;
            if let Some(api) = &self.api {
                self.address.send_replace(Some(api.client()));
                return;
            }
        }
    }

    /// Has an API killed: at any step, or where jobs change. Where the broker is honest, each of them.
    fn doom(&mut self, life: &Life) {
        if self.kills >= self.size.kills || !(self.nature.honest || self.dice.bool()) {
            return;
        }
        self.kills += 1;
        let at = [None, None, None, Some("apply"), Some("apply"), Some("submit")][self.dice.usize(..6)];
        let left = if at.is_some() { CHANGES } else { self.nature.steps };
        life.doom(Death { left: self.dice.u32(..left), at });
    }

    fn hire(&mut self) {
        let (ledger, manners) = (self.ledger.clone(), self.manners.clone());
        self.workers.push(ScriptedWorker::start(self.node.line(), ledger, manners, self.dice.fork()));
    }

    /// From now on all goes well. Ends once every job has, and nothing is under way any more.
    async fn heal(&mut self) {
        self.calm = true;
        if let Some(api) = &self.api {
            api.life.spare();
        }
        if self.api.as_ref().is_none_or(|api| api.life.is_over()) {
            self.restart_api().await;
        }
        self.node.calm_down();
        self.manners.mend();
        self.hire();
        self.until("P1: all jobs to end", async |world| {
            here_and_now(world.store.usage()).is_ok_and(|usage| usage.unfinished == 0)
        })
        .await;
        self.until("all runs and messages to end", async |world| {
            world.manners.runs() == 0 && world.node.delayed() == 0
        })
        .await;
        self.speak_too_late().await;
        self.speak_nonsense().await;
        self.until("nothing to be counted as out", async |world| world.api.as_ref().is_some_and(|api| api.out() == 0))
            .await;
        self.until("P3: who reads along to be shown all", async |world| world.ledger.is_fed(&world.jobs())).await;
    }

    /// Every job has ended. Whatever is said of it now changes nothing.
    async fn speak_too_late(&self) {
        let before = self.digest();
        let (line, worker) = (self.node.line(), WorkerId::new(self.clock.now()));
        for run in self.ledger.runs() {
            let number = self.ledger.says(run, Said::Succeeded, true);
            let problem = Problem::new("late", "Late", "It must not count.").with("report", number);
            let failed = RunResult::Failed { problem, retry: Retry::Policy };
            for result in [success(number, run, worker), failed] {
                let started_at = Some(self.clock.now());
                let outcome = Outcome { run, worker, started_at, told: Vec::new(), result };
                line.publish(topology().outcome(), outcome.to_message()).await.expect("an honest broker");
            }
        }
        // Far more than it takes to take them.
        tokio::time::sleep(Duration::from_secs(5)).await;
        if self.digest() != before {
            self.ledger.broken("P2: what was said after the end of all jobs has changed something".into());
        }
    }

    /// What nobody can read is put aside.
    async fn speak_nonsense(&self) {
        let (line, before) = (self.node.line(), self.parked().await);
        for r#type in ["", "buzzer.outcome.v99", Outcome::TYPE] {
            let nonsense = Message { r#type: r#type.into(), body: "{".into(), ..Message::default() };
            line.publish(topology().outcome(), nonsense).await.expect("an honest broker");
        }
        self.until("P6: what nobody can read to be parked", async |world| world.parked().await == before + 3).await;
    }

    /// How many messages are parked.
    async fn parked(&self) -> usize {
        let browsed = self.node.line().browse(topology().parking_queue(), 1).await.expect("an honest broker");
        let waiting = browsed.waiting;
        browsed.close().await.expect("an honest broker");
        waiting
    }

    /// Looks until it is so, for as long as healing may take.
    async fn until(&self, what: &str, so: impl AsyncFn(&Self) -> bool) {
        let began = self.clock.now();
        while !so(self).await {
            if self.clock.now().since(began) > HEALED {
                return self.ledger.broken(format!("{what}: not so after {HEALED:?}"));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Kills everything, and tells which promises were broken.
    async fn end(mut self) -> Report {
        self.watchers.shutdown().await;
        self.kill_api().await;
        for worker in self.workers.drain(..) {
            worker.kill().await;
        }
        if self.nature.honest {
            self.all_that_succeeded_is_stored();
            self.ledger.no_success_was_run_again();
        }
        check_feed(&*self.store, &self.ledger, self.whole);
        let Audit { broken, ends } = here_and_now(self.ledger.audit(&*self.store));
        Report { broken, ends, lasted: self.clock.elapsed(), digest: self.digest() }
    }

    /// Where the broker loses nothing, a success that it confirmed is how its job ends.
    fn all_that_succeeded_is_stored(&self) {
        for id in self.ledger.certainly_succeeded() {
            match here_and_now(self.store.job(&Tenant::default(), id)).expect("a job") {
                Some(job) if job.phase.state().as_str() != "succeeded" => {
                    self.ledger.broken(format!("P1: the success of {id} was confirmed, but it ended as {job:?}"));
                }
                Some(_) => {}
                None => self.ledger.missing(id),
            }
        }
    }

    fn jobs(&self) -> Vec<Listed> {
        let page = Page { after: None, limit: usize::MAX >> 1 };
        here_and_now(self.store.jobs(&Tenant::default(), &Filter::default(), page)).expect("a list")
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for listed in self.jobs() {
            format!("{:?}", listed.job).hash(&mut hasher);
        }
        hasher.finish()
    }
}
