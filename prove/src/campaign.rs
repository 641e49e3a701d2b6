//! One campaign: a system, clients under way, faults one after the other, then healing, quiet, and the audit.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{interval, sleep, timeout};

use crate::checker::{self, Bounds};
use crate::clients::load::{self, Rate};
use crate::clients::probe::Prober;
use crate::clients::{Door, audit, reader};
use crate::error::ProveError;
use crate::ground::{Ground, GroundError, Plan};
use crate::ledger::{self, Entry, Ledger};
use crate::nemesis::hand::{Hand, makes_queues};
use crate::nemesis::schedule::{Pace, Schedule, Strike};
use crate::report::Report;
use crate::wait::{eventually, within};
use crate::work::KINDS;

/// For the workers to have said what they run.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// RabbitMQ 3.10 damages quorum queues that were made a second or two before it is killed.
const QUEUE_AGE: Duration = Duration::from_secs(5);
/// For a fault to be done, or healed: several parts may have to boot, one after the other.
const HAND_LIMIT: Duration = Duration::from_secs(10 * 60);
/// What a strike takes beside calm and hold, as a rule.
const RECOVERY: Duration = Duration::from_secs(4);
/// How long a recovery is waited for, where it is late: so many times what is promised, and at least this.
const LATE: u32 = 3;
const LATE_LIMIT: Duration = Duration::from_secs(60);
/// How long it may take until nothing is left to do.
const QUIET_LIMIT: Duration = Duration::from_secs(180);
/// A reader that has not seen all hears of it for so long.
const READER_PATIENCE: Duration = Duration::from_secs(30);
const READERS: usize = 2;
const LOOK_AT_MEMORY: Duration = Duration::from_secs(1);

/// What a campaign is to be.
#[derive(Debug, Clone)]
pub struct Settings {
    pub seed: u64,
    /// How many jobs are handed in, at least: the load goes on under every fault.
    pub jobs: u64,
    pub length: Length,
    pub pace: Pace,
    pub bounds: Bounds,
    /// Only faults whose name has one of these words; all, where there are none.
    pub only: Vec<String>,
    pub plan: Plan,
}

/// How long faults go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// So many faults.
    Faults(usize),
    Time(Duration),
}

/// How far a campaign is.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Progress {
    /// Of all, from 0 to 1.
    pub share: f64,
    pub faults: usize,
    pub jobs: u64,
    /// What goes on now.
    pub now: String,
}

/// A file in the directory of the plan: what the clients wrote down.
pub const LEDGER: &str = "ledger.jsonl";

/// Runs it.
///
/// # Errors
/// When the system cannot be set up, harmed or looked at. Broken promises stand in the report.
pub async fn run(settings: &Settings, progress: &watch::Sender<Progress>) -> Result<Report, ProveError> {
    let began = Instant::now();
    let tell = |now: String| progress.send_modify(|progress| progress.now = now);
    tell("starting the system".into());
    let path = settings.plan.directory.join(LEDGER);
    let ledger = Ledger::begin(&path, began).map_err(|source| ProveError::File { path: path.clone(), source })?;
    let ledger = Arc::new(ledger);
    let ground = Arc::new(Ground::start(&settings.plan).await?);
    let versions = ground.versions().await?;
    let door = Arc::new(Door::new(ground.doors(), None).map_err(|error| ProveError::Clients(error.to_string()))?);
    let schedule = schedule(settings, &ground)?;
    ready(&door).await?;

    let (faults_go_on, goes_on) = watch::channel(true);
    let (enough, is_enough) = watch::channel(None);
    let (count, counted) = watch::channel(0);
    let own = (Arc::clone(&door), Arc::clone(&ledger));
    let readers: Vec<_> = (0..READERS)
        .map(|at| Task::spawn(reader::read_feed(at, own.clone(), is_enough.clone(), READER_PATIENCE)))
        .collect();
    let rate = Rate { jobs: settings.jobs, between: between(settings) };
    let clients = Task::spawn(load::run(settings.seed, rate, own.clone(), goes_on, count));
    let memory = Task::spawn(look_at_memory(Arc::clone(&ground), Arc::clone(&ledger)));

    let nemesis =
        Nemesis { settings, hand: Hand { ground: &ground, ledger: &ledger }, prober: Prober::new(&door, &ledger) };
    let faults = nemesis.rage(schedule, &counted, progress).await?;
    faults_go_on.send_replace(false);
    tell("handing in the rest".into());
    clients.ended().await;
    tell("waiting until all is done".into());
    let is_quiet = audit::quiet(&door, settings.bounds.longest(QUIET_LIMIT)).await;
    tell("looking at every job".into());
    let system = audit::system(&door).await.map_err(ProveError::Audit)?;
    enough.send_replace(Some(system.jobs.iter().map(|job| job.log.len()).sum()));
    for reader in readers {
        reader.ended().await;
    }
    drop(memory);
    let kinds = audit::kinds(&door).await.map_err(ProveError::Audit)?;
    ground.leave(&kinds).await?;
    let lines = ledger::read(&path).map_err(|source| ProveError::File { path, source })?;
    let verdict = checker::check(&lines, &system, settings.bounds);
    let seconds = began.elapsed().as_secs();
    Ok(Report::new(settings, (versions, ground.skipped.clone()), (faults, seconds), is_quiet, verdict))
}

fn schedule(settings: &Settings, ground: &Ground) -> Result<Schedule, ProveError> {
    let mut faults = ground.shape().faults();
    if !settings.only.is_empty() {
        faults.retain(|fault| settings.only.iter().any(|word| fault.name().contains(word.as_str())));
        if faults.is_empty() {
            let all: std::collections::BTreeSet<_> = ground.shape().faults().iter().map(|fault| fault.name()).collect();
            return Err(ProveError::NoFault(all.into_iter().collect::<Vec<_>>().join("\n  ")));
        }
    }
    Ok(Schedule::new(settings.seed, &faults, settings.pace))
}

/// Time between two jobs, so that all are handed in about when the faults are over.
fn between(settings: &Settings) -> Duration {
    let strike = settings.pace.calm / 2 + settings.pace.hold / 2 + RECOVERY;
    let all = match settings.length {
        // Some strikes are of two.
        Length::Faults(count) => strike * u32::try_from(count).unwrap_or(u32::MAX) * 4 / 5,
        Length::Time(length) => length,
    };
    let jobs = u32::try_from(settings.jobs).unwrap_or(u32::MAX).max(1);
    (all / jobs).clamp(Duration::from_millis(2), Duration::from_secs(1))
}

/// Waits until every kind is known, and one job has gone all the way.
async fn ready(door: &Door) -> Result<(), ProveError> {
    let known = eventually("the workers to say what they run", READY_LIMIT, async || {
        for api in 0..door.apis() {
            let document = door.get(api, "/openapi.json").await.ok()?.body;
            if !KINDS.iter().all(|kind| document["paths"].get(format!("/v1/jobs/{kind}")).is_some()) {
                return None;
            }
        }
        Some(())
    });
    Ok(known.await.map_err(GroundError::from)?)
}

async fn look_at_memory(ground: Arc<Ground>, ledger: Arc<Ledger>) {
    let mut look = interval(LOOK_AT_MEMORY);
    loop {
        look.tick().await;
        for (api, service) in ground.apis.iter().enumerate() {
            if let Some(bytes) = service.memory() {
                ledger.write(Entry::Memory { api, bytes });
            }
        }
    }
}

/// Does one strike after the other.
struct Nemesis<'a> {
    settings: &'a Settings,
    hand: Hand<'a>,
    prober: Prober<'a>,
}

impl Nemesis<'_> {
    /// Until it is enough. How many faults there were.
    async fn rage(
        &self,
        schedule: Schedule,
        counted: &watch::Receiver<u64>,
        progress: &watch::Sender<Progress>,
    ) -> Result<usize, ProveError> {
        let began = Instant::now();
        let mut faults = 0;
        let mut rest = QUEUE_AGE;
        for (at, strike) in schedule.enumerate() {
            let share = match self.settings.length {
                Length::Faults(count) => faults as f64 / count as f64,
                Length::Time(length) => began.elapsed().as_secs_f64() / length.as_secs_f64(),
            };
            if share >= 1.0 {
                break;
            }
            let names: Vec<_> = strike.faults.iter().map(ToString::to_string).collect();
            progress.send_replace(Progress { share, faults, jobs: *counted.borrow(), now: names.join(" + ") });
            sleep(strike.calm.max(rest)).await;
            self.strike(at, &strike).await?;
            faults += strike.faults.len();
            let made_queues = strike.faults.iter().any(|fault| makes_queues(*fault));
            rest = if made_queues { QUEUE_AGE } else { Duration::ZERO };
        }
        Ok(faults)
    }

    async fn strike(&self, at: usize, strike: &Strike) -> Result<(), ProveError> {
        self.hand.ledger.write(Entry::Struck { strike: at, faults: strike.faults.clone() });
        for fault in &strike.faults {
            in_time(&format!("{fault}, done"), self.hand.strike(*fault)).await?;
        }
        sleep(strike.hold).await;
        for fault in &strike.faults {
            in_time(&format!("{fault}, healed"), self.hand.heal(*fault)).await?;
        }
        self.hand.revive().await?;
        self.hand.ledger.write(Entry::Healed { strike: at });
        let promised = strike.faults.iter().map(|fault| fault.patience()).max().unwrap_or_default();
        let limit = (self.settings.bounds.longest(promised) * LATE).max(LATE_LIMIT);
        let entry = match self.prober.recovery(limit).await {
            Some(took) => Entry::Recovered { strike: at, ms: millis(took) },
            None => Entry::Unrecovered { strike: at, ms: millis(limit) },
        };
        self.hand.ledger.write(entry);
        Ok(())
    }
}

/// What the hand does, within its limit.
async fn in_time(what: &str, doing: impl Future<Output = Result<(), GroundError>>) -> Result<(), GroundError> {
    within(what, HAND_LIMIT, doing).await?
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// A task that ends with whoever began it.
struct Task(JoinHandle<()>);

/// Longer than any client waits for anything.
const TASK_LIMIT: Duration = Duration::from_secs(15 * 60);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    /// Waits until it has ended by itself.
    async fn ended(mut self) {
        // What it did not do, the audit finds.
        let _ = timeout(TASK_LIMIT, &mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps ledger and logs of a campaign in `to`; what else is in its directory goes with it.
///
/// # Errors
/// When they cannot be copied.
pub fn keep(directory: &Path, to: &Path) -> std::io::Result<PathBuf> {
    let logs = to.join("logs");
    std::fs::create_dir_all(&logs)?;
    std::fs::copy(directory.join(LEDGER), to.join(LEDGER))?;
    for log in std::fs::read_dir(directory.join("logs"))?.flatten() {
        std::fs::copy(log.path(), logs.join(log.file_name()))?;
    }
    Ok(to.to_owned())
}
