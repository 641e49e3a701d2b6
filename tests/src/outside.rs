//! A Buzzer of real processes: `buzzer-api` and `buzzer-worker` on a real RabbitMQ.
//!
//! The programs are taken from where the test itself was built; `cargo build --workspace` makes them, a test
//! run alone does not.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use buzzer_prove::ground::guardian::Guardian;
use buzzer_prove::ground::process::Process;
use tempfile::TempDir;
use tokio::sync::watch;

use crate::client::Client;
use crate::rabbitmq::RabbitNode;
use crate::wait::{eventually, within};

/// For a process to be there, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);
/// How soon a worker that has died is started again.
const LOOK: Duration = Duration::from_millis(200);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(45);
/// For all rows of `buzzer worker-test`, of which some look for seconds that nothing happens.
const TRIES_LIMIT: Duration = Duration::from_secs(300);

/// A program of ours, and how it is called.
#[derive(Debug)]
struct Program {
    name: &'static str,
    arguments: &'static [&'static str],
}

const API: Program = Program { name: "buzzer-api", arguments: &[] };
const WORKER: Program = Program { name: "buzzer-worker", arguments: &[] };
const EXAMPLE: Program = Program { name: "text-worker", arguments: &[] };
const COMMAND: Program = Program { name: "buzzer", arguments: &[] };
const UP: Program = Program { name: "buzzer", arguments: &["up"] };

/// Where the processes of one Buzzer meet: a RabbitMQ, and a prefix that no other has.
#[derive(Debug, Clone)]
pub struct Outside {
    broker: String,
    pub prefix: String,
}

impl Outside {
    pub fn on(node: &RabbitNode) -> Self {
        Self { broker: node.url().to_string(), prefix: format!("b{:016x}", fastrand::u64(..)) }
    }

    /// The same, whose processes are not told where the broker is.
    pub fn without_broker(&self) -> Self {
        Self { broker: String::new(), ..self.clone() }
    }

    /// An API with a fresh store that listens on a port of its own. Answers once it listens. `settings` are environment
    /// variables, and win over ours.
    pub async fn api(&self, settings: &[(&str, &str)]) -> Api {
        self.serving(&API, settings).await
    }

    async fn serving(&self, program: &'static Program, settings: &[(&str, &str)]) -> Api {
        let mut service = Service::new(program, self, settings);
        let store = format!("sqlite:{}", service.directory.path().join("buzzer.db").display());
        if service.setting("BUZZER_STORE_FILE").is_empty() {
            service.set_unless_given("BUZZER_STORE", &store);
        }
        service.set_unless_given("BUZZER_LISTEN", "127.0.0.1:0");
        service.set_unless_given("BUZZER_AUTH", "off");
        service.start();
        let address = listening(&mut service).await;
        // After a restart its clients find it in the same place.
        service.set("BUZZER_LISTEN", &address.to_string());
        Api { service, address }
    }

    /// `buzzer up`: API, worker and broker in one process. Answers once its kinds can be submitted.
    pub async fn up(settings: &[(&str, &str)]) -> Api {
        let here = Self { broker: "embedded".into(), prefix: "buzzer".into() };
        let api = here.serving(&UP, settings).await;
        api.knows("echo").await;
        api
    }

    /// An API that cannot start with these settings: how it ended, and what it said.
    pub async fn api_that_fails(&self, settings: &[(&str, &str)]) -> (ExitStatus, String) {
        let mut service = self.starting_api(settings);
        let status = eventually("buzzer-api to give up", START_LIMIT, async || service.ended()).await;
        (status, service.log())
    }

    /// The same of a worker.
    pub async fn worker_that_fails(&self, settings: &[(&str, &str)]) -> (ExitStatus, String) {
        let mut service = self.worker(settings);
        let status = eventually("buzzer-worker to give up", START_LIMIT, async || service.ended()).await;
        (status, service.log())
    }

    /// What `buzzer doctor` says with these settings: its exit code, and its lines.
    pub async fn doctor(&self, arguments: &[&str], settings: &[(&str, &str)]) -> (i32, String) {
        let mut command = tokio::process::Command::new(COMMAND.path());
        command.arg("doctor").args(arguments).kill_on_drop(true).env_clear();
        command.env("BUZZER_BROKER", &self.broker).env("BUZZER_PREFIX", &self.prefix).envs(settings.iter().copied());
        let output = within("buzzer doctor", COMMAND_LIMIT, command.output()).await.expect("the command runs");
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `buzzer worker-test` says; for `--json`, that is.
    pub async fn worker_test(&self, arguments: &[&str]) -> Tries {
        let mut command = tokio::process::Command::from(self.worker_test_command(arguments));
        command.kill_on_drop(true);
        let output = within("buzzer worker-test", TRIES_LIMIT, command.output()).await.expect("the command runs");
        let rows: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Tries { status: output.status.code().unwrap_or(-1), rows, complaint }
    }

    /// The same command, running already.
    ///
    /// # Panics
    /// When it was not built.
    pub fn start_worker_test(&self, arguments: &[&str]) -> Process {
        Process::start(&mut self.worker_test_command(arguments)).expect("the command runs")
    }

    fn worker_test_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(COMMAND.path());
        command.arg("worker-test").args(arguments).env_clear();
        command.env("BUZZER_BROKER", &self.broker).env("BUZZER_DEMO", "1");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        // Nothing is written beside the example in Python.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command
    }

    /// Where the worker's own program is.
    pub fn worker_program() -> PathBuf {
        WORKER.path()
    }

    /// An API that may not listen soon, or ever.
    pub fn starting_api(&self, settings: &[(&str, &str)]) -> Service {
        let mut service = Service::new(&API, self, settings);
        service.set_unless_given("BUZZER_LISTEN", "127.0.0.1:0");
        service.start();
        service
    }

    /// A worker with the demo kinds. Answers as soon as the process runs; [`Api::knows`] tells when it has announced
    /// itself.
    pub fn worker(&self, settings: &[(&str, &str)]) -> Service {
        let mut service = Service::new(&WORKER, self, settings);
        service.set_unless_given("BUZZER_DEMO", "1");
        service.start();
        service
    }

    /// The worker of `examples/worker`. Answers as soon as the process runs.
    pub fn example_worker(&self) -> Service {
        let mut service = Service::new(&EXAMPLE, self, &[]);
        service.start();
        service
    }
}

/// What came of `buzzer worker-test`.
#[derive(Debug)]
pub struct Tries {
    pub status: i32,
    rows: serde_json::Value,
    /// What it, and the worker that it started, said beside.
    pub complaint: String,
}

impl Tries {
    /// The rows with this verdict.
    pub fn of(&self, verdict: &str) -> Vec<&str> {
        self.rows().filter(|row| row["verdict"] == verdict).filter_map(|row| row["name"].as_str()).collect()
    }

    /// What is said of a row; nothing where there is none.
    pub fn text(&self, name: &str) -> &str {
        self.rows().find(|row| row["name"] == name).and_then(|row| row["text"].as_str()).unwrap_or_default()
    }

    fn rows(&self) -> impl Iterator<Item = &serde_json::Value> {
        self.rows["checks"].as_array().into_iter().flatten()
    }
}

/// A worker that is started again whenever it has died, as a service manager would do. Dropped, it is killed.
#[derive(Debug)]
pub struct Undying {
    deaths: watch::Receiver<usize>,
    _keeper: AbortOnDrop,
}

#[derive(Debug)]
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Undying {
    /// Keeps this worker alive.
    pub fn keep(mut worker: Service) -> Self {
        let (died, deaths) = watch::channel(0);
        let keeper = tokio::spawn(async move {
            let mut look = tokio::time::interval(LOOK);
            loop {
                look.tick().await;
                if worker.ended().is_some() {
                    worker.kill();
                    worker.start();
                    died.send_modify(|deaths| *deaths += 1);
                }
            }
        });
        Self { deaths, _keeper: AbortOnDrop(keeper) }
    }

    /// How often it has died.
    pub fn deaths(&self) -> usize {
        *self.deaths.borrow()
    }
}

/// A running API.
#[derive(Debug)]
pub struct Api {
    service: Service,
    address: SocketAddr,
}

impl Api {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn client(&self) -> Client {
        Client::new(format!("http://{}", self.address))
    }

    /// The address of its store.
    pub fn store(&self) -> String {
        self.service.setting("BUZZER_STORE")
    }

    /// The process, to damage.
    pub fn process(&mut self) -> &mut Service {
        &mut self.service
    }

    /// Runs the command `buzzer` against it: its exit code, and what it printed.
    pub async fn command(&self, arguments: &[&str]) -> (i32, String) {
        self.start_command(arguments).await
    }

    /// The same with what it complained of.
    pub async fn command_with_complaints(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = self.output(arguments).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    /// The command, running already; the API may be damaged meanwhile.
    pub fn start_command(&self, arguments: &[&str]) -> impl Future<Output = (i32, String)> + use<> {
        let running = self.output(arguments);
        async move {
            let output = running.await;
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stdout).into_owned())
        }
    }

    fn output(&self, arguments: &[&str]) -> impl Future<Output = Output> + use<> {
        let mut command = tokio::process::Command::new(COMMAND.path());
        command.args(COMMAND.arguments).args(arguments).kill_on_drop(true);
        command.env_clear().env("BUZZER_SERVER", format!("http://{}", self.address)).env("BUZZER_STORE", self.store());
        let running = tokio::spawn(async move { command.output().await });
        async move {
            let output = within("the command", COMMAND_LIMIT, running).await.expect("it is waited for");
            output.expect("the command runs")
        }
    }

    /// A new API key, made with `buzzer keys create` and these arguments.
    pub async fn key(&self, arguments: &[&str]) -> String {
        let (status, printed) = self.command(&[&["keys", "create"], arguments].concat()).await;
        assert_eq!((status, printed.lines().count()), (0, 1), "{printed}");
        printed.trim_end().to_owned()
    }

    /// Starts it again after a kill or a stop, on the same store and port. Answers once it listens.
    pub async fn start_again(&mut self) {
        self.service.start();
        listening(&mut self.service).await;
    }

    /// Waits until a worker has announced this kind.
    pub async fn knows(&self, kind: &str) {
        // The document needs no key.
        let (client, path) = (self.client(), format!("/v1/jobs/{kind}"));
        eventually(&format!("{kind} to be announced"), START_LIMIT, async || {
            let document = client.get("/openapi.json").await.ok()?.json();
            document["paths"].get(&path).map(|_| ())
        })
        .await;
    }
}

/// One of our programs, with its settings, a directory and a log of its own.
#[derive(Debug)]
pub struct Service {
    program: &'static Program,
    settings: Vec<(String, String)>,
    process: Option<Process>,
    directory: TempDir,
    /// How much of the log belongs to earlier starts.
    logged_before: usize,
    _janitor: Guardian,
}

impl Service {
    fn new(program: &'static Program, outside: &Outside, settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::Builder::new().prefix(program.name).tempdir().expect("a temporary directory");
        let janitor = Guardian::of_directory(directory.path()).expect("a shell");
        let settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let mut service = Self { program, settings, process: None, directory, logged_before: 0, _janitor: janitor };
        if !outside.broker.is_empty() {
            service.set_unless_given("BUZZER_BROKER", &outside.broker);
        }
        service.set_unless_given("BUZZER_PREFIX", &outside.prefix);
        service
    }

    /// Starts it, or starts it again with the same settings and directory.
    ///
    /// # Panics
    /// When it runs already, or the program was not built.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.program.name);
        self.logged_before = self.whole_log().len();
        let log = std::fs::File::options().create(true).append(true).open(self.log_file()).expect("a log");
        let mut command = Command::new(self.program.path());
        command.args(self.program.arguments);
        command.env_clear().envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.directory.path()).stdout(log.try_clone().expect("a log")).stderr(log);
        self.process =
            Some(Process::start(&mut command).unwrap_or_else(|error| panic!("{}: {error}", self.program.name)));
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to stop, as a service manager would, and waits until it has.
    pub async fn terminate(&mut self) -> ExitStatus {
        let mut process = self.process.take().unwrap_or_else(|| panic!("{} does not run", self.program.name));
        process.terminate(STOP_LIMIT).await.expect("a process to stop on SIGTERM")
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&mut self) {
        self.running().pause();
    }

    pub fn resume(&mut self) {
        self.running().resume();
    }

    /// The process's number.
    pub fn id(&self) -> u32 {
        self.process.as_ref().map_or(0, Process::id)
    }

    /// How it ended, if it has by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.running().ended()
    }

    /// What it said since it was last started.
    pub fn log(&self) -> String {
        let whole = self.whole_log();
        whole.get(self.logged_before..).unwrap_or_default().to_owned()
    }

    fn running(&mut self) -> &mut Process {
        self.process.as_mut().unwrap_or_else(|| panic!("{} does not run", self.program.name))
    }

    fn setting(&self, name: &str) -> String {
        self.settings.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn set(&mut self, name: &str, value: &str) {
        self.settings.retain(|(own, _)| own != name);
        self.settings.push((name.into(), value.into()));
    }

    fn set_unless_given(&mut self, name: &str, value: &str) {
        if !self.settings.iter().any(|(own, _)| own == name) {
            self.set(name, value);
        }
    }

    fn log_file(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn whole_log(&self) -> String {
        std::fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}", self.program.name, self.whole_log());
        }
    }
}

/// Where a service listens, as soon as it says so.
async fn listening(service: &mut Service) -> SocketAddr {
    let what = format!("{} to listen", service.program.name);
    eventually(&what, START_LIMIT, async || {
        let log = service.log();
        if let Some(status) = service.ended() {
            panic!("{} ended with {status}:\n{log}", service.program.name);
        }
        // The last line may not be whole yet.
        let (whole, _) = log.rsplit_once('\n')?;
        let line = whole.lines().find(|line| line.contains("listening"))?;
        let (_, rest) = line.split_once("address=")?;
        rest.split_whitespace().next()?.parse().ok()
    })
    .await
}

impl Program {
    /// Where this test was built too.
    fn path(&self) -> PathBuf {
        let path = crate::programs().join(self.name);
        assert!(path.exists(), "{} is not built: run `cargo build --workspace` first", self.name);
        path
    }
}
