//! A worker that runs, and the API's side of the broker.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::broker::embedded::EmbeddedBroker;
use buzzer_shared::broker::{
    Broker, BrowseError, Browsed, DeclareError, Delivery, Line, PublishError, Receipts, Subscriber, Subscription,
};
use buzzer_shared::id::{JobId, RunId};
use buzzer_shared::job::Priority;
use buzzer_shared::message::{
    Announce, Beat, Control, Message, Outcome, Pulse, Reply, Request, RunResult, Signal, Started,
};
use buzzer_shared::problem::Problem;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_shared::topology::{Declaration, Route, Topology};
use buzzer_worker::{WorkerBuilder, WorkerError};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A condition that takes so long never comes.
const NEVER: Duration = Duration::from_secs(600);

pub(crate) struct Stage {
    broker: EmbeddedBroker,
    /// The worker's way to the broker.
    pub(crate) line: Arc<Moody>,
    topology: Topology,
    outcomes: Subscriber,
    pulses: Subscriber,
    signals: Subscriber,
    parked: Subscriber,
    pub(crate) announced: Announce,
    pub(crate) shutdown: Shutdown,
    worker: JoinHandle<Result<(), WorkerError>>,
}

/// Starts a worker, and declares what it announces.
pub(crate) async fn stage(builder: WorkerBuilder) -> Stage {
    stage_with(builder, &[]).await
}

/// The same, with requests that were delivered so often before, and came back.
pub(crate) async fn stage_with(builder: WorkerBuilder, redelivered: &[(Request, u32)]) -> Stage {
    let broker = EmbeddedBroker::new(Arc::new(SystemClock));
    let topology = Topology::new("test");
    broker.declare(topology.fixed()).await.unwrap();
    for (request, times) in redelivered {
        bring_back(&broker, &topology, request, *times).await;
    }
    let take =
        |queue: Arc<str>| broker.subscribe(Subscription { queue, declare: Vec::new(), receipts: Receipts::Automatic });
    let (outcomes, mut pulses) = (take(topology.replies_queue()), take(topology.pulse_queue()));
    let (signals, parked) = (take(topology.signals_queue()), take(topology.parking_queue()));

    let line = Arc::new(Moody::new(broker.another_line(), topology.outcome()));
    let shutdown = Shutdown::default();
    let worker = builder.build().unwrap();
    let running = worker.run(Arc::clone(&line) as Arc<dyn Broker>, topology.clone(), shutdown.clone());
    let worker = tokio::spawn(running);

    let announced = loop {
        match Pulse::read(&within(pulses.next()).await.unwrap().message).unwrap() {
            Pulse::Announce(announce) => break announce,
            Pulse::Beat(_) | Pulse::Knock => {}
        }
    };
    for kind in &announced.kinds {
        broker.declare(topology.requests(&kind.name)).await.unwrap();
    }
    Stage { broker, line, topology, outcomes, pulses, signals, parked, announced, shutdown, worker }
}

/// Sends a request, and takes it so often without an acknowledgement.
async fn bring_back(broker: &EmbeddedBroker, topology: &Topology, request: &Request, times: u32) {
    broker.declare(topology.requests(&request.kind)).await.unwrap();
    broker.publish(topology.request(&request.kind), request.to_message()).await.unwrap();
    // The last look leaves it as often delivered as was asked for.
    for expected in 0..times {
        let queue = topology.requests_queue(&request.kind);
        let receipts = Receipts::Manual { prefetch: 1 };
        let mut taken = broker.subscribe(Subscription { queue, declare: Vec::new(), receipts });
        assert_eq!(next(&mut taken).await.redeliveries, expected);
    }
}

pub(crate) fn request(kind: &str, input: &str) -> Request {
    Request {
        run: RunId { job: JobId::new(SystemClock.now()), dispatch: 1 },
        kind: kind.parse().unwrap(),
        attempt: 1,
        priority: Priority::default(),
        timeout: Duration::from_secs(60),
        expiration: Duration::from_secs(600),
        expires_in: None,
        at_most_once: false,
        alone: false,
        traceparent: None,
        input: Bytes::copy_from_slice(input.as_bytes()),
    }
}

/// One that is to run alone.
pub(crate) fn alone(kind: &str, input: &str) -> Request {
    Request { alone: true, ..request(kind, input) }
}

impl Stage {
    pub(crate) fn request(&self, kind: &str, input: &str) -> Request {
        request(kind, input)
    }

    pub(crate) async fn send(&self, request: &Request) {
        self.send_message(request.kind.as_str(), request.to_message()).await;
    }

    pub(crate) async fn send_message(&self, kind: &str, message: Message) {
        let route = self.topology.request(&kind.parse().unwrap());
        self.broker.publish(route, message).await.unwrap();
    }

    /// Sends a request and tells its outcome.
    pub(crate) async fn run(&mut self, kind: &str, input: &str) -> Outcome {
        let request = self.request(kind, input);
        self.send(&request).await;
        let outcome = self.outcome().await;
        assert_eq!(outcome.run, request.run);
        outcome
    }

    pub(crate) async fn outcome(&mut self) -> Outcome {
        Outcome::read(&next(&mut self.outcomes).await.message).unwrap()
    }

    /// The next reply, which says that a run starts.
    pub(crate) async fn started(&mut self) -> Started {
        match Reply::read(&next(&mut self.outcomes).await.message).unwrap() {
            Reply::Started(started) => started,
            Reply::Outcome(outcome) => panic!("not the word of a start: {outcome:?}"),
        }
    }

    /// The next reply, if it is an outcome.
    pub(crate) async fn outcome_or_start(&mut self) -> Option<Outcome> {
        match Reply::read(&next(&mut self.outcomes).await.message).unwrap() {
            Reply::Started(_) => None,
            Reply::Outcome(outcome) => Some(outcome),
        }
    }

    /// The outcomes that are here now, without waiting for more.
    pub(crate) fn outcomes_here(&mut self) -> Vec<Outcome> {
        std::iter::from_fn(|| self.outcomes.try_next())
            .map(|delivery| Outcome::read(&delivery.message).unwrap())
            .collect()
    }

    pub(crate) async fn signal(&mut self) -> Signal {
        Signal::read(&next(&mut self.signals).await.message).unwrap()
    }

    /// The signals that are here now, without waiting for more.
    pub(crate) fn signals_here(&mut self) -> Vec<Signal> {
        std::iter::from_fn(|| self.signals.try_next())
            .map(|delivery| Signal::read(&delivery.message).unwrap())
            .collect()
    }

    pub(crate) async fn parked(&mut self) -> Message {
        next(&mut self.parked).await.message
    }

    pub(crate) async fn beat(&mut self) -> Beat {
        loop {
            if let Pulse::Beat(beat) = self.pulse().await {
                return beat;
            }
        }
    }

    pub(crate) async fn pulse(&mut self) -> Pulse {
        Pulse::read(&next(&mut self.pulses).await.message).unwrap()
    }

    pub(crate) async fn say(&self, control: Control) {
        self.broker.publish(self.topology.to_workers(), control.to_message()).await.unwrap();
    }

    /// Asks these to stop, and waits until the worker has heard it.
    pub(crate) async fn cancel(&mut self, runs: &[RunId]) {
        self.say(Control::Cancel { runs: runs.to_vec() }).await;
        // What is said to a worker, it hears in order.
        self.say(Control::Announce).await;
        while !matches!(self.pulse().await, Pulse::Announce(_)) {}
    }

    /// Waits until the worker holds so many requests.
    pub(crate) async fn holds(&mut self, count: usize) {
        within(async { while self.beat().await.held.len() != count {} }).await;
    }

    /// The next request of a kind that no worker has taken, and how often it was delivered before.
    pub(crate) async fn untaken(&self, kind: &str) -> (RunId, u32) {
        let queue = self.topology.requests_queue(&kind.parse().unwrap());
        let receipts = Receipts::Manual { prefetch: 1 };
        let mut taken = self.broker.subscribe(Subscription { queue, declare: Vec::new(), receipts });
        let delivery = next(&mut taken).await;
        (Request::read(&delivery.message).unwrap().run, delivery.redeliveries)
    }

    /// Waits until the broker has said no to so many replies.
    pub(crate) async fn refused(&self, count: usize) {
        within(async {
            while self.line.refused() < count {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
        })
        .await;
    }

    /// Moves the paused clock until `step` has come to something.
    pub(crate) async fn while_time_goes_on<T>(&mut self, step: impl AsyncFnOnce(&mut Self) -> T) -> T {
        let clock = async {
            loop {
                tokio::time::advance(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            biased;
            done = step(self) => done,
            never = clock => never,
        }
    }

    /// What the broker sees of a worker that is killed: its line goes, and all that it has not acknowledged comes back.
    pub(crate) async fn crash(&mut self) {
        self.line.close().await;
    }

    /// Waits until the worker has ended by itself, and tells how.
    pub(crate) async fn ended(&mut self) -> Result<(), WorkerError> {
        within(&mut self.worker).await.unwrap()
    }

    /// What waits in a kind's queue once the worker has gone: what it did not acknowledge.
    pub(crate) async fn left_over(&self, kind: &str) -> Vec<RunId> {
        let queue = self.topology.requests_queue(&kind.parse().unwrap());
        let receipts = Receipts::Manual { prefetch: 1000 };
        let mut taken = self.broker.subscribe(Subscription { queue, declare: Vec::new(), receipts });
        // A fence behind all the others, so that nothing is waited for in vain.
        let fence = self.request(kind, "null");
        self.send(&fence).await;
        let mut left = Vec::new();
        loop {
            let run = Request::read(&next(&mut taken).await.message).unwrap().run;
            if run == fence.run {
                return left;
            }
            left.push(run);
        }
    }
}

/// A line that says no to outcomes for as long as there is a no left.
#[derive(Debug)]
pub(crate) struct Moody {
    inner: EmbeddedBroker,
    outcome: Route,
    refusals: Mutex<VecDeque<PublishError>>,
    refused: AtomicUsize,
    /// How many more it sends than it was asked for.
    surplus: AtomicU16,
    line: watch::Sender<Line>,
}

impl Moody {
    fn new(inner: EmbeddedBroker, outcome: Route) -> Self {
        let (refusals, refused) = (Mutex::default(), AtomicUsize::new(0));
        Self { inner, outcome, refusals, refused, surplus: AtomicU16::new(0), line: watch::Sender::new(Line::Up) }
    }

    pub(crate) fn refuse(&self, errors: impl IntoIterator<Item = PublishError>) {
        self.refusals.lock().unwrap().extend(errors);
    }

    /// From now on, sends one more than a prefetch allows.
    pub(crate) fn overdo(&self) {
        self.surplus.store(1, Ordering::SeqCst);
    }

    /// Says that the line is so. It works all the same.
    pub(crate) fn pretend(&self, line: Line) {
        self.line.send_replace(line);
    }

    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Broker for Moody {
    async fn declare(&self, declarations: Vec<Declaration>) -> Result<(), DeclareError> {
        self.inner.declare(declarations).await
    }

    async fn publish(&self, route: Route, message: Message) -> Result<(), PublishError> {
        if route == self.outcome
            && let Some(error) = self.refusals.lock().unwrap().pop_front()
        {
            self.refused.fetch_add(1, Ordering::SeqCst);
            return Err(error);
        }
        self.inner.publish(route, message).await
    }

    fn subscribe(&self, mut subscription: Subscription) -> Subscriber {
        if let Receipts::Manual { prefetch } = &mut subscription.receipts {
            *prefetch += self.surplus.load(Ordering::SeqCst);
        }
        self.inner.subscribe(subscription)
    }

    async fn browse(&self, queue: Arc<str>, limit: u16) -> Result<Browsed, BrowseError> {
        self.inner.browse(queue, limit).await
    }

    fn user(&self) -> Option<&str> {
        self.inner.user()
    }

    fn line(&self) -> watch::Receiver<Line> {
        self.line.subscribe()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// The problem and retry of a failure.
pub(crate) fn failure(outcome: &Outcome) -> (&Problem, buzzer_shared::message::Retry) {
    match &outcome.result {
        RunResult::Failed { problem, retry } => (problem, *retry),
        other => panic!("not a failure: {other:?}"),
    }
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(NEVER, future).await.expect("what was waited for never came")
}

async fn next(subscriber: &mut Subscriber) -> Delivery {
    within(subscriber.next()).await.expect("the subscription ended")
}
