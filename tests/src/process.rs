//! A process that goes with us, one way or another.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::guardian::Guardian;
use crate::wait::eventually;

/// A child process. Dropped, it is killed; a guardian sees to that when we cannot.
#[derive(Debug)]
pub struct Process {
    child: Child,
    _guardian: Guardian,
}

impl Process {
    pub fn start(command: &mut Command) -> std::io::Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let guardian = Guardian::of_process(child.id())?;
        Ok(Self { child, _guardian: guardian })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as a service manager would, and waits until it has.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        eventually("a process to stop on SIGTERM", limit, async || self.ended()).await
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child of ours")
    }

    fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            kill_process(Pid::from_child(&self.child), signal).expect("to signal a child");
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
