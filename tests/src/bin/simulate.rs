//! The simulation, over many seeds: each is one run of [`buzzer_tests::simulation`], in a process of its own, so that all
//! that is left of chance begins anew with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use buzzer_api::store::sqlite::SqliteStore;
use buzzer_tests::simulation::{Report, Size, simulate, store_in};
use clap::Parser;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinSet;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A run that takes so long by a real clock has stopped.
const STUCK: Duration = Duration::from_secs(60);

/// Runs the API against a hostile world in simulated time. Every seed is always the same run.
#[derive(Debug, Clone, Parser)]
struct Arguments {
    /// How many seeds to try, from 1 on.
    #[arg(long, env = "BUZZER_SEEDS", default_value_t = 1000)]
    seeds: u64,

    /// Tries this seed alone, and tells all that it breaks.
    #[arg(long, env = "BUZZER_SEED")]
    seed: Option<u64>,

    /// Begins no further seed after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,

    /// How many things each client does in a run.
    #[arg(long, default_value_t = Size::WHOLE.actions)]
    actions: usize,

    /// How many processes are killed in a run, at most.
    #[arg(long, default_value_t = Size::WHOLE.kills)]
    kills: u32,

    /// A new store, to begin each run with a copy of it.
    #[arg(long, hide = true)]
    store: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(seed, &arguments),
        None => many(&arguments),
    }
}

/// One seed in this process.
fn one(seed: u64, arguments: &Arguments) -> Result<ExitCode> {
    let size = Size { actions: arguments.actions, kills: arguments.kills };
    let folder = folder()?;
    if let Some(store) = &arguments.store {
        std::fs::copy(store, store_in(folder.path())).context("the new store cannot be copied")?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    let Report { broken, ends, lasted, digest } = runtime.block_on(simulate(seed, size, folder.path()));
    for how in &broken {
        eprintln!("{how}");
    }
    println!("seed {seed}: {} broken, {:.1} s, {ends:?}, {digest:016x}", broken.len(), lasted.as_secs_f64());
    Ok(if broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In memory, where the system offers that: what the disk takes is of no interest here.
fn folder() -> Result<TempDir> {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
    folder.context("no temporary folder can be made")
}

/// Makes a store once for all runs: that takes longer than the rest of their start.
fn new_store(folder: &Path) -> Result<PathBuf> {
    let path = store_in(folder);
    drop(SqliteStore::open(&path)?);
    Ok(path)
}

#[tokio::main(flavor = "current_thread")]
async fn many(arguments: &Arguments) -> Result<ExitCode> {
    let began = Instant::now();
    let limit = arguments.seconds.map(Duration::from_secs);
    // A seed's threads hand over to each other all the time: one seed for each core leaves a third of it idle.
    let at_once = 2 * std::thread::available_parallelism().map_or(1, usize::from);
    let size = Size { actions: arguments.actions, kills: arguments.kills };
    let folder = folder()?;
    let store = new_store(folder.path())?;
    let (mut running, mut next, mut tried) = (JoinSet::new(), 1, 0_u32);
    loop {
        let in_time = limit.is_none_or(|limit| began.elapsed() < limit);
        while next <= arguments.seeds && running.len() < at_once && in_time {
            running.spawn(run(next, size, store.clone()));
            next += 1;
        }
        let Some(ran) = running.join_next().await else { break };
        let ran = ran??;
        tried += 1;
        if !ran.well {
            return shrink(ran, size, &store).await;
        }
    }
    ensure!(tried > 0, "no seed was tried: --seeds and --seconds must leave room for one");
    let minutes = began.elapsed().as_secs_f64() / 60.0;
    println!("{tried} seeds, nothing broken, {:.0} seeds in a minute", f64::from(tried) / minutes);
    Ok(ExitCode::SUCCESS)
}

/// How a seed went.
struct Ran {
    seed: u64,
    well: bool,
    told: String,
}

async fn run(seed: u64, size: Size, store: PathBuf) -> Result<Ran> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--seed", &seed.to_string(), "--actions", &size.actions.to_string()]);
    command.args(["--kills", &size.kills.to_string()]).arg("--store").arg(store).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(STUCK, command.output()).await else {
        return Ok(Ran { seed, well: false, told: format!("it had not ended after {STUCK:?}") });
    };
    let output = output?;
    let told = [output.stderr, output.stdout].concat();
    Ok(Ran { seed, well: output.status.success(), told: String::from_utf8_lossy(&told).into_owned() })
}

/// Looks for a smaller run that breaks something with the same seed, and tells how to see it again.
async fn shrink(mut failed: Ran, mut size: Size, store: &Path) -> Result<ExitCode> {
    loop {
        let smaller = [
            Size { actions: size.actions / 2, ..size },
            Size { kills: size.kills / 2, ..size },
            Size { actions: size.actions.saturating_sub(1), ..size },
            Size { kills: size.kills.saturating_sub(1), ..size },
        ];
        let mut found = None;
        for smaller in smaller.into_iter().filter(|smaller| *smaller != size) {
            let ran = run(failed.seed, smaller, store.into()).await?;
            if !ran.well {
                found = Some((ran, smaller));
                break;
            }
        }
        match found {
            Some((ran, smaller)) => (failed, size) = (ran, smaller),
            None => break,
        }
    }
    let Size { actions, kills } = size;
    println!("{}", failed.told);
    println!("promises are broken; again: simulate --seed {} --actions {actions} --kills {kills}", failed.seed);
    Ok(ExitCode::FAILURE)
}
