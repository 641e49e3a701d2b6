//! A RabbitMQ of our own: a random name, random ports, a directory of its own, and its own `epmd`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use buzzer_shared::kind::Kind;
use buzzer_shared::topology::{Declaration, Queue, Topology};
use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Connection, ConnectionProperties};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio::time::timeout;
use url::Url;

use super::error::GroundError;
use super::guardian::Guardian;
use super::ports;
use super::process::{Life, Process};
use crate::wait::{eventually, within};

/// Where Debian has RabbitMQ's own scripts. Its wrappers elsewhere insist on the user `rabbitmq`.
pub const SCRIPTS: &str = "/usr/lib/rabbitmq/bin";
const USER: &str = "buzzer";
/// Six seconds on an idle machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(60);
const OPERATION_LIMIT: Duration = Duration::from_secs(60);
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How a node differs from the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The folder with RabbitMQ's own scripts; Debian's when absent.
    pub scripts: Option<PathBuf>,
    /// Where it says what it does; a file of its own, gone with it, when absent.
    pub log: Option<PathBuf>,
    /// Where it keeps its data; a directory of its own, gone with it, when absent.
    pub data: Option<PathBuf>,
    /// Bytes; RabbitMQ's own default when absent.
    pub max_message_size: Option<usize>,
    /// How long a delivery may stay unacknowledged.
    pub consumer_timeout: Option<Duration>,
}

/// A running RabbitMQ. Dropped, it is killed and its directory removed.
#[derive(Debug)]
pub struct RabbitMq {
    settings: Settings,
    name: String,
    password: String,
    port: u16,
    dist_port: u16,
    epmd_port: u16,
    server: Life,
    _epmd: Process,
    directory: TempDir,
    _janitor: Guardian,
}

impl RabbitMq {
    /// Starts one. Answers once it lets us in.
    ///
    /// # Errors
    /// When RabbitMQ is not there or does not boot.
    pub async fn start(settings: Settings) -> Result<Self, GroundError> {
        let scripts = settings.scripts.as_deref().unwrap_or(Path::new(SCRIPTS));
        if !scripts.join("rabbitmq-server").exists() {
            return Err(GroundError::Missing(format!(
                "there is no rabbitmq-server in {}: install rabbitmq-server, or name the folder with RabbitMQ's \
                 scripts, or the address of a RabbitMQ that runs, with --rabbitmq",
                scripts.display()
            )));
        }
        let directory = tempfile::Builder::new().prefix("buzzer-rabbitmq-").tempdir();
        let directory = directory.map_err(GroundError::io("a temporary directory"))?;
        let janitor = Guardian::of_directory(directory.path()).map_err(GroundError::io("sh"))?;
        let [port, dist_port, epmd_port] = ports::free().map_err(GroundError::io("a free port"))?;
        // RabbitMQ would start an epmd by itself, one for the whole machine, and never stop it.
        let mut epmd = Command::new("epmd");
        epmd.args(["-port", &epmd_port.to_string(), "-address", "127.0.0.1"]);
        let epmd = Process::start(&mut epmd).map_err(GroundError::io("epmd, of Debian's erlang-base"))?;
        let node = Self {
            settings,
            name: format!("buzzer-{:016x}@localhost", fastrand::u64(..)),
            password: format!("{:016x}", fastrand::u64(..)),
            port,
            dist_port,
            epmd_port,
            server: Life::default(),
            _epmd: epmd,
            directory,
            _janitor: janitor,
        };
        node.write_configuration().map_err(GroundError::file(node.directory.path()))?;
        node.start_again().await?;
        Ok(node)
    }

    /// Where it listens, with name and password.
    pub fn url(&self) -> Url {
        let url = format!("amqp://{USER}:{}@127.0.0.1:{}/%2f", self.password, self.port);
        url.parse().expect("a URL made of a name, hexadecimal digits and a number")
    }

    /// A user with these permissions on `/`: what it may configure, write and read. Its address.
    ///
    /// # Errors
    /// When RabbitMQ says no.
    pub async fn user(&self, name: &str, [configure, write, read]: [&str; 3]) -> Result<Url, GroundError> {
        self.ctl(&["add_user", name, &self.password]).await?;
        self.ctl(&["set_permissions", "-p", "/", name, configure, write, read]).await?;
        let mut url = self.url();
        url.set_username(name).expect("a URL with a host");
        Ok(url)
    }

    /// Kills it at once, as a crash would.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops it in good order.
    ///
    /// # Errors
    /// When it still runs after a minute.
    pub async fn stop(&self) -> Result<(), GroundError> {
        self.server.stop(Signal::TERM, STOP_LIMIT).await?;
        Ok(())
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same ports, with what it kept. Answers once
    /// it lets us in.
    ///
    /// # Errors
    /// When it does not boot.
    pub async fn start_again(&self) -> Result<(), GroundError> {
        self.server.begin(&mut self.server_command()).map_err(GroundError::io("rabbitmq-server"))?;
        let booted = eventually("RabbitMQ to boot", BOOT_LIMIT, async || {
            if self.server.ended().is_some() {
                return Some(false);
            }
            // Only ours knows the password.
            let connection = timeout(CONNECT_LIMIT, open(&self.url())).await.ok()?.ok()?;
            connection.close(200, "OK".into()).await.ok().map(|()| true)
        });
        if booted.await? { Ok(()) } else { Err(GroundError::said("RabbitMQ ended while it booted", &self.log())) }
    }

    /// Whether it does not run.
    pub fn is_down(&self) -> bool {
        self.server.is_over()
    }

    /// Freezes it: its sockets stay open and nothing answers.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Ends what [`pause`](Self::pause) began.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// Its version, like `3.10.8`.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn version(&self) -> Result<String, GroundError> {
        Ok(self.ctl(&["version"]).await?.trim().to_owned())
    }

    /// Runs `rabbitmqctl` on this node; what it printed.
    ///
    /// # Errors
    /// When it says no, or nothing for a minute.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String, GroundError> {
        let mut command = tokio::process::Command::from(self.command("rabbitmqctl"));
        command.args(["-q", "-n", &self.name]).args(arguments).kill_on_drop(true).stdin(Stdio::null());
        let output = within("rabbitmqctl", OPERATION_LIMIT, command.output()).await?;
        let output = output.map_err(GroundError::io("rabbitmqctl"))?;
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            return Err(GroundError::said(format!("rabbitmqctl {}", arguments[0]), &text));
        }
        Ok(text)
    }

    /// The queues that it does not bring back, though it runs.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn dead_queues(&self) -> Result<Vec<String>, GroundError> {
        let listed = self.ctl(&["list_queues", "name", "state"]).await?;
        let dead = listed.lines().filter_map(|line| line.strip_suffix("\tdown"));
        Ok(dead.map(str::to_owned).collect())
    }

    /// A plain lapin connection, for what the product's own line would not do.
    ///
    /// # Errors
    /// When it lets nobody in.
    pub async fn connect(&self) -> Result<Connection, GroundError> {
        connect(&self.url()).await
    }

    /// The end of what it logged.
    pub fn log(&self) -> String {
        let text = std::fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    fn log_file(&self) -> PathBuf {
        self.settings.log.clone().unwrap_or_else(|| self.path("server.log"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write_configuration(&self) -> std::io::Result<()> {
        let mut conf = format!(
            "default_user = {USER}\ndefault_pass = {}\nlisteners.tcp.1 = 127.0.0.1:{}\nlog.console = true\n\
             log.console.level = warning\nlog.file = false\nraft.wal_max_size_bytes = 33554432\n",
            self.password, self.port
        );
        if let Some(bytes) = self.settings.max_message_size {
            conf.push_str(&format!("max_message_size = {bytes}\n"));
        }
        if let Some(timeout) = self.settings.consumer_timeout {
            conf.push_str(&format!("consumer_timeout = {}\n", timeout.as_millis()));
        }
        std::fs::write(self.path("rabbitmq.conf"), conf)?;
        // Looked at every minute otherwise.
        std::fs::write(self.path("advanced.config"), "[{rabbit, [{channel_tick_interval, 5000}]}].\n")?;
        std::fs::write(self.path("enabled_plugins"), "[].\n")
    }

    fn server_command(&self) -> Command {
        let mut command = self.command("rabbitmq-server");
        let log = std::fs::File::options().create(true).append(true).open(self.log_file());
        if let Ok(log) = log {
            command.stderr(log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)).stdout(log);
        }
        command
    }

    /// A RabbitMQ script with everything in its environment that would otherwise lead it to another node.
    fn command(&self, script: &str) -> Command {
        let scripts = self.settings.scripts.as_deref().unwrap_or(Path::new(SCRIPTS));
        let mut command = Command::new(scripts.join(script));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LANG", "C.UTF-8");
        command.env("HOME", self.directory.path());
        command.env("ERL_EPMD_PORT", self.epmd_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
        command.env("RABBITMQ_NODENAME", &self.name).env("RABBITMQ_DIST_PORT", self.dist_port.to_string());
        let paths = [
            ("RABBITMQ_LOG_BASE", "log"),
            ("ERL_CRASH_DUMP", "erl_crash.dump"),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
            ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
            ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
            ("RABBITMQ_CONF_ENV_FILE", "none"),
            ("RABBITMQ_PID_FILE", "pid"),
        ];
        command.envs(paths.map(|(variable, name)| (variable, self.path(name))));
        command.env("RABBITMQ_MNESIA_BASE", self.settings.data.clone().unwrap_or_else(|| self.path("mnesia")));
        // The script becomes the server, and is not its parent: so the process we know is the one to signal.
        command.env("detached", "1");
        // No spinning while idle: the machine is not its alone.
        command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none");
        command
    }
}

/// Deletes the exchanges and queues that a Buzzer with these kinds has on any RabbitMQ.
///
/// # Errors
/// When it lets nobody in, refuses, or says nothing for a minute.
pub async fn forget(url: &Url, topology: &Topology, kinds: &[Kind]) -> Result<(), GroundError> {
    let connection = connect(url).await?;
    let declared = topology.fixed().into_iter().chain(kinds.iter().flat_map(|kind| topology.requests(kind)));
    let deleting = async {
        let channel = connection.create_channel().await?;
        for declaration in declared {
            match declaration {
                Declaration::Exchange { name, .. } => {
                    channel.exchange_delete((&*name).into(), ExchangeDeleteOptions::default()).await?;
                }
                Declaration::Queue(Queue { name, .. }) => {
                    channel.queue_delete((&*name).into(), QueueDeleteOptions::default()).await?;
                }
                // It goes with its queue.
                Declaration::Binding { .. } => {}
            }
        }
        connection.close(200, "OK".into()).await
    };
    let deleted: lapin::Result<()> = within("queues to be deleted", OPERATION_LIMIT, deleting).await?;
    deleted.map_err(|error| GroundError::said("queues to be deleted", &error))
}

/// A plain lapin connection to any RabbitMQ.
///
/// # Errors
/// When it lets nobody in.
pub async fn connect(url: &Url) -> Result<Connection, GroundError> {
    let connection = within("a connection to RabbitMQ", OPERATION_LIMIT, open(url)).await?;
    connection.map_err(|error| GroundError::said("a connection to RabbitMQ", &error))
}

async fn open(url: &Url) -> lapin::Result<Connection> {
    Connection::connect(url.as_str(), ConnectionProperties::default()).await
}
