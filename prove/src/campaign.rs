//! One campaign: a system, clients under way, faults one after the other, then healing, quiet, and the audit.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buzzer_shared::kind::Kind;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::checker::{self, Bounds, FoundParked, Verdict};
use crate::clients::load::{self, Rate};
use crate::clients::probe::Prober;
use crate::clients::{Door, audit, reader};
use crate::error::ProveError;
use crate::ground::compose::{self, ComposeProject};
use crate::ground::own::{self, OwnSystem};
use crate::ground::{Ground, GroundError, Make};
use crate::ledger::{self, Entry, Ledger};
use crate::nemesis::fault::Shape;
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
/// How long it may take until nothing is left to do, beside so many leases that end one after the other.
const QUIET_LIMIT: Duration = Duration::from_secs(180);
const QUIET_LEASES: u32 = 5;
/// A reader that has not seen all hears of it for so long.
const READER_PATIENCE: Duration = Duration::from_secs(30);
/// What nobody can use is parked by then.
const PARKED_LIMIT: Duration = Duration::from_secs(30);
const READERS: usize = 2;
const LOOK_AT_MEMORY: Duration = Duration::from_secs(2);

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
    /// Where ledger and logs go, and what a system of our own keeps.
    pub directory: PathBuf,
    pub target: Target,
}

/// Which system.
#[derive(Debug, Clone)]
pub enum Target {
    /// One of our own.
    Own(own::Plan),
    /// A Compose project that runs.
    Compose(compose::Access),
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
/// A folder beside it: what each part logged.
const LOGS: &str = "logs";

/// Runs it, until it is over or `stopped` is. However it ends, a system that is not ours is left as it was found.
///
/// # Errors
/// When the system cannot be set up, harmed or looked at, or it was stopped. Broken promises stand in the report.
pub async fn run(
    settings: &Settings,
    progress: &watch::Sender<Progress>,
    stopped: impl Future<Output = ()>,
) -> Result<Report, ProveError> {
    let mut stopped = pin!(stopped);
    let tell = |now: &str| progress.send_modify(|progress| now.clone_into(&mut progress.now));
    let began = Instant::now();
    let logs = settings.directory.join(LOGS);
    std::fs::create_dir_all(&logs).map_err(|source| ProveError::File { path: logs.clone(), source })?;
    let path = settings.directory.join(LEDGER);
    let ledger = Ledger::begin(&path, began).map_err(|source| ProveError::File { path, source })?;
    tell("starting the system");
    let ground = tokio::select! {
        ground = start(settings) => ground?,
        () = &mut stopped => return Err(ProveError::Stopped),
    };
    let mut campaign = Campaign { settings, ground: &*ground, ledger: Arc::new(ledger), began, kinds: Vec::new() };
    let ran = tokio::select! {
        ran = Box::pin(campaign.run(progress)) => ran,
        () = stopped => Err(ProveError::Stopped),
    };
    tell("leaving the system");
    let left = ground.leave(&campaign.kinds).await;
    match (ran, left) {
        (ran, Ok(())) => ran,
        (Ok(report), Err(error)) => Ok(report.not_left_as_found(&error)),
        (Err(ran), Err(error)) => Err(ProveError::NotLeft { ran: Box::new(ran), error }),
    }
}

async fn start(settings: &Settings) -> Result<Box<dyn Ground>, GroundError> {
    let logs = settings.directory.join(LOGS);
    Ok(match &settings.target {
        Target::Own(plan) => Box::new(OwnSystem::start(plan, &settings.directory, &logs).await?),
        Target::Compose(access) => Box::new(ComposeProject::find(access, &logs).await?),
    })
}

/// A campaign on a system that runs.
struct Campaign<'a> {
    settings: &'a Settings,
    ground: &'a dyn Ground,
    ledger: Arc<Ledger>,
    began: Instant,
    /// Those that were announced.
    kinds: Vec<Kind>,
}

impl Campaign<'_> {
    fn door(&self) -> Result<Door, ProveError> {
        let key = match &self.settings.target {
            Target::Own(_) => None,
            Target::Compose(access) => access.key.clone(),
        };
        let door = Door::new(self.ground.doors()).map_err(|error| ProveError::Clients(error.to_string()))?;
        Ok(door.with_key(key).shared(self.ground.is_shared()))
    }

    async fn run(&mut self, progress: &watch::Sender<Progress>) -> Result<Report, ProveError> {
        let (ground, ledger) = (self.ground, Arc::clone(&self.ledger));
        tokio::select! {
            ran = self.course(progress) => ran,
            never = look_at_memory(ground, &ledger) => match never {},
        }
    }

    async fn course(&mut self, progress: &watch::Sender<Progress>) -> Result<Report, ProveError> {
        let door = &Arc::new(self.door()?);
        let (settings, ground, ledger) = (self.settings, self.ground, &self.ledger);
        let tell = |now: &str| progress.send_modify(|progress| now.clone_into(&mut progress.now));
        let make = ground.make().await?;
        let schedule = schedule(settings, ground)?;
        ready(door).await?;
        self.kinds = audit::kinds(door).await.map_err(ProveError::Audit)?;

        let (faults_go_on, goes_on) = watch::channel(true);
        let (enough, is_enough) = watch::channel(None);
        let (count, counted) = watch::channel(0);
        let own = (Arc::clone(door), Arc::clone(ledger));
        let readers: Vec<_> = (0..READERS)
            .map(|at| Task::spawn(reader::read_feed(at, own.clone(), is_enough.clone(), READER_PATIENCE)))
            .collect();
        let rate = Rate { jobs: settings.jobs, between: between(settings) };
        let clients = Task::spawn(load::run(settings.seed, rate, own, goes_on, count));

        let nemesis = Nemesis { settings, door, hand: Hand { ground, ledger }, prober: Prober::new(ledger) };
        let faults = tokio::select! {
            faults = nemesis.rage(schedule, progress) => faults?,
            never = count_jobs(counted.clone(), progress) => match never {},
        };
        faults_go_on.send_replace(false);
        tell("handing in the rest");
        tokio::select! {
            () = clients.ended() => {}
            never = count_jobs(counted, progress) => match never {},
        }
        tell("waiting until all is done");
        let limit = QUIET_LIMIT + ground.lease() * QUIET_LEASES;
        let is_quiet = audit::quiet(door, settings.bounds.longest(limit)).await;
        tell("looking at every job");
        let mut found = audit::system(door).await.map_err(ProveError::Audit)?;
        enough.send_replace(Some(found.jobs.iter().map(|job| job.log.len()).sum()));
        for reader in readers {
            reader.ended().await;
        }
        let path = settings.directory.join(LEDGER);
        let lines = ledger::read(&path).map_err(|source| ProveError::File { path, source })?;
        tell("looking at what is parked");
        let is_all = |parked: &[FoundParked]| checker::is_parked(&lines, parked);
        let patience = settings.bounds.longest(PARKED_LIMIT);
        let (parked, unseen) = audit::parked(door, patience, is_all).await.map_err(ProveError::Audit)?;
        (found.parked, found.unseen) = (parked, unseen);
        let verdict = checker::check(&lines, &found, settings.bounds);
        let report = self.report(make, faults, is_quiet, verdict);
        if report.kept && ground.is_shared() {
            tell("deleting its jobs");
            audit::delete(door, &found.jobs).await.map_err(ProveError::Audit)?;
        }
        Ok(report)
    }

    fn report(&self, make: Make, faults: usize, quiet: bool, verdict: Verdict) -> Report {
        let Shape { apis, workers, .. } = self.ground.shape();
        let seconds = self.began.elapsed().as_secs();
        let (seed, skipped) = (self.settings.seed, self.ground.skipped().to_vec());
        let kept = quiet && verdict.is_kept();
        let Make { store, versions } = make;
        let left = None;
        Report { seed, versions, store, apis, workers, faults, seconds, skipped, quiet, left, kept, verdict }
    }
}

fn schedule(settings: &Settings, ground: &dyn Ground) -> Result<Schedule, ProveError> {
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

/// Ends never.
async fn look_at_memory(ground: &dyn Ground, ledger: &Ledger) -> Infallible {
    let mut look = interval(LOOK_AT_MEMORY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        for (api, bytes) in ground.memory().await {
            ledger.write(Entry::Memory { api, bytes });
        }
    }
}

/// Ends never.
async fn count_jobs(mut counted: watch::Receiver<u64>, progress: &watch::Sender<Progress>) -> Infallible {
    while counted.changed().await.is_ok() {
        let jobs = *counted.borrow_and_update();
        progress.send_modify(|progress| progress.jobs = jobs);
    }
    std::future::pending().await
}

/// Does one strike after the other.
struct Nemesis<'a> {
    settings: &'a Settings,
    door: &'a Door,
    hand: Hand<'a>,
    prober: Prober<'a>,
}

impl Nemesis<'_> {
    /// Until it is enough. How many faults there were.
    async fn rage(&self, schedule: Schedule, progress: &watch::Sender<Progress>) -> Result<usize, ProveError> {
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
            progress.send_modify(|progress| (progress.share, progress.now) = (share, names.join(" + ")));
            sleep(strike.calm.max(rest)).await;
            self.strike(at, &strike).await?;
            faults += strike.faults.len();
            progress.send_modify(|progress| progress.faults = faults);
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
        let healed = tokio::time::Instant::now();
        let door = self.door.at(self.hand.ground.every_door().await?);
        let promised = strike.faults.iter().map(|fault| fault.patience()).max().unwrap_or_default();
        let limit = (self.settings.bounds.longest(promised) * LATE).max(LATE_LIMIT);
        let entry = match self.prober.recovery(&door, healed, limit).await {
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
    let logs = to.join(LOGS);
    std::fs::create_dir_all(&logs)?;
    std::fs::copy(directory.join(LEDGER), to.join(LEDGER))?;
    for log in std::fs::read_dir(directory.join(LOGS))?.flatten() {
        std::fs::copy(log.path(), logs.join(log.file_name()))?;
    }
    Ok(to.to_owned())
}
