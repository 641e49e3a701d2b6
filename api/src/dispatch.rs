//! Decides which job goes out next, and sends it.
//!
//! The broker holds only a window of requests for each kind; the backlog waits in the store. A job goes out by a claim
//! with a lease, committed before its request is published. Confirms are not stored: a request that the broker
//! certainly does not have frees its claim at once, and silence lets the claim end.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::{Broker, PublishError};
use buzzer_shared::id::RunId;
use buzzer_shared::kind::{DeliveryMode, Kind};
use buzzer_shared::message::Request;
use buzzer_shared::problem;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::Topology;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;

use crate::journal::Journal;
use crate::letters::Letters;
use crate::lifecycle::{Event, Job};
use crate::store::{Happening, Outgoing, StoreError};
use crate::streak::Streak;

/// So many jobs are claimed in one transaction at most, so that it does not hold up the submissions behind it.
const CLAIM_MAX: usize = 500;
/// So many requests may wait for the publishing half. What is under way at a time is bounded by the windows.
const OUTBOX: usize = 4096;
/// What is posted to a webhook is signed when it goes out, and receivers take no signature that is older than five minutes.
const SIGNED_FRESH: Duration = Duration::from_secs(120);
/// How often the store is asked for jobs that other replicas, or an earlier process, have left waiting.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// Takes claimed jobs to send. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outbox(mpsc::Sender<Outgoing>);

impl Outbox {
    pub fn new() -> (Self, mpsc::Receiver<Outgoing>) {
        let (sender, receiver) = mpsc::channel(OUTBOX);
        (Self(sender), receiver)
    }

    /// Sends a claimed job. Once the process stops, it stays claimed: its lease ends, and it is claimed again.
    pub async fn send(&self, outgoing: Outgoing) {
        let _ = self.0.send(outgoing).await;
    }
}

/// Claims jobs from the store whenever a lane has room.
#[derive(Debug)]
pub struct Claimer {
    pub journal: Journal,
    pub outbox: Outbox,
    pub lease: Duration,
    pub clock: Arc<dyn Clock>,
}

impl Claimer {
    /// Until shutdown is requested: a step whenever a lane may be hungry, and a probing one every second.
    pub async fn run(self, shutdown: Shutdown) {
        let mut probe = tokio::time::interval(PROBE_EVERY);
        let mut streak = Streak::new("no jobs are claimed");
        loop {
            let probing = tokio::select! {
                () = shutdown.requested() => return,
                () = self.journal.lanes.hungry() => false,
                _ = probe.tick() => true,
            };
            streak.note(self.step(probing).await);
        }
    }

    /// Fills every lane that has room.
    pub async fn step(&self, probing: bool) -> Result<(), StoreError> {
        for (kind, room) in self.journal.lanes.rooms(probing) {
            self.fill(&kind, room).await?;
        }
        Ok(())
    }

    async fn fill(&self, kind: &Kind, room: usize) -> Result<(), StoreError> {
        let mut room = room;
        while room > 0 {
            let limit = room.min(CLAIM_MAX);
            let now = self.clock.now();
            let claimed = self.journal.store.claim(kind, limit, now + self.lease, now).await?;
            let count = claimed.len();
            self.journal.lanes.claimed(kind, count, limit);
            for outgoing in claimed {
                self.outbox.send(outgoing).await;
            }
            if count < limit {
                break;
            }
            room -= count;
        }
        Ok(())
    }
}

/// Publishes what was claimed, and takes back what the broker does not have.
#[derive(Debug)]
pub struct Publisher {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    pub journal: Journal,
    /// What goes out for a job of the internal tenant is written when it does.
    pub letters: Letters,
    pub clock: Arc<dyn Clock>,
}

impl Publisher {
    /// Until shutdown is requested and every publish has its answer.
    pub async fn run(self, mut outbox: mpsc::Receiver<Outgoing>, shutdown: Shutdown) {
        let mut under_way = FuturesUnordered::new();
        let mut open = true;
        while open || !under_way.is_empty() {
            tokio::select! {
                () = shutdown.requested(), if open => {
                    // What is in the outbox still goes out; nothing is added.
                    outbox.close();
                    open = false;
                    while let Ok(outgoing) = outbox.try_recv() {
                        under_way.push(self.publish(outgoing));
                    }
                }
                outgoing = outbox.recv(), if open => match outgoing {
                    Some(outgoing) => under_way.push(self.publish(outgoing)),
                    None => open = false,
                },
                Some(failed) = under_way.next() => {
                    let mut failures: Vec<Failure> = failed.into_iter().collect();
                    // What has failed by now is taken back in one transaction.
                    while let Some(Some(failed)) = futures_util::FutureExt::now_or_never(under_way.next()) {
                        failures.extend(failed);
                    }
                    self.take_back(failures).await;
                }
            }
        }
    }

    async fn publish(&self, Outgoing { job, input }: Outgoing) -> Option<Failure> {
        let (run, kind) = (RunId { job: job.id, dispatch: job.dispatch }, job.kind.clone());
        let failure = |reason| Some(Failure { run, kind: kind.clone(), reason });
        let input = match self.written(&job, input).await {
            Ok(Some(input)) => input,
            Ok(None) => return failure(Unsent::Needless),
            Err(error) => return failure(Unsent::Unwritten(error)),
        };
        let request = request(&job, input, self.clock.now());
        let published = self.broker.publish(self.topology.request(&kind), request.to_message()).await;
        failure(Unsent::Publish(published.err()?))
    }

    async fn written(&self, job: &Job, input: Bytes) -> Result<Option<Bytes>, StoreError> {
        if job.tenant.is_internal() { self.letters.write(job, &input).await } else { Ok(Some(input)) }
    }

    async fn take_back(&self, failures: Vec<Failure>) {
        let mut happenings = Vec::new();
        for Failure { run, kind, reason } in failures {
            tracing::debug!(job.id = %run.job, dispatch = run.dispatch, %reason, "a request was not handed over");
            let event = event(&reason, run);
            // Otherwise the job would go out again at once, and come back again at once. The broker's own line makes
            // a queue again that is gone.
            if matches!(event, Some(Event::Unsent { .. })) {
                self.journal.lanes.rest(&kind);
            }
            happenings.extend(event.map(|event| Happening { job: run.job, event }));
        }
        if happenings.is_empty() {
            return;
        }
        if let Err(error) = self.journal.apply(happenings).await {
            // Their claims end by themselves.
            tracing::warn!(%error, "requests that were not handed over wait for the end of their lease");
        }
    }
}

/// A request that was not handed over.
#[derive(Debug)]
struct Failure {
    run: RunId,
    kind: Kind,
    reason: Unsent,
}

/// Why a request was not handed over.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    #[error(transparent)]
    Publish(PublishError),
    #[error("there is nothing to post any more: the webhook, or what it was to be told of, was deleted")]
    Needless,
    #[error(transparent)]
    Unwritten(StoreError),
}

/// What a failed publish means for the job. Nothing when the broker may have it: then its lease decides.
fn event(reason: &Unsent, run: RunId) -> Option<Event> {
    let dispatch = run.dispatch;
    match reason {
        Unsent::Publish(PublishError::TooLarge { size, limit }) => {
            let reason = format!("The input has {size} bytes; the broker takes at most {limit}.");
            Some(Event::Unsendable { dispatch, problem: problem::job::rejected_input(reason) })
        }
        Unsent::Publish(PublishError::Away | PublishError::Returned(_) | PublishError::Refused)
        | Unsent::Unwritten(StoreError::Unavailable(_)) => Some(Event::Unsent { dispatch }),
        Unsent::Needless | Unsent::Unwritten(StoreError::Corrupt(_)) => {
            Some(Event::Unsendable { dispatch, problem: problem::job::rejected_input(reason) })
        }
        Unsent::Publish(PublishError::Unknown) => None,
    }
}

/// The request for a claimed job. It expires before the claim does, so that an unstarted copy is gone before a second
/// one goes out, and no later than the job itself.
fn request(job: &Job, input: Bytes, now: Time) -> Request {
    let claim = job.phase.lease().map_or(Duration::ZERO, |until| until.since(now));
    // What has started once does not expire any more.
    let expires_at = job.expires_at.filter(|_| job.started_at.is_none());
    let expires_in = expires_at.map(|at| at.since(now));
    let fresh = if job.tenant.is_internal() { SIGNED_FRESH } else { Duration::MAX };
    Request {
        run: RunId { job: job.id, dispatch: job.dispatch },
        kind: job.kind.clone(),
        attempt: job.attempt,
        priority: job.priority,
        timeout: job.timeout,
        expiration: (claim * 2 / 3).min(expires_in.unwrap_or(Duration::MAX)).min(fresh),
        expires_in,
        at_most_once: job.delivery == DeliveryMode::AtMostOnce,
        alone: job.suspicion.alone,
        traceparent: None,
        input,
    }
}
