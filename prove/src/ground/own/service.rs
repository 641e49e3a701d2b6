//! One of our programs, as a process with settings, a directory and a log of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use rustix::process::Signal;

use crate::ground::GroundError;
use crate::ground::process::Life;
use crate::wait::eventually;

/// Its own grace period is shorter.
const STOP_LIMIT: Duration = Duration::from_secs(45);

/// An API or a worker.
#[derive(Debug)]
pub struct Service {
    program: PathBuf,
    settings: Vec<(String, String)>,
    directory: PathBuf,
    log: PathBuf,
    /// What its clock is off by, where that can be said.
    clock: Option<PathBuf>,
    life: Life,
}

impl Service {
    /// Not started yet. `settings` are its environment.
    ///
    /// # Errors
    /// When its directory cannot be made.
    pub fn new(
        program: PathBuf,
        directory: PathBuf,
        log: PathBuf,
        settings: Vec<(String, String)>,
    ) -> Result<Self, GroundError> {
        std::fs::create_dir_all(&directory).map_err(GroundError::file(&directory))?;
        Ok(Self { program, settings, directory, log, clock: None, life: Life::default() })
    }

    /// With a clock that can be stepped, by this library.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn with_clock(mut self, library: &Path) -> Result<Self, GroundError> {
        let file = self.directory.join("clock");
        let settings = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".into()),
            // Lengths of time stay true.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ];
        self.settings.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        self.clock = Some(file);
        self.step_clock(0)?;
        Ok(self)
    }

    /// Sets its clock to be off by so many hours. Without a clock of its own, nothing happens.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn step_clock(&self, hours: i8) -> Result<(), GroundError> {
        let Some(file) = &self.clock else { return Ok(()) };
        std::fs::write(file, format!("{hours:+}h\n")).map_err(GroundError::file(file))
    }

    /// Starts it, or starts it again with the same settings.
    ///
    /// # Errors
    /// When the program does not start.
    pub fn start(&self) -> Result<(), GroundError> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(GroundError::file(&self.log))?;
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        let errors = log.try_clone().map_err(GroundError::file(&self.log))?;
        command.current_dir(&self.directory).stdout(log).stderr(errors);
        self.life.begin(&mut command).map_err(GroundError::file(&self.program))
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        self.life.kill();
    }

    /// Asks it to stop, as a service manager would, and waits until it has. `None` when it did not run.
    ///
    /// # Errors
    /// When it does not stop.
    pub async fn stop(&self) -> Result<Option<ExitStatus>, GroundError> {
        // One that was started a moment ago would be ended by the signal before it could do as it promises.
        eventually("a process to heed SIGTERM", STOP_LIMIT, async || self.heeds(Signal::TERM).then_some(())).await?;
        Ok(self.life.stop(Signal::TERM, STOP_LIMIT).await?)
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&self) {
        self.life.pause();
    }

    /// Ends what [`pause`](Self::pause) began.
    pub fn resume(&self) {
        self.life.resume();
    }

    /// How it ended by itself, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.life.ended()
    }

    /// What it holds in memory, in bytes; `None` when it does not run, or this is no Linux.
    pub fn memory(&self) -> Option<u64> {
        let kib: u64 = self.status("VmRSS:")?.trim_end_matches("kB").trim().parse().ok()?;
        Some(kib * 1024)
    }

    /// Whether it handles a signal itself. Where that cannot be seen any more, or at all, it is taken to.
    fn heeds(&self, signal: Signal) -> bool {
        if self.life.is_over() {
            return true;
        }
        let caught = self.status("SigCgt:").and_then(|mask| u64::from_str_radix(&mask, 16).ok());
        caught.is_none_or(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
    }

    /// What Linux says of the process under a name.
    fn status(&self, name: &str) -> Option<String> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.life.id()?)).ok()?;
        status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    }
}
