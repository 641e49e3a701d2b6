//! The last step before a program: a process that takes the program's limits on, and then becomes the program.
//!
//! The guard cannot take them on itself: with little memory allowed, it could not start anything any more.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit};
use tempfile::NamedTempFile;

use super::order::{Bounds, Order};

/// What a process is called that takes this step.
pub(super) const NAME: &str = "buzzer-launch";
/// So many bytes of a complaint are read.
const COMPLAINT_MAX: u64 = 4 * 1024;

/// Where the step tells why it could not become the program; all else that it has belongs to the program already.
///
/// A file beside the run's directory, not in it: what the program makes there is no word of the step's. It has lost its
/// name by the time the program runs, and is read by the handle it was made with, so nothing can be put in its place.
#[derive(Debug)]
pub(super) struct Complaint(NamedTempFile);

impl Complaint {
    /// Room for one, and none in it yet.
    ///
    /// # Errors
    /// When no file can be made in this directory.
    pub(super) fn none_in(directory: &Path) -> io::Result<Self> {
        tempfile::Builder::new().prefix("buzzer-launch-").tempfile_in(directory).map(Self)
    }

    /// Why the step failed. `None` when it did not.
    pub(super) fn read(self) -> Option<String> {
        let mut text = Vec::new();
        self.0.as_file().take(COMPLAINT_MAX).read_to_end(&mut text).ok()?;
        if text.is_empty() { None } else { Some(String::from_utf8_lossy(&text).into_owned()) }
    }
}

/// How this step is started. Its number will be the program's.
pub(super) fn command(order: &Order, directory: &Path, complaint: &Complaint) -> serde_json::Result<Command> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(complaint.0.path()).arg(serde_json::to_string(&order.bounds)?);
    command.arg(&order.program).args(&order.args);
    command.env_clear().envs(&order.environment.0).current_dir(directory).process_group(0);
    Ok(command)
}

/// Takes the step. Comes back only when it fails.
pub(super) fn launch() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(complaint), Some(bounds), Some(program)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return ExitCode::FAILURE;
    };
    // Before the limits are on, which may allow no more files.
    let Ok(mut complaint) = unnamed(Path::new(&complaint)) else { return ExitCode::FAILURE };
    let Ok(bounds) = serde_json::from_slice(bounds.as_encoded_bytes()) else { return ExitCode::FAILURE };
    let mut command = Command::new(&program);
    command.args(arguments);
    // Should the guard be killed, its child goes along. The guard's one thread that starts it lives as long as the guard.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    let reason = match limit(&bounds) {
        Ok(()) => command.exec(),
        Err(error) => error.into(),
    };
    let _ = complaint.write_all(format!("{}: {reason}", Path::new(&program).display()).as_bytes());
    ExitCode::FAILURE
}

/// Opens a file, which the program does not inherit, and takes its name from it.
fn unnamed(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn complaint() -> (tempfile::TempDir, Complaint) {
        let directory = tempfile::TempDir::new().unwrap();
        let complaint = Complaint::none_in(directory.path()).unwrap();
        (directory, complaint)
    }

    #[test]
    fn what_the_step_writes_is_read_to_its_bound() {
        let (directory, none) = complaint();
        assert_eq!(none.read(), None);
        assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
        let (_directory, some) = complaint();
        fs::write(some.0.path(), b"gone.sh: \xff").unwrap();
        assert_eq!(some.read().as_deref(), Some("gone.sh: \u{fffd}"));
        let (_directory, long) = complaint();
        fs::write(long.0.path(), vec![b'x'; 100_000]).unwrap();
        assert_eq!(long.read().unwrap().len() as u64, COMPLAINT_MAX);
    }

    #[test]
    fn what_is_put_in_its_place_is_not_read() {
        let fifo = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
        let link = |path: &Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
        let plain = |path: &Path| fs::write(path, "not started").unwrap();
        for put in [fifo as fn(&Path), link, plain] {
            let (_directory, complaint) = complaint();
            fs::remove_file(complaint.0.path()).unwrap();
            put(complaint.0.path());
            let (sent, read) = std::sync::mpsc::channel();
            std::thread::spawn(move || sent.send(complaint.read()));
            assert_eq!(read.recv_timeout(Duration::from_secs(10)), Ok(None));
        }
    }
}
