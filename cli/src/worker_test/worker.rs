//! The worker that is tried, where the command starts it itself.

use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use buzzer_prove::ground::process::Process;
use buzzer_prove::wait::TooLate;
use url::Url;

/// So long its runs go on after SIGTERM, unless its own environment says otherwise.
const DRAIN: &str = "3s";

/// A worker as a process. Dropped, it is killed. What it prints goes to standard error.
#[derive(Debug)]
pub struct Worker {
    command: Command,
    process: Option<Process>,
}

impl Worker {
    /// The program.
    pub fn name(&self) -> String {
        self.command.get_program().to_string_lossy().into_owned()
    }

    /// One that is not started yet: a program with its arguments. It is told of the broker as every worker is.
    pub fn new(program: &str, arguments: &[String], broker: &Url, prefix: &str) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).env("BUZZER_BROKER", broker.as_str()).env("BUZZER_PREFIX", prefix);
        // One of ours would complain of both.
        command.env_remove("BUZZER_BROKER_FILE");
        if std::env::var_os("BUZZER_DRAIN").is_none() {
            command.env("BUZZER_DRAIN", DRAIN);
        }
        Self { command, process: None }
    }

    /// Starts it, anew where it was killed or has ended.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn start(&mut self) -> std::io::Result<()> {
        self.command.stdout(Stdio::from(std::io::stderr())).stderr(Stdio::inherit());
        self.process = Some(Process::start(&mut self.command)?);
        Ok(())
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// How it ended, if it has by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Process::ended)
    }

    /// Asks it to stop, as a service manager would.
    pub fn ask_to_stop(&mut self) {
        if let Some(process) = &mut self.process {
            process.ask_to_stop();
        }
    }

    /// Waits until it has ended. `None` when it does not run.
    ///
    /// # Errors
    /// When it still runs after `limit`.
    pub async fn end(&mut self, limit: Duration) -> Result<Option<ExitStatus>, TooLate> {
        match &mut self.process {
            Some(process) => process.end(limit).await.map(Some),
            None => Ok(None),
        }
    }
}
