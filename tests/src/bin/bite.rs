//! Does it bite? Builds Buzzer with its faults ([`buzzer_shared::bite`]), lets the simulation and the tests look at each
//! of them, and tells who noticed: `cargo run -p buzzer-tests --bin bite`.

use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use buzzer_shared::bite::Fault;
use clap::{Parser, ValueEnum};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

/// Tries every fault that is built in on purpose. Fails when one is not noticed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds of the simulation each fault has to survive.
    #[arg(long, default_value_t = 24)]
    seeds: u64,

    /// Tries these faults only.
    #[arg(value_enum)]
    faults: Vec<Fault>,
}

/// A run that takes so long by a real clock has stopped.
const STUCK: Duration = Duration::from_secs(60);
/// The features with which all is built.
const FAULTY: [&str; 2] = ["--features", "buzzer-shared/bite"];
/// Where the simulation shows nothing, these look: what they test of a fault, no seed needs to find.
const TESTS: [&[&str]; 2] = [&["-p", "buzzer-api", "--lib"], &["-p", "buzzer-worker"]];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let Arguments { seeds, mut faults } = Arguments::parse();
    if faults.is_empty() {
        faults = Fault::value_variants().to_vec();
    }
    build()?;
    let sound = simulate(None, seeds).await?;
    ensure!(sound == 0, "{sound} of {seeds} seeds break something without any fault: mend that first");
    for tests in TESTS {
        let failed = failures(tests, None)?;
        ensure!(failed.is_empty(), "{failed:?} fail without any fault: mend that first");
    }
    println!("| fault | seeds that break | caught by |\n|---|---|---|");
    let mut missed = 0;
    for fault in faults {
        let caught = simulate(Some(fault), seeds).await?;
        let by = if caught > 0 { "the simulation".into() } else { caught_by_tests(fault)? };
        missed += u32::from(by.is_empty());
        let by = if by.is_empty() { "**nobody**" } else { &by };
        println!("| `{}` | {caught} of {seeds} | {by} |", name(fault));
    }
    println!("\n{missed} faults were not noticed");
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Once for all: which fault it is, the environment says.
fn build() -> Result<()> {
    let tests = TESTS.map(|tests| [&["test", "--no-run"], tests].concat());
    let simulation = ["build", "-p", "buzzer-tests", "--bin", "simulate"].to_vec();
    for arguments in tests.into_iter().chain([simulation]) {
        let built = cargo(&arguments, None).stdout(Stdio::inherit()).stderr(Stdio::inherit()).status()?;
        ensure!(built.success(), "cargo {arguments:?} failed");
    }
    Ok(())
}

/// How many seeds break something.
async fn simulate(fault: Option<Fault>, seeds: u64) -> Result<usize> {
    let program = std::env::current_exe()?.with_file_name("simulate");
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let runs = stream::iter(1..=seeds).map(|seed| {
        let mut command = with(Command::new(&program), fault);
        command.args(["--seed", &seed.to_string()]);
        let mut command = tokio::process::Command::from(command);
        command.kill_on_drop(true);
        async move {
            // One that never ends has broken something, too.
            let Ok(ran) = timeout(STUCK, command.output()).await else { return Ok(false) };
            ran.map(|output| output.status.success()).with_context(|| format!("{command:?}"))
        }
    });
    let well: Vec<bool> = runs.buffer_unordered(at_once).try_collect().await?;
    Ok(well.iter().filter(|well| !**well).count())
}

/// The tests that notice the fault, the first few of them.
fn caught_by_tests(fault: Fault) -> Result<String> {
    for tests in TESTS {
        let failed = failures(tests, Some(fault))?;
        if let Some(first) = failed.first() {
            let more = if failed.len() > 1 { format!(" and {} more", failed.len() - 1) } else { String::new() };
            return Ok(format!("`{first}`{more}"));
        }
    }
    Ok(String::new())
}

/// The names of the tests that fail.
fn failures(tests: &[&str], fault: Option<Fault>) -> Result<Vec<String>> {
    let output = cargo(&[&["test", "--no-fail-fast"], tests].concat(), fault).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect();
    ensure!(
        output.status.success() || !failed.is_empty(),
        "no tests were run: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(failed)
}

fn cargo(arguments: &[&str], fault: Option<Fault>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).args(FAULTY);
    with(command, fault)
}

fn with(mut command: Command, fault: Option<Fault>) -> Command {
    // What fails because of a fault is no case to try again for ever.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "true");
    match fault {
        Some(fault) => command.env("BUZZER_BITE", name(fault)),
        None => command.env_remove("BUZZER_BITE"),
    };
    command
}

fn name(fault: Fault) -> String {
    fault.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
