//! A process that goes with us, one way or another.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::guardian::Guardian;
use crate::wait::{TooLate, eventually};

/// A child process. Dropped, it is killed; a guardian sees to that when we cannot.
#[derive(Debug)]
pub struct Process {
    child: Child,
    _guardian: Guardian,
}

impl Process {
    /// # Errors
    /// When there is no such program.
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let guardian = Guardian::of_process(child.id())?;
        Ok(Self { child, _guardian: guardian })
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as a service manager would, and waits until it has.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus, TooLate> {
        self.ask_to_stop();
        self.end(limit).await
    }

    /// Asks it to stop, and does not wait.
    pub fn ask_to_stop(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn end(&mut self, limit: Duration) -> Result<ExitStatus, TooLate> {
        eventually("a process to stop", limit, async || self.ended()).await
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Ends what [`pause`](Self::pause) began.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        // A child that nobody else waits for can always be asked.
        self.child.try_wait().ok().flatten()
    }

    /// Sends it a signal. One that has ended gets none.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            // Not waited for yet, so the number is still its own.
            let _ = kill_process(Pid::from_child(&self.child), signal);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is started, ended and started again.
#[derive(Debug, Default)]
pub struct Life(Mutex<Option<Process>>);

impl Life {
    /// # Errors
    /// When there is no such program.
    pub fn begin(&self, command: &mut Command) -> std::io::Result<()> {
        let process = Process::start(command)?;
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        Ok(())
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        drop(self.take());
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&self) {
        self.with(Process::pause);
    }

    /// Ends what [`pause`](Self::pause) began.
    pub fn resume(&self) {
        self.with(Process::resume);
    }

    /// Asks it to stop with `signal`, and waits until it has. `None` when it did not run.
    ///
    /// # Errors
    /// When it still runs after `limit`; it goes on then.
    pub async fn stop(&self, signal: Signal, limit: Duration) -> Result<Option<ExitStatus>, TooLate> {
        self.with(|process| process.signal(signal));
        let what = "a process to stop when it is asked to";
        let ended = eventually(what, limit, async || match self.with(Process::ended) {
            Some(running) => running.map(Some),
            None => Some(None),
        })
        .await?;
        self.kill();
        Ok(ended)
    }

    /// Whether it does not run: it was ended, or ended by itself.
    pub fn is_over(&self) -> bool {
        self.with(Process::ended).is_none_or(|ended| ended.is_some())
    }

    /// How it ended by itself, if it has.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.with(Process::ended).flatten()
    }

    /// The process's number, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.with(|process| process.id())
    }

    fn take(&self) -> Option<Process> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn with<T>(&self, act: impl FnOnce(&mut Process) -> T) -> Option<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(act)
    }
}
