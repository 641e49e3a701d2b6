//! A RabbitMQ of our own: a random name, random ports, a directory of its own, and its own `epmd`.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lapin::options::{QueueDeleteOptions, QueuePurgeOptions};
use lapin::{Connection, ConnectionProperties};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::{MutexGuard, OnceCell};

use crate::guardian::Guardian;
use crate::wait::{eventually, within};

/// Where Debian has RabbitMQ's own scripts. Its wrappers elsewhere insist on the user `rabbitmq`.
const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const USER: &str = "buzzer";
/// Six seconds on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const OPERATION_LIMIT: Duration = Duration::from_secs(60);

/// How a node differs from the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Bytes; RabbitMQ's own default when absent.
    pub max_message_size: Option<usize>,
    /// How long a delivery may stay unacknowledged.
    pub consumer_timeout: Option<Duration>,
}

/// A running RabbitMQ. Dropped, it is killed and its directory removed.
#[derive(Debug)]
pub struct RabbitNode {
    name: String,
    password: String,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    server: Mutex<Option<Process>>,
    _epmd: Process,
    directory: TempDir,
    _janitor: Guardian,
}

impl RabbitNode {
    /// A node of one's own, to damage.
    pub async fn start() -> Self {
        Self::start_with(&Settings::default()).await
    }

    /// A node of one's own that differs from the ordinary.
    pub async fn start_with(settings: &Settings) -> Self {
        Self::boot(settings).await.expect("a private RabbitMQ")
    }

    /// The node that all tests of this process share: for those that leave it whole and keep to names of their own.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<RabbitNode> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    /// A node that tests damage one after the other. It takes messages of at most 1 MiB.
    pub async fn to_damage() -> MutexGuard<'static, Self> {
        static DAMAGED: OnceCell<tokio::sync::Mutex<RabbitNode>> = OnceCell::const_new();
        let settings = Settings { max_message_size: Some(1 << 20), ..Settings::default() };
        let node = DAMAGED.get_or_init(async || tokio::sync::Mutex::new(Self::start_with(&settings).await)).await;
        let node = node.lock().await;
        node.heal().await;
        node
    }

    /// Undoes what a test that failed may have left behind.
    async fn heal(&self) {
        let down = self.server.lock().unwrap_or_else(PoisonError::into_inner).as_mut().is_none_or(Process::has_ended);
        if down {
            self.start_again().await;
        } else {
            self.resume();
        }
    }

    async fn boot(settings: &Settings) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("buzzer-rabbitmq-").tempdir()?;
        let janitor = Guardian::of_directory(directory.path())?;
        let [port, dist_port, epmd_port] = free_ports()?;
        let unique = fastrand::u64(..);
        // RabbitMQ would start an epmd by itself, one for the whole machine, and never stop it.
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let epmd = Process::start(&mut epmd).context("epmd, of Debian's erlang-base")?;
        let node = Self {
            name: format!("buzzer-{unique:016x}@localhost"),
            password: format!("{:016x}", fastrand::u64(..)),
            port,
            dist_port,
            epmd_port,
            server: Mutex::new(None),
            _epmd: epmd,
            directory,
            _janitor: janitor,
        };
        node.write_configuration(settings)?;
        node.start_again().await;
        Ok(node)
    }

    /// Where it listens, with name and password.
    pub fn url(&self) -> url::Url {
        let url = format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", self.password, self.port);
        url.parse().expect("a URL made of a name, hexadecimal digits and a number")
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&self) {
        drop(self.take_server());
    }

    /// Stops it in good order.
    pub async fn stop(&self) {
        let Some(mut server) = self.take_server() else { return };
        server.signal(Signal::TERM);
        eventually("RabbitMQ to stop", STOP_LIMIT, async || server.has_ended().then_some(())).await;
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same ports, with what it kept.
    pub async fn start_again(&self) {
        let process = Process::start(&mut self.server_command()).expect("RabbitMQ's own start script");
        *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
        eventually("RabbitMQ to boot", BOOT_LIMIT, async || {
            let ended = self.with_server(Process::has_ended);
            assert!(!ended, "RabbitMQ ended while it booted:\n{}", self.log());
            // Only ours knows the password.
            let url = self.url();
            let connecting = Connection::connect(url.as_str(), ConnectionProperties::default());
            let connection = tokio::time::timeout(Duration::from_secs(5), connecting).await.ok()?.ok()?;
            connection.close(200, "OK".into()).await.ok()
        })
        .await;
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&self) {
        self.with_server(|server| server.signal(Signal::STOP));
    }

    pub fn resume(&self) {
        self.with_server(|server| server.signal(Signal::CONT));
    }

    pub async fn purge(&self, queue: &str) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await.expect("a queue to purge");
        connection.close(200, "OK".into()).await.expect("to close");
    }

    pub async fn delete_queue(&self, queue: &str) {
        let connection = self.connect().await;
        let channel = connection.create_channel().await.expect("a channel");
        channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.expect("a queue to delete");
        connection.close(200, "OK".into()).await.expect("to close");
    }

    /// Closes every connection, as an operator would.
    pub async fn close_all_connections(&self) {
        self.ctl(&["close_all_connections", "by hand"]).await;
    }

    /// The share of the machine's memory from which on the node takes no messages. Almost nothing raises the alarm,
    /// 0.4 is the default and ends it.
    pub async fn set_memory_watermark(&self, share: f64) {
        self.ctl(&["set_vm_memory_high_watermark", &share.to_string()]).await;
    }

    /// Runs `rabbitmqctl` on this node; what it printed.
    pub async fn ctl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
        command.args(["-q", "-n", &self.name]).args(arguments).kill_on_drop(true).stdin(Stdio::null());
        let output = within("rabbitmqctl", OPERATION_LIMIT, command.output()).await.expect("rabbitmqctl");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "rabbitmqctl {arguments:?}: {text}");
        text
    }

    /// A plain lapin connection, for what the product's own line would not do.
    pub async fn connect(&self) -> Connection {
        let url = self.url();
        let connecting = Connection::connect(url.as_str(), ConnectionProperties::default());
        within("a connection to RabbitMQ", OPERATION_LIMIT, connecting).await.expect("a connection to RabbitMQ")
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let log = |name: &str| std::fs::read_to_string(self.path(name)).unwrap_or_default();
        let text = log("server.log");
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn take_server(&self) -> Option<Process> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn with_server<T>(&self, act: impl FnOnce(&mut Process) -> T) -> T {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        act(server.as_mut().expect("a node that was started"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_configuration(&self, settings: &Settings) -> Result<()> {
        let mut conf = format!(
            "default_user = {USER}\ndefault_pass = {}\nlisteners.tcp.1 = 127.0.0.1:{}\nlog.console = true\n\
             log.console.level = warning\nlog.file = false\nraft.wal_max_size_bytes = 33554432\n",
            self.password, self.port
        );
        if let Some(bytes) = settings.max_message_size {
            conf.push_str(&format!("max_message_size = {bytes}\n"));
        }
        if let Some(timeout) = settings.consumer_timeout {
            conf.push_str(&format!("consumer_timeout = {}\n", timeout.as_millis()));
        }
        std::fs::write(self.path("rabbitmq.conf"), conf)?;
        // Looked at every minute otherwise.
        std::fs::write(self.path("advanced.config"), "[{rabbit, [{channel_tick_interval, 5000}]}].\n")?;
        std::fs::write(self.path("enabled_plugins"), "[].\n")?;
        Ok(())
    }

    fn server_command(&self) -> Command {
        let mut command = self.command("rabbitmq-server");
        let log = std::fs::File::options().create(true).append(true).open(self.path("server.log"));
        if let Ok(log) = log {
            command.stderr(log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)).stdout(log);
        }
        command
    }

    /// A RabbitMQ script with everything in its environment that would otherwise lead it to another node.
    fn command(&self, script: &str) -> Command {
        let mut command = Command::new(Path::new(SCRIPTS).join(script));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LANG", "C.UTF-8");
        command.env("HOME", self.directory.path());
        command.env("ERL_EPMD_PORT", self.epmd_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", &self.name).env("RABBITMQ_DIST_PORT", self.dist_port.to_string());
        let paths = [
            ("RABBITMQ_MNESIA_BASE", "mnesia"),
            ("RABBITMQ_LOG_BASE", "log"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_CONF_ENV_FILE", "none"),
            ("RABBITMQ_PID_FILE", "pid"),
        ];
        command.envs(paths.map(|(variable, name)| (variable, self.path(name))));
        // The script becomes the server, and is not its parent: so the process we know is the one to signal.
        command.env("detached", "1");
        // No spinning while idle: the machine is the tests' too.
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none");
        command
    }
}

/// A process that goes with us, one way or another.
#[derive(Debug)]
struct Process {
    child: Child,
    _guardian: Guardian,
}

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn()?;
        let guardian = Guardian::of_process(child.id())?;
        Ok(Self { child, _guardian: guardian })
    }

    fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            kill_process(Pid::from_child(&self.child), signal).expect("to signal a child");
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ports that nobody has now.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut listeners = Vec::new();
    for _ in 0..N {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?);
    }
    let ports: Result<Vec<_>, _> = listeners.iter().map(|listener| listener.local_addr().map(|a| a.port())).collect();
    match ports?.try_into() {
        Ok(ports) => Ok(ports),
        Err(_) => bail!("no free ports"),
    }
}
