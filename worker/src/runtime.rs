//! A worker from its start to its end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::{Broker, Line};
use buzzer_shared::id::WorkerId;
use buzzer_shared::message::Announce;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Clock;
use buzzer_shared::topology::Topology;
use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::builder::WorkerBuilder;
use crate::config::WorkerConfig;
use crate::desk::Desk;
use crate::early::EarlyIntake;
use crate::execute::Executor;
use crate::gate::Gate;
use crate::health::Health;
use crate::held::Held;
use crate::intake::Intake;
use crate::outcomes::Outcomes;
use crate::pulse::Pulse;
use crate::registry::Registry;
use crate::signals::SignalSender;
use crate::slots::Slots;

/// So long a worker that stops waits for the broker to take its last outcomes, and then its last beat. What it does
/// not take comes again as a request.
const LAST_OUTCOMES: Duration = Duration::from_secs(5);
const LAST_BEAT: Duration = Duration::from_secs(2);

/// A worker with all its handlers, ready to run.
#[derive(Debug)]
pub struct Worker {
    pub(crate) registry: Registry,
    pub(crate) config: WorkerConfig,
    pub(crate) version: String,
    pub(crate) cores: usize,
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) clock: Arc<dyn Clock>,
}

/// Why a worker ended, or never began.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("cannot listen on {address}: {reason}; BUZZER_LISTEN takes another address")]
    Listen { address: SocketAddr, reason: std::io::Error },
    #[error("the broker was closed")]
    BrokerClosed,
    #[error("a part of the worker broke down: {0}")]
    Broken(tokio::task::JoinError),
}

impl Worker {
    pub fn builder() -> WorkerBuilder {
        WorkerBuilder::default()
    }

    /// Runs jobs until `shutdown`; then finishes what it has or hands it back, within the grace period and some
    /// seconds more. Whoever opened the broker closes it afterwards.
    ///
    /// # Errors
    /// When `/livez` cannot be answered where it should, when the broker is closed under the worker, and when a part
    /// of the worker breaks down.
    pub async fn run(self, broker: Arc<dyn Broker>, topology: Topology, shutdown: Shutdown) -> Result<(), WorkerError> {
        let listener = self.bind().await?;
        Crew::start(&self, broker, &topology, listener, shutdown).work().await
    }

    async fn bind(&self) -> Result<Option<TcpListener>, WorkerError> {
        let Some(address) = self.listen else { return Ok(None) };
        let listener = TcpListener::bind(address).await;
        listener.map(Some).map_err(|reason| WorkerError::Listen { address, reason })
    }

    fn announcement(&self, worker: WorkerId) -> Announce {
        Announce {
            worker,
            host: host(),
            version: self.version.clone(),
            started_at: self.clock.now(),
            kinds: self.registry.specs(),
            refused: Vec::new(),
        }
    }
}

/// All that goes on in a worker.
#[derive(Debug)]
struct Crew {
    intakes: JoinSet<()>,
    pulse: JoinHandle<()>,
    slots: Vec<Slots>,
    drain: Duration,
    shutdown: Shutdown,
    stops: Stops,
}

/// The last stages of a worker, in their order.
#[derive(Debug, Clone, Default)]
struct Stops {
    /// Handlers may run no longer.
    cut: CancellationToken,
    /// Outcomes are waited for no longer.
    give_up: CancellationToken,
    /// The last beat may go out.
    leave: CancellationToken,
}

impl Crew {
    fn start(
        worker: &Worker,
        broker: Arc<dyn Broker>,
        topology: &Topology,
        listener: Option<TcpListener>,
        shutdown: Shutdown,
    ) -> Self {
        let id = WorkerId::new(worker.clock.now());
        let (held, stops) = (Held::default(), Stops::default());
        let executor = Arc::new(Executor {
            worker: id,
            clock: Arc::clone(&worker.clock),
            outcomes: Outcomes::new(Arc::clone(&broker), topology, stops.give_up.clone()),
            signals: SignalSender {
                broker: Arc::clone(&broker),
                route: topology.signal(),
                worker: id,
                clock: Arc::clone(&worker.clock),
            },
            max_body: worker.config.max_body.0,
            cancel_grace: worker.config.cancel_grace.as_duration(),
            cores: Arc::new(Semaphore::new(worker.cores)),
            gate: Gate::new(),
            shutdown: shutdown.clone(),
            cut: stops.cut.clone(),
        });

        let (mut intakes, mut slots, mut attached) = (JoinSet::new(), Vec::new(), Vec::new());
        for kind in worker.registry.kinds() {
            let queue = topology.requests_queue(&kind.spec.name);
            let desk = Desk::new(Arc::clone(kind), queue, held.clone(), Arc::clone(&executor));
            let (its_slots, give_up) = (Slots::new(kind.spec.slots), stops.give_up.clone());
            slots.push(its_slots.clone());
            let (fed, taking) = taking(desk, its_slots, &broker, shutdown.clone(), give_up);
            intakes.spawn(taking);
            attached.push((kind.spec.name.clone(), fed));
        }

        let line = broker.line();
        let health = Health::new(id, line.clone(), attached, held.clone());
        if let Some(listener) = listener {
            tokio::spawn(health.clone().serve(listener, stops.leave.clone()));
        }
        let pulse = Pulse::new(broker, topology, worker.announcement(id), held, health);
        let pulse = tokio::spawn(pulse.run(worker.config.beat, shutdown.clone(), stops.leave.clone()));
        tokio::spawn(stops.leave.clone().run_until_cancelled_owned(say_that_it_runs(line, id, slots.len())));
        Self { intakes, pulse, slots, drain: worker.config.drain.as_duration(), shutdown, stops }
    }

    async fn work(mut self) -> Result<(), WorkerError> {
        // However this future ends, nothing of the worker stays behind.
        let _cut = self.stops.cut.clone().drop_guard();
        let _give_up = self.stops.give_up.clone().drop_guard();
        let _leave = self.stops.leave.clone().drop_guard();

        let ended = tokio::select! {
            () = self.shutdown.requested() => Ok(()),
            first = self.intakes.join_next() => match first {
                Some(Err(error)) => Err(WorkerError::Broken(error)),
                Some(Ok(())) | None if self.shutdown.is_requested() => Ok(()),
                Some(Ok(())) | None => Err(WorkerError::BrokerClosed),
            },
        };
        let drained = self.drain().await;
        self.leave().await;
        ended.and(drained)
    }

    /// Lets running handlers finish within the grace period, and outcomes go out within some seconds more.
    async fn drain(&mut self) -> Result<(), WorkerError> {
        info!(grace = ?self.drain, "The worker finishes what it runs; a second signal hands it back at once");
        // Also when it was the broker that ended it.
        self.shutdown.request();
        tokio::select! {
            () = all_free(&self.slots) => {}
            () = tokio::time::sleep(self.drain) => {}
            () = self.shutdown.forced() => {}
        }
        self.stops.cut.cancel();
        let give_up = self.stops.give_up.clone();
        let patience = async {
            tokio::time::sleep(LAST_OUTCOMES).await;
            give_up.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            drained = join_all(&mut self.intakes) => drained,
            () = patience => Ok(()),
        }
    }

    async fn leave(self) {
        self.stops.leave.cancel();
        if tokio::time::timeout(LAST_BEAT, self.pulse).await.is_err() {
            info!("The broker did not take the last beat");
        }
        info!("The worker has stopped");
    }
}

/// Says so once the broker is there: before that nothing comes, and the line says what is the matter.
async fn say_that_it_runs(mut line: watch::Receiver<Line>, worker: WorkerId, kinds: usize) {
    if line.wait_for(|line| *line == Line::Up).await.is_ok() {
        info!(%worker, kinds, "The worker runs");
    }
}

/// Whether an intake is fed, and its work.
fn taking(
    desk: Desk,
    slots: Slots,
    broker: &Arc<dyn Broker>,
    shutdown: Shutdown,
    give_up: CancellationToken,
) -> (watch::Receiver<bool>, BoxFuture<'static, ()>) {
    if desk.kind().spec.acknowledges_early() {
        let intake = EarlyIntake::new(desk, slots, Arc::clone(broker));
        (intake.attached(), Box::pin(intake.run(shutdown, give_up)))
    } else {
        let intake = Intake::new(desk, slots, &**broker);
        (intake.attached(), Box::pin(intake.run(shutdown, give_up)))
    }
}

async fn all_free(slots: &[Slots]) {
    for slots in slots {
        slots.all_free().await;
    }
}

async fn join_all(intakes: &mut JoinSet<()>) -> Result<(), WorkerError> {
    while let Some(intake) = intakes.join_next().await {
        intake.map_err(WorkerError::Broken)?;
    }
    Ok(())
}

/// The machine's name, as it calls itself.
fn host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
    kernel
        .or_else(|| std::env::var("HOSTNAME").ok())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".into())
}
