//! A PostgreSQL of our own: a random port, a password, and a directory of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use crate::guardian::Guardian;
use crate::process::Process;
use crate::wait::eventually;

const USER: &str = "buzzer";
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// A running PostgreSQL. Dropped, it is killed and its directory removed.
#[derive(Debug)]
pub struct PostgresServer {
    programs: PathBuf,
    password: String,
    port: u16,
    server: Mutex<Option<Process>>,
    directory: TempDir,
    _janitor: Guardian,
}

impl PostgresServer {
    /// A server of one's own, to damage.
    pub async fn start() -> Self {
        Self::boot().await.expect("a private PostgreSQL")
    }

    /// The server that all tests of this process share: for those that leave it whole.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
        SHARED.get_or_init(Self::start).await
    }

    async fn boot() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("buzzer-postgres-").tempdir()?;
        let janitor = Guardian::of_directory(directory.path())?;
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self {
            programs: programs().context("no initdb under /usr/lib/postgresql: install postgresql")?,
            password: format!("{:016x}", fastrand::u64(..)),
            port,
            server: Mutex::new(None),
            directory,
            _janitor: janitor,
        };
        server.make_cluster()?;
        server.start_again().await;
        Ok(server)
    }

    /// The address of one of its databases, with name and password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    /// The address of a new database with nothing in it.
    pub async fn database(&self) -> String {
        let name = format!("b{:016x}", fastrand::u64(..));
        self.client("postgres").await.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a new database");
        self.url(&name)
    }

    /// A plain connection, for what the product's own would not do.
    pub async fn client(&self, database: &str) -> Client {
        self.connect(database).await.expect("a connection to PostgreSQL")
    }

    /// Kills it at once, as a crash would. What it has started notices, and ends by itself.
    pub fn kill(&self) {
        drop(self.take_server());
    }

    /// Stops it in good order, whoever is connected: what is under way is rolled back.
    pub async fn stop(&self) {
        let Some(mut server) = self.take_server() else { return };
        let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw).expect("the number of a process");
        // PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        kill_process(pid, Signal::INT).expect("to signal a child");
        eventually("PostgreSQL to stop", STOP_LIMIT, async || server.ended()).await;
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port, with what it kept.
    pub async fn start_again(&self) {
        eventually("PostgreSQL to boot", BOOT_LIMIT, async || {
            if self.has_ended() {
                // One that was killed leaves children, which hold its memory for a moment: then this one ends again.
                let process = Process::start(&mut self.server_command()).expect("Debian's postgres");
                *self.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
            }
            self.connect("postgres").await.ok()
        })
        .await;
    }

    /// Freezes it: its sockets stay open and nothing new is accepted.
    pub fn pause(&self) {
        self.with_server(Process::pause);
    }

    pub fn resume(&self) {
        self.with_server(Process::resume);
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn has_ended(&self) -> bool {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        server.as_mut().is_none_or(|server| server.ended().is_some())
    }

    fn take_server(&self) -> Option<Process> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn with_server<T>(&self, act: impl FnOnce(&mut Process) -> T) -> T {
        let mut server = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        act(server.as_mut().expect("a server that was started"))
    }

    fn make_cluster(&self) -> Result<()> {
        let password = self.directory.path().join("password");
        std::fs::write(&password, &self.password)?;
        if let Some((user, group)) = unprivileged() {
            for path in [self.directory.path(), &password] {
                std::os::unix::fs::chown(path, Some(user), Some(group))?;
            }
        }
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username", USER]);
        initdb.arg("--pgdata").arg(self.data()).arg(format!("--pwfile={}", password.display()));
        let output = initdb.stdin(Stdio::null()).output()?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn server_command(&self) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        command.arg("-k").arg(self.directory.path());
        let log = std::fs::File::options().create(true).append(true).open(self.directory.path().join("log"));
        if let Ok(log) = log {
            command.stderr(log.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)).stdout(log);
        }
        command
    }

    /// A program of PostgreSQL, which refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command.current_dir(self.directory.path()).env_clear().env("LANG", "C.UTF-8");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        if let Some((user, group)) = unprivileged() {
            command.gid(group).uid(user);
        }
        command
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }
}

/// Where Debian has the newest PostgreSQL's own programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = versions.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).max()?;
    let programs = Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin");
    programs.join("initdb").exists().then_some(programs)
}

/// Whom to run it as, when we are root: Debian's own user for it.
fn unprivileged() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().find(|line| line.starts_with("postgres:"))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
