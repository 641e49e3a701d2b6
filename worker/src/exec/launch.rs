//! The last step before a program: a process that takes the program's limits on, and then becomes the program.
//!
//! The guard cannot take them on itself: with little memory allowed, it could not start anything any more.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use super::order::{Bounds, Order};

/// What a process is called that takes this step.
pub(super) const NAME: &str = "buzzer-launch";
/// Where it writes why it could not become the program. All else that it has belongs to the program already.
const COMPLAINT: &str = ".buzzer-not-started";

/// How this step is started. Its number will be the program's.
pub(super) fn command(order: &Order, directory: &Path) -> serde_json::Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(serde_json::to_string(&order.bounds)?).arg(&order.program).args(&order.args);
    command.env_clear().envs(&order.environment).current_dir(directory).process_group(0);
    Ok(command)
}

/// Why the step failed that was started in this directory. `None` when it did not.
pub(super) fn complaint(directory: &Path) -> Option<String> {
    fs::read_to_string(directory.join(COMPLAINT)).ok()
}

/// Takes the step. Comes back only when it fails.
pub(super) fn launch() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(bounds), Some(program)) = (arguments.next(), arguments.next()) else { return ExitCode::FAILURE };
    let Ok(bounds) = serde_json::from_slice(bounds.as_encoded_bytes()) else { return ExitCode::FAILURE };
    let mut command = Command::new(&program);
    command.args(arguments);
    // Should the guard be killed, its child goes along. The guard's one thread that starts it lives as long as the guard.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let reason = match limit(&bounds) {
        Ok(()) => command.exec(),
        Err(error) => error.into(),
    };
    let _ = fs::write(COMPLAINT, format!("{}: {reason}", Path::new(&program).display()));
    ExitCode::FAILURE
}

/// Takes the limits on. They pass to the program, which cannot raise them.
fn limit(bounds: &Bounds) -> rustix::io::Result<()> {
    set(Resource::Core, 0, 0)?;
    set(Resource::Nofile, bounds.files, bounds.files)?;
    if let Some(seconds) = bounds.cpu_seconds {
        // The first is a signal that says what it is about, the second is the end.
        set(Resource::Cpu, seconds, seconds + 1)?;
    }
    // Last: from here on this process has hardly any memory left to use.
    match bounds.memory {
        Some(bytes) => set(Resource::As, bytes, bytes),
        None => Ok(()),
    }
}

/// Sets a limit, as far as the system's own allows.
fn set(resource: Resource, current: u64, maximum: u64) -> rustix::io::Result<()> {
    let mut limit = getrlimit(resource);
    let most = limit.maximum.unwrap_or(u64::MAX);
    limit.current = Some(current.min(most));
    limit.maximum = Some(maximum.min(most));
    setrlimit(resource, limit)
}
