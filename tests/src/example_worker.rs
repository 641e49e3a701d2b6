//! The workers of `examples/`, in other languages than Rust, as they stand there.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use buzzer_prove::ground::guardian::Guardian;
use buzzer_prove::ground::process::Process;
use tempfile::TempDir;
use tokio::sync::OnceCell;
use url::Url;

use crate::wait::{eventually, within};
use crate::{programs, python};

const STOP_LIMIT: Duration = Duration::from_secs(45);
/// To fetch a library.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
}

impl Language {
    /// The kind that its worker runs. Both take `text`, `seconds_per_line` and `fail_times`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Python => "text.count",
            Self::Node => "text.sort",
        }
    }

    /// How its worker is started: a program and its arguments. Its libraries are fetched once.
    ///
    /// # Panics
    /// When they, or the language, are not there.
    pub async fn command_line(self) -> Vec<String> {
        let words: [PathBuf; 2] = match self {
            Self::Python => {
                static PYTHON: OnceCell<PathBuf> = OnceCell::const_new();
                let python = PYTHON.get_or_init(|| python::with(&["aio-pika"])).await;
                [python.clone(), examples().join("worker-python/worker.py")]
            }
            Self::Node => {
                static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
                ["node".into(), FOLDER.get_or_init(node).await.join("worker.mjs")]
            }
        };
        words.map(|word| word.display().to_string()).into()
    }
}

/// A worker of an example, with a log of its own. Dropped, it is killed.
#[derive(Debug)]
pub struct ExampleWorker {
    command: Command,
    process: Option<Process>,
    directory: TempDir,
    _janitor: Guardian,
}

impl ExampleWorker {
    /// Starts one on the broker at `url`. `settings` are environment variables.
    ///
    /// # Panics
    /// When its language or its libraries are not there.
    pub async fn start(language: Language, url: &Url, prefix: &str, settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new().prefix("example-worker-").tempdir().expect("a temporary directory");
        let janitor = Guardian::of_directory(directory.path()).expect("a shell");
        let words = language.command_line().await;
        let mut command = Command::new(&words[0]);
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Nothing is written beside the example.
        command.args(&words[1..]).env_clear().env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PATH", path).env("BUZZER_BROKER", url.as_str()).env("BUZZER_PREFIX", prefix);
        command.envs(settings.iter().copied()).current_dir(directory.path());
        let mut worker = Self { command, process: None, directory, _janitor: janitor };
        worker.start_again();
        worker
    }

    /// Starts it after it was killed or has ended.
    ///
    /// # Panics
    /// When it cannot be.
    pub fn start_again(&mut self) {
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).expect("a log");
        self.command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.process = Some(Process::start(&mut self.command).expect("a program that is there"));
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to stop, as a service manager would.
    ///
    /// # Panics
    /// When it does not run.
    pub fn ask_to_stop(&mut self) {
        self.process.as_mut().expect("a process").ask_to_stop();
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it goes on, or does not run.
    pub async fn ended(&mut self) -> ExitStatus {
        let process = self.process.as_mut().expect("a process");
        let ended = eventually("the worker to stop", STOP_LIMIT, async || process.ended()).await;
        self.process = None;
        ended
    }

    /// What it said.
    pub fn log(&self) -> String {
        std::fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for ExampleWorker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {:?} said:\n{}", self.command.get_program(), self.log());
        }
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace").join("examples")
}

/// A copy of the example in Node, with its library beside it: there it is looked for.
async fn node() -> PathBuf {
    let folder = programs().join("node").join("worker-node");
    std::fs::create_dir_all(&folder).expect("a folder");
    let mut install = tokio::process::Command::new("npm");
    install.args(["install", "--silent", "--no-save", "amqplib"]).current_dir(&folder);
    install.stdin(Stdio::null()).kill_on_drop(true);
    let ran = within("a library", INSTALL_LIMIT, install.output()).await.expect("npm");
    assert!(ran.status.success(), "npm: {}", String::from_utf8_lossy(&ran.stderr));
    for file in std::fs::read_dir(examples().join("worker-node")).expect("the example") {
        let file = file.expect("the example");
        std::fs::copy(file.path(), folder.join(file.file_name())).expect("a copy");
    }
    folder
}
