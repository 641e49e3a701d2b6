//! A system of our own: real processes, on ports and in directories of their own, with proxies between them. [`harm`] is
//! what happens to it, [`messages`] what happens to the queues of its RabbitMQ.

mod harm;
mod messages;
mod service;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use buzzer_shared::topology::Topology;
use url::Url;

use self::service::Service;
use super::disk::SmallDisk;
use super::error::GroundError;
use super::ports;
use super::postgres::{self, Postgres};
use super::rabbitmq::{self, RabbitMq};
use crate::nemesis::fault::Line;
use crate::nemesis::planted::STRANGER;
use crate::proxy::Proxy;
use crate::wait::eventually;

/// For a process to be there, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// More than a campaign stores, as a rule; what is not used takes no memory.
const DISK_MEGABYTES: u32 = 4096;
/// The user that the workers are known by, where RabbitMQ is ours.
const WORKER: &str = "worker";
/// Leases and beats that are short: what was lost goes out again within the patience of a campaign.
const API: [(&str, &str); 4] =
    [("BUZZER_AUTH", "off"), ("BUZZER_CLAIM_LEASE", "4s"), ("BUZZER_RUN_LEASE", "6s"), ("BUZZER_DRAIN", "3s")];
/// The longer one of these.
const LEASE: Duration = Duration::from_secs(6);
const WORKERS: [(&str, &str); 4] =
    [("BUZZER_DEMO", "1"), ("BUZZER_BEAT", "1s"), ("BUZZER_DRAIN", "3s"), ("BUZZER_SLOTS", "32")];

/// Which RabbitMQ.
#[derive(Debug, Clone)]
pub enum BrokerChoice {
    /// One of our own, from RabbitMQ's scripts in this folder; Debian's when absent.
    Own(Option<PathBuf>),
    /// One that runs. Only what is between it and us is disturbed.
    Given(Url),
}

/// Which store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreChoice {
    Sqlite,
    Postgres,
}

/// What a system is made of.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Where `buzzer-api` and `buzzer-worker` are.
    pub programs: PathBuf,
    /// Several need PostgreSQL.
    pub apis: usize,
    pub workers: usize,
    pub broker: BrokerChoice,
    pub store: StoreChoice,
    /// The store and a RabbitMQ of our own stand on small disks in memory, which can be full. Needs root.
    pub small_disks: bool,
    /// APIs and workers have clocks that can be stepped. Needs libfaketime.
    pub clocks: bool,
}

/// The disks that can be full.
#[derive(Debug, Default)]
struct Disks {
    /// SQLite's, or PostgreSQL's.
    store: Option<SmallDisk>,
    /// RabbitMQ's.
    broker: Option<SmallDisk>,
}

impl Disks {
    /// Makes those that a system can have, in its directory.
    fn mount(plan: &Plan, directory: &Path) -> Result<Self, GroundError> {
        let mount = |name: &str| {
            let folder = directory.join(name);
            std::fs::create_dir_all(&folder).map_err(GroundError::file(&folder))?;
            SmallDisk::mount(&folder, DISK_MEGABYTES).map(Some)
        };
        let store = mount("store-disk")?;
        if plan.store == StoreChoice::Postgres {
            // It runs as another user, who must get through.
            let through = std::fs::Permissions::from_mode(0o711);
            std::fs::set_permissions(directory, through).map_err(GroundError::file(directory))?;
        }
        let broker = if matches!(plan.broker, BrokerChoice::Own(_)) { mount("broker-disk")? } else { None };
        Ok(Self { store, broker })
    }
}

/// The RabbitMQ, and how to reach it.
#[derive(Debug)]
enum Broker {
    Own { node: Box<RabbitMq>, worker: Url, stranger: Url },
    Given(Url),
}

impl Broker {
    fn api_url(&self) -> Url {
        match self {
            Self::Own { node, .. } => node.url(),
            Self::Given(url) => url.clone(),
        }
    }

    fn worker_url(&self) -> Url {
        match self {
            Self::Own { worker, .. } => worker.clone(),
            Self::Given(url) => url.clone(),
        }
    }
}

/// A running system of our own. Dropped, all of it ends.
#[derive(Debug)]
pub struct OwnSystem {
    apis: Vec<Service>,
    workers: Vec<Service>,
    /// A worker that only scaling up starts.
    spare: Service,
    broker: Broker,
    postgres: Option<Postgres>,
    topology: Topology,
    /// Where each API listens.
    addresses: Vec<SocketAddr>,
    /// One before each API.
    doors: Vec<Proxy>,
    api_broker: Proxy,
    worker_broker: Proxy,
    api_store: Option<Proxy>,
    skipped: Vec<String>,
    clocks: bool,
    /// Goes last: everything stands on it.
    disks: Disks,
}

impl OwnSystem {
    /// Starts all of it, with the file of SQLite in `directory`. Answers once the APIs listen.
    ///
    /// # Errors
    /// When something is missing or does not start; says what to do.
    pub async fn start(plan: &Plan, directory: &Path, logs: &Path) -> Result<Self, GroundError> {
        let program = |name: &str| find(&plan.programs, name);
        let (api, worker) = (program("buzzer-api")?, program("buzzer-worker")?);
        let (mut disks, mut skipped) = match plan.small_disks.then(|| Disks::mount(plan, directory)) {
            None => (Disks::default(), Vec::new()),
            Some(Ok(disks)) => (disks, Vec::new()),
            Some(Err(error)) => (Disks::default(), vec![format!("disk full: {error}")]),
        };
        let faketime = if plan.clocks { faketime() } else { None };
        if plan.clocks && faketime.is_none() {
            skipped.push("clock steps: libfaketime is not there: install libfaketime".into());
        }
        let data = |disk: &Option<SmallDisk>| disk.as_ref().map(|disk| disk.path().to_owned());
        let (broker, store) = tokio::join!(
            start_broker(&plan.broker, data(&disks.broker), logs),
            start_store(plan.store, data(&disks.store), logs)
        );
        let (broker, (postgres, store)) = (broker?, store?);
        if disks.broker.as_ref().map_or(Ok(false), SmallDisk::is_unused)? {
            disks.broker = None;
            skipped.push("disk full: RabbitMQ: it keeps its data elsewhere".into());
        }
        let prefix = match &broker {
            Broker::Own { .. } => "buzzer".to_owned(),
            Broker::Given(_) => format!("buzzer-prove-{:08x}", fastrand::u32(..)),
        };
        let (api_broker, api_url) = between(&broker.api_url()).await?;
        let (worker_broker, worker_url) = between(&broker.worker_url()).await?;
        let (api_store, store) = match store {
            Some(url) => {
                let (proxy, url) = between(&url).await?;
                (Some(proxy), url.to_string())
            }
            None => {
                let folder = disks.store.as_ref().map_or(directory, SmallDisk::path);
                (None, format!("sqlite:{}", folder.join("buzzer.db").display()))
            }
        };
        let settings = |all: &[(&str, &str)], broker: &Url| -> Vec<(String, String)> {
            let common = [("BUZZER_PREFIX", prefix.as_str()), ("BUZZER_BROKER", broker.as_str())];
            all.iter().chain(&common).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let service = |program: &Path, name: String, settings| {
            Service::new(program.to_owned(), directory.join(&name), logs.join(name + ".log"), settings).and_then(
                |service| match &faketime {
                    Some(library) => service.with_clock(library),
                    None => Ok(service),
                },
            )
        };
        let (mut apis, mut addresses, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for at in 1..=plan.apis {
            let [port] = ports::free().map_err(GroundError::io("a free port"))?;
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            let mut settings = settings(&API, &api_url);
            settings.push(("BUZZER_STORE".into(), store.clone()));
            settings.push(("BUZZER_LISTEN".into(), address.to_string()));
            if let Broker::Own { .. } = &broker {
                settings.push(("BUZZER_WORKER_USER".into(), WORKER.into()));
            }
            apis.push(service(&api, format!("api-{at}"), settings)?);
            addresses.push(address);
            doors.push(Proxy::start(address.to_string()).await.map_err(GroundError::io("a free port"))?);
        }
        let workers =
            (1..=plan.workers).map(|at| service(&worker, format!("worker-{at}"), settings(&WORKERS, &worker_url)));
        let workers = workers.collect::<Result<Vec<_>, _>>()?;
        let spare = service(&worker, "worker-spare".into(), settings(&WORKERS, &worker_url))?;
        let topology = Topology::new(&prefix);
        let system = Self {
            apis,
            workers,
            spare,
            broker,
            postgres,
            topology,
            addresses,
            doors,
            api_broker,
            worker_broker,
            api_store,
            skipped,
            clocks: faketime.is_some(),
            disks,
        };
        for (at, api) in system.apis.iter().enumerate() {
            api.start()?;
            system.api_listens(at).await?;
        }
        for worker in &system.workers {
            worker.start()?;
        }
        Ok(system)
    }

    /// The proxies on a line.
    fn line(&self, line: Line) -> Vec<&Proxy> {
        match line {
            Line::ClientApi => self.doors.iter().collect(),
            Line::ApiBroker => vec![&self.api_broker],
            Line::WorkerBroker => vec![&self.worker_broker],
            Line::ApiStore => self.api_store.iter().collect(),
        }
    }

    /// Waits until an API answers, past every proxy. An error when it does not, or has ended.
    async fn api_listens(&self, at: usize) -> Result<(), GroundError> {
        let (api, address) = (&self.apis[at], self.addresses[at]);
        let listens = eventually("an API to listen", START_LIMIT, async || {
            if let Some(status) = api.ended() {
                return Some(Err(GroundError::said("an API ended as it started", &status)));
            }
            tokio::net::TcpStream::connect(address).await.ok().map(|_| Ok(()))
        });
        listens.await?
    }
}

async fn start_broker(choice: &BrokerChoice, data: Option<PathBuf>, logs: &Path) -> Result<Broker, GroundError> {
    let scripts = match choice {
        BrokerChoice::Given(url) => return Ok(Broker::Given(url.clone())),
        BrokerChoice::Own(scripts) => scripts.clone(),
    };
    let log = Some(logs.join("rabbitmq.log"));
    let node = RabbitMq::start(rabbitmq::Settings { scripts, log, data, ..rabbitmq::Settings::default() }).await?;
    // As docs/operate.md has them.
    let worker =
        [r"^buzzer\.control\..*", r"^buzzer\.(replies|parking|control\..*)$", r"^buzzer\.(requests\..*|control.*)$"];
    let worker = node.user(WORKER, worker).await?;
    let stranger = node.user(STRANGER, ["^$", r"^buzzer\..*", "^$"]).await?;
    Ok(Broker::Own { node: Box::new(node), worker, stranger })
}

/// The server where it is PostgreSQL, and the address of its database.
async fn start_store(
    choice: StoreChoice,
    data: Option<PathBuf>,
    logs: &Path,
) -> Result<(Option<Postgres>, Option<Url>), GroundError> {
    match choice {
        StoreChoice::Sqlite => Ok((None, None)),
        StoreChoice::Postgres => {
            let settings = postgres::Settings { log: Some(logs.join("postgres.log")), data };
            let postgres = Postgres::start(settings).await?;
            let url = postgres.database().await?.parse();
            Ok((Some(postgres), Some(url.map_err(|error| GroundError::said("PostgreSQL's address", &error))?)))
        }
    }
}

/// A proxy before a server, and the server's address by way of it.
async fn between(url: &Url) -> Result<(Proxy, Url), GroundError> {
    let unfit = || GroundError::Missing(format!("{} is no address of a server", url.scheme()));
    let default_port = if url.scheme() == "amqp" { 5672 } else { 5432 };
    let target = format!("{}:{}", url.host_str().ok_or_else(unfit)?, url.port().unwrap_or(default_port));
    let proxy = Proxy::start(target).await.map_err(GroundError::io("a free port"))?;
    let mut through = url.clone();
    through.set_host(Some("127.0.0.1")).map_err(|_| unfit())?;
    through.set_port(Some(proxy.address().port())).map_err(|()| unfit())?;
    Ok((proxy, through))
}

/// The library that gives processes a clock of their own, where Debian has it.
fn faketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.exists())
}

fn find(folder: &Path, name: &str) -> Result<PathBuf, GroundError> {
    let path = folder.join(name);
    if path.exists() {
        return Ok(path);
    }
    let folder = folder.display();
    let what =
        format!("there is no {name} in {folder}: put it beside buzzer, or build all with cargo build --workspace");
    Err(GroundError::Missing(what))
}
