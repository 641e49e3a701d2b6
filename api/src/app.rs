//! The only wiring: from settings to a running API.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::from_fn;
use buzzer_shared::broker::{Broker, DeclareError};
use buzzer_shared::id::RunId;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;
use buzzer_shared::topology::Topology;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower_http::catch_panic::CatchPanicLayer;

use crate::auth::{self, Gate};
use crate::bell::Bell;
use crate::bounds::Bounds;
use crate::cancel::{CancelBroadcast, Cancels};
use crate::catalog::Catalog;
use crate::config::{ApiConfig, AuthMode, StoreAddress};
use crate::deliver::Deliverer;
use crate::dispatch::{Claimer, Outbox, Publisher};
use crate::feeds::Feeds;
use crate::forget::Forgetter;
use crate::hearing::Hearing;
use crate::journal::Journal;
use crate::lanes::Lanes;
use crate::letters::Letters;
use crate::parking::Parking;
use crate::problem::ApiError;
use crate::pulse::Pulses;
use crate::readiness::Readiness;
use crate::replicas::Replicas;
use crate::replies::Replies;
use crate::signals::Signals;
use crate::state::{AppState, Handles};
use crate::store::postgres::{self, PostgresStore};
use crate::store::sqlite::{self, SqliteStore};
use crate::store::{Keyring, Outgoing, Store, StoreError, Tickets};
use crate::sweep::Sweeper;
use crate::tally::Tally;
use crate::wake::Wake;
use crate::{asyncapi, descriptors, events, jobs, kinds, openapi, ops, parked, serve, socket, tickets, webhooks};

/// A broker that is there has answered by then, and what it refuses can be told at once.
const BROKER_PATIENCE: Duration = Duration::from_secs(2);

/// So long may the loops take to end, once the last request was answered. One that waits for a store or a broker that hangs
/// may be left where it stands: what counts is on disk, or is done again.
const LOOPS_PATIENCE: Duration = Duration::from_secs(5);

/// The broker as the API finds it.
#[derive(Debug, Clone)]
pub struct BrokerLine {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    /// Whether what the broker carries outlives this process.
    pub durable: bool,
}

/// A running API.
#[derive(Debug)]
pub struct App {
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
    tasks: JoinSet<()>,
    broker: Arc<dyn Broker>,
    shutdown: Shutdown,
    /// Asked for once the last request was answered: until then the endpoints need the loops.
    loops: Shutdown,
}

/// Why the API cannot start. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "BUZZER_AUTH=off would let everybody in who can reach {address}: listen on 127.0.0.1 (BUZZER_LISTEN), or make an \
         API key with `buzzer keys create` and start with BUZZER_AUTH=keys"
    )]
    OpenToAll { address: SocketAddr },
    #[error(transparent)]
    Sqlite(#[from] sqlite::OpenError),
    #[error(transparent)]
    Postgres(#[from] postgres::OpenError),
    #[error("asked to stop before the store could be reached")]
    Stopped,
    #[error("the store cannot be used: {0}")]
    StoreUse(#[from] StoreError),
    #[error("cannot listen on {address}: {source}; is another Buzzer running? BUZZER_LISTEN takes another address")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error(transparent)]
    Topology(#[from] DeclareError),
}

impl App {
    /// Opens the store, starts every loop, and listens. It serves when this answers.
    pub async fn start(
        config: ApiConfig,
        line: BrokerLine,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        let broker = Arc::clone(&line.broker);
        let started = Self::begin(config, line, clock, shutdown).await;
        if started.is_err() {
            broker.close().await;
        }
        started
    }

    async fn begin(
        config: ApiConfig,
        line: BrokerLine,
        clock: Arc<dyn Clock>,
        shutdown: Shutdown,
    ) -> Result<Self, StartError> {
        if config.is_open_to_all() {
            return Err(StartError::OpenToAll { address: config.listen });
        }
        descriptors::raise(config.max_streams);
        let Kept { store, clock } = tokio::select! {
            kept = open(config.store.address(), clock) => kept?,
            () = shutdown.requested() => return Err(StartError::Stopped),
        };
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|source| StartError::Listen { address: config.listen, source })?;
        let address = listener.local_addr().map_err(|source| StartError::Listen { address: config.listen, source })?;
        let broker = Arc::clone(&line.broker);
        let drain = config.drain.as_duration();
        let Engine { handles, tasks, loops } = Engine::start(config, line, Kept { store, clock }, &shutdown).await?;
        let serving = tokio::spawn(serve::serve(listener, router(handles.into()), shutdown.clone(), drain));
        tracing::info!(%address, "listening");
        Ok(Self { address, serving, tasks, broker, shutdown, loops })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends once shutdown was requested, requests under way were answered, and every loop has ended.
    ///
    /// # Errors
    /// When a loop breaks down. Then the API stops by itself: jobs that nobody sends must not be accepted for long.
    pub async fn stopped(mut self) -> Result<(), BrokenDown> {
        let early = tokio::select! {
            _ = &mut self.serving => None,
            ended = self.tasks.join_next() => ended,
        };
        if early.is_some() {
            self.shutdown.request();
            // A panic in the accept loop is in the log; the rest still stops in order.
            let _ = self.serving.await;
        }
        self.loops.request();
        let rest = async { while self.tasks.join_next().await.is_some() {} };
        tokio::select! {
            () = rest => {}
            () = self.shutdown.forced() => {}
            () = tokio::time::sleep(LOOPS_PATIENCE) => {
                tracing::warn!("the store or the broker does not answer; what is under way is left to them, and nothing is lost");
            }
        }
        self.broker.close().await;
        tracing::info!("stopped");
        match early {
            None => Ok(()),
            Some(ended) => Err(BrokenDown(ended.err().map(|panic| panic.to_string()).unwrap_or_default())),
        }
    }
}

/// A part of the API ended before it was asked to.
#[derive(Debug, thiserror::Error)]
#[error("a part of the API broke down; start it again, and please report it: {0}")]
pub struct BrokenDown(String);

/// A store, and the clock by which all must go who use it.
#[derive(Debug)]
pub struct Kept {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
}

/// All of an API but its listener. Dropped, its loops end where they stand; who reads a feed ends once it has looked again.
#[derive(Debug)]
pub struct Engine {
    /// What [`router`] needs.
    pub handles: Handles,
    tasks: JoinSet<()>,
    loops: Shutdown,
}

impl Engine {
    /// Starts every loop on a store that is open. They run when this answers.
    ///
    /// # Errors
    /// When the store does not answer, and when the broker refuses an exchange or a queue.
    pub async fn start(
        config: ApiConfig,
        line: BrokerLine,
        Kept { store, clock }: Kept,
        shutdown: &Shutdown,
    ) -> Result<Self, StartError> {
        if !line.durable {
            tracing::info!(
                "the broker is within this process; workers of other processes need a RabbitMQ, named with --broker"
            );
            let voided = store.void_leases(clock.now()).await?;
            tracing::debug!(jobs = voided, "what the broker of an earlier process carried goes out again");
        }
        declare(&line).await?;

        let (outbox, outgoing) = Outbox::new();
        let lanes = Lanes::new(line.broker.line(), Arc::clone(&clock));
        let (cancels, to_cancel) = Cancels::new();
        let wake = Wake::default();
        let journal = Journal {
            store: Arc::clone(&store),
            lanes: lanes.clone(),
            wake: wake.clone(),
            cancels,
            bell: Bell::default(),
            tally: Tally::default(),
            clock: Arc::clone(&clock),
        };
        let handles = Handles {
            gate: gate(config.auth, &store, Arc::clone(&clock)).await?,
            store: Arc::clone(&store),
            journal,
            catalog: Catalog::default(),
            lanes: lanes.clone(),
            outbox: outbox.clone(),
            bounds: Bounds::new(config.limits()),
            feeds: Feeds::new(Arc::clone(&store), wake.clone(), shutdown.clone()),
            wake,
            line: line.broker.line(),
            topology: line.topology.clone(),
            parking: Parking::new(Arc::clone(&line.broker), line.topology.clone(), config.senders(line.broker.user())),
            readiness: Readiness::default(),
            clock: Arc::clone(&clock),
            shutdown: shutdown.clone(),
            max_body: config.max_body.0,
            retention: config.keep.clone(),
            origins: config.origins.clone(),
            egress_allow: config.webhooks.egress_allow.clone(),
            claim_lease: config.leases.claim_lease.as_duration(),
        };
        handles.catalog.refresh(&*store, clock.now()).await?;
        handles.bounds.refresh(&*store).await?;

        let loops = shutdown.later();
        let tasks = Loops { handles: handles.clone(), line, config }.spawn(outgoing, to_cancel, &loops);
        Ok(Self { handles, tasks, loops })
    }
}

/// Opens the store. A database that is away is waited for.
async fn open(address: &StoreAddress, clock: Arc<dyn Clock>) -> Result<Kept, StartError> {
    Ok(match address {
        StoreAddress::Sqlite(path) => Kept { store: Arc::new(SqliteStore::open(path)?), clock },
        StoreAddress::Postgres(url) => {
            let store = PostgresStore::open_once_there(url).await?;
            Kept { clock: store.clock(), store: Arc::new(store) }
        }
    })
}

/// The API keys of a store, also of one that a running API uses. A database that is away is not waited for.
///
/// # Errors
/// When there is no store yet, or it cannot be opened, or is of another version.
pub async fn keyring(address: &StoreAddress) -> Result<Arc<dyn Keyring>, StartError> {
    Ok(match address {
        StoreAddress::Sqlite(path) => Arc::new(SqliteStore::keyring(path)?),
        StoreAddress::Postgres(url) => Arc::new(PostgresStore::keyring(url).await?),
    })
}

/// The same, and makes the store where there is none yet.
///
/// # Errors
/// When the store cannot be made or opened, or is of another version.
pub async fn keyring_or_new(address: &StoreAddress) -> Result<Arc<dyn Keyring>, StartError> {
    Ok(match address {
        StoreAddress::Sqlite(path) => Arc::new(SqliteStore::keyring_or_new(path)?),
        StoreAddress::Postgres(url) => Arc::new(PostgresStore::keyring_or_new(url).await?),
    })
}

async fn gate(auth: AuthMode, store: &Arc<dyn Store>, clock: Arc<dyn Clock>) -> Result<Gate, StoreError> {
    let tickets: Arc<dyn Tickets> = Arc::<dyn Store>::clone(store);
    if auth == AuthMode::Off {
        return Ok(Gate::open(tickets, clock));
    }
    if !store.api_keys().await?.iter().any(|key| key.revoked_at.is_none()) {
        tracing::warn!("nobody is let in yet: there is no API key; `buzzer keys create` makes one");
    }
    Ok(Gate::of(Arc::<dyn Store>::clone(store), tickets, clock))
}

/// Makes the exchanges and queues. A broker that refuses is an error; one that is away is not waited for: what it is to
/// make is remembered, and clients may be served meanwhile.
async fn declare(line: &BrokerLine) -> Result<(), StartError> {
    match tokio::time::timeout(BROKER_PATIENCE, line.broker.declare(line.topology.fixed())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(refused @ DeclareError::Refused { .. })) => Err(refused.into()),
        Ok(Err(DeclareError::Away(_))) | Err(_) => {
            // Why it is away is in the log already.
            tracing::warn!("starting without the broker: jobs are stored, and go out once it lets us in");
            Ok(())
        }
    }
}

/// Everything that runs beside the endpoints.
struct Loops {
    handles: Handles,
    line: BrokerLine,
    config: ApiConfig,
}

impl Loops {
    fn spawn(
        self,
        outgoing: mpsc::Receiver<Outgoing>,
        to_cancel: mpsc::Receiver<RunId>,
        shutdown: &Shutdown,
    ) -> JoinSet<()> {
        let Handles { store, journal, catalog, outbox, bounds, wake, feeds, retention, clock, .. } = self.handles;
        let BrokerLine { broker, topology, .. } = self.line;
        let leases = self.config.leases;
        let lease = leases.run_lease.as_duration();
        let senders = self.config.senders(broker.user());
        let (outcomes, beats) = (Hearing::default(), Hearing::default());

        let claimer = Claimer {
            journal: journal.clone(),
            outbox,
            lease: leases.claim_lease.as_duration(),
            clock: Arc::clone(&clock),
        };
        let publisher = Publisher {
            broker: Arc::clone(&broker),
            topology: topology.clone(),
            journal: journal.clone(),
            letters: Letters { store: Arc::clone(&store), clock: Arc::clone(&clock) },
            clock: Arc::clone(&clock),
        };
        let deliverer = Deliverer {
            store: Arc::clone(&store),
            lanes: journal.lanes.clone(),
            catalog: catalog.clone(),
            bell: journal.bell.clone(),
            rules: self.config.webhooks.rules(),
            clock: Arc::clone(&clock),
        };
        let replies = Replies {
            broker: Arc::clone(&broker),
            topology: topology.clone(),
            journal: journal.clone(),
            clock: Arc::clone(&clock),
            hearing: outcomes.clone(),
            senders: senders.clone(),
            lease,
        };
        let signals = Signals {
            broker: Arc::clone(&broker),
            topology: topology.clone(),
            journal: journal.clone(),
            senders: senders.clone(),
            clock: Arc::clone(&clock),
            lease,
        };
        let broadcast = CancelBroadcast { broker: Arc::clone(&broker), topology: topology.clone() };
        let pulses = Pulses {
            broker,
            topology,
            journal: journal.clone(),
            catalog: catalog.clone(),
            hearing: beats.clone(),
            senders,
            clock: Arc::clone(&clock),
            lease,
        };
        let replicas = Replicas { store: Arc::clone(&store), wake };
        let forgetter = Forgetter { store: Arc::clone(&store), retention, clock: Arc::clone(&clock) };
        let sweeper = Sweeper { journal, catalog, hearing: [outcomes, beats], leases, clock };

        let mut tasks = JoinSet::new();
        // The publisher outlives the claimer: what is claimed is sent, and does not wait for the end of its lease.
        let publishing = shutdown.later();
        tasks.spawn(publisher.run(outgoing, publishing.clone()));
        let claiming = claimer.run(shutdown.clone());
        tasks.spawn(async move {
            claiming.await;
            publishing.request();
        });
        tasks.spawn(replies.run(shutdown.clone()));
        tasks.spawn(signals.run(shutdown.clone()));
        tasks.spawn(pulses.run(shutdown.clone()));
        tasks.spawn(broadcast.run(to_cancel, shutdown.clone()));
        tasks.spawn(replicas.run(shutdown.clone()));
        tasks.spawn(feeds.run(shutdown.clone()));
        tasks.spawn(bounds.run(store, shutdown.clone()));
        tasks.spawn(sweeper.run(shutdown.clone()));
        tasks.spawn(deliverer.run(shutdown.clone()));
        tasks.spawn(forgetter.run(shutdown.clone()));
        tasks
    }
}

/// Every endpoint.
pub fn router(state: AppState) -> Router {
    let told = events::router().merge(socket::router()).merge(tickets::router()).merge(webhooks::router());
    let own = jobs::router().merge(told);
    let api = own.merge(kinds::router()).merge(parked::router()).merge(ops::router()).merge(asyncapi::router());
    let router = openapi::finish(api)
        .fallback(async |request: Request| ApiError::NoSuchPath(request.uri().path().into()))
        .method_not_allowed_fallback(async |request: Request| ApiError::WrongMethod(request.method().to_string()));
    let router = if state.gate.is_open() { router.layer(from_fn(auth::names_this_machine)) } else { router };
    router.layer(CatchPanicLayer::custom(panicked)).with_state(state)
}

/// A panic in an endpoint ends that request alone.
#[expect(clippy::needless_pass_by_value, reason = "tower-http hands it over")]
fn panicked(reason: Box<dyn std::any::Any + Send>) -> axum::response::Response {
    let text = reason.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| reason.downcast_ref::<&str>().copied()).unwrap_or("unknown");
    axum::response::IntoResponse::into_response(ApiError::Internal(format!("an endpoint panicked: {text}")))
}
