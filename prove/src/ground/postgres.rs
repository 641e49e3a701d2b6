//! A PostgreSQL of our own: a random port, a password, and a directory of its own.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

use super::error::GroundError;
use super::guardian::Guardian;
use super::ports;
use super::process::Life;
use crate::wait::eventually;

const USER: &str = "buzzer";
const BOOT_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(60);

/// How a server differs from the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Where it says what it does; a file of its own, gone with it, when absent.
    pub log: Option<PathBuf>,
    /// A folder for its data; one of its own, gone with it, when absent.
    pub data: Option<PathBuf>,
}

/// A running PostgreSQL. Dropped, it is killed and its directory removed.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    password: String,
    port: u16,
    server: Life,
    settings: Settings,
    directory: TempDir,
    _janitor: Guardian,
}

impl Postgres {
    /// Starts one. Answers once it lets us in.
    ///
    /// # Errors
    /// When PostgreSQL is not there or does not start.
    pub async fn start(settings: Settings) -> Result<Self, GroundError> {
        let programs = programs().ok_or_else(|| {
            GroundError::Missing(
                "there is no initdb under /usr/lib/postgresql or on the path: install postgresql".into(),
            )
        })?;
        let directory = tempfile::Builder::new().prefix("buzzer-postgres-").tempdir();
        let directory = directory.map_err(GroundError::io("a temporary directory"))?;
        let janitor = Guardian::of_directory(directory.path()).map_err(GroundError::io("sh"))?;
        let [port] = ports::free().map_err(GroundError::io("a free port"))?;
        let server = Self {
            programs,
            password: format!("{:016x}", fastrand::u64(..)),
            port,
            server: Life::default(),
            settings,
            directory,
            _janitor: janitor,
        };
        server.make_cluster()?;
        server.start_again().await?;
        Ok(server)
    }

    /// The address of one of its databases, with name and password.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}:{}@127.0.0.1:{}/{database}?sslmode=disable", self.password, self.port)
    }

    /// The address of a new database with nothing in it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn database(&self) -> Result<String, GroundError> {
        let name = format!("b{:016x}", fastrand::u64(..));
        let made = self.client("postgres").await?.batch_execute(&format!("CREATE DATABASE {name}")).await;
        made.map_err(|error| GroundError::said("a new database", &error))?;
        Ok(self.url(&name))
    }

    /// A plain connection, for what the product's own would not do.
    ///
    /// # Errors
    /// When it lets nobody in.
    pub async fn client(&self, database: &str) -> Result<Client, GroundError> {
        self.connect(database).await.map_err(|error| GroundError::said("a connection to PostgreSQL", &error))
    }

    /// Its version, like `15.14`.
    ///
    /// # Errors
    /// When it does not tell.
    pub async fn version(&self) -> Result<String, GroundError> {
        let row = self.client("postgres").await?.query_one("SHOW server_version", &[]).await;
        let version: String = row.map_err(|error| GroundError::said("PostgreSQL's version", &error))?.get(0);
        Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
    }

    /// Kills it at once, as a crash would. What it has started notices, and ends by itself.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// Stops it in good order, whoever is connected: what is under way is rolled back.
    ///
    /// # Errors
    /// When it still runs after a minute.
    pub async fn stop(&self) -> Result<(), GroundError> {
        // PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        self.server.stop(Signal::INT, STOP_LIMIT).await?;
        Ok(())
    }

    /// Starts it after [`kill`](Self::kill) or [`stop`](Self::stop), on the same port, with what it kept.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn start_again(&self) -> Result<(), GroundError> {
        let started = eventually("PostgreSQL to boot", BOOT_LIMIT, async || {
            // One that was killed leaves children, which hold its memory for a moment: then this one ends again.
            if self.server.is_over()
                && let Err(error) = self.server.begin(&mut self.server_command())
            {
                return Some(Err(GroundError::io("postgres")(error)));
            }
            self.connect("postgres").await.ok().map(|_| Ok(()))
        });
        started.await?
    }

    /// Whether it does not run.
    pub fn is_down(&self) -> bool {
        self.server.is_over()
    }

    /// Freezes it: its sockets stay open and nothing new is accepted.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// Ends what [`pause`](Self::pause) began.
    pub fn resume(&self) {
        self.server.resume();
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    async fn connect(&self, database: &str) -> Result<Client, tokio_postgres::Error> {
        let (client, connection) = tokio_postgres::connect(&self.url(database), NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn make_cluster(&self) -> Result<(), GroundError> {
        let password = self.directory.path().join("password");
        std::fs::write(&password, &self.password).map_err(GroundError::file(&password))?;
        if let Some((user, group)) = unprivileged() {
            for path in [self.directory.path(), &password].into_iter().chain(self.settings.data.as_deref()) {
                std::os::unix::fs::chown(path, Some(user), Some(group)).map_err(GroundError::file(path))?;
            }
        }
        let mut initdb = self.command("initdb");
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=scram-sha-256", "--username", USER]);
        initdb.arg("--pgdata").arg(self.data()).arg(format!("--pwfile={}", password.display()));
        let output = initdb.stdin(Stdio::null()).output().map_err(GroundError::io("initdb"))?;
        if !output.status.success() {
            return Err(GroundError::said("initdb", &String::from_utf8_lossy(&output.stderr)));
        }
        Ok(())
    }

    fn server_command(&self) -> Command {
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).args(["-p", &self.port.to_string(), "-h", "127.0.0.1"]);
        command.arg("-k").arg(self.directory.path());
        if let Ok(log) = std::fs::File::options().create(true).append(true).open(self.log_file()) {
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
        // It makes the folder itself, with the rights that it wants.
        self.settings.data.as_deref().unwrap_or(self.directory.path()).join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.settings.log.clone().unwrap_or_else(|| self.directory.path().join("log"))
    }
}

/// Where the newest PostgreSQL's own programs are: Debian's place, or else the path.
fn programs() -> Option<PathBuf> {
    debian().or_else(|| {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
    })
}

fn debian() -> Option<PathBuf> {
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
