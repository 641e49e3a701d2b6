//! Handing over what must not be lost: outcomes, the word that a run starts, and requests that cannot be read.

use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::broker::{Broker, Line, PublishError};
use buzzer_shared::message::{Message, Outcome, Retry, RunResult, Started, Unreadable};
use buzzer_shared::problem::job;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Span;
use buzzer_shared::topology::{Route, Topology};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

/// How soon a refused outcome is tried again.
const BACKOFF: RetryPolicy =
    RetryPolicy { max_attempts: u32::MAX, backoff: Span::from_millis(200), max_backoff: Span::from_secs(5) };
/// With the broker away, so often at least it is tried whether it is back.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The way to the replies' queue and to the parking. What is on its way is bounded by the requests that are held.
#[derive(Debug)]
pub(crate) struct Outcomes {
    broker: Arc<dyn Broker>,
    outcome: Route,
    parking: Route,
    /// Canceled when the worker goes, whether all is handed over or not.
    give_up: CancellationToken,
}

/// The worker goes before the broker took the message. The request comes again, to another worker.
#[derive(Debug)]
pub(crate) struct GaveUp;

impl Outcomes {
    pub(crate) fn new(broker: Arc<dyn Broker>, topology: &Topology, give_up: CancellationToken) -> Self {
        Self { broker, outcome: topology.outcome(), parking: topology.parking(), give_up }
    }

    /// Hands an outcome over, and ends when the broker answers for it: now it may be acknowledged. An output that the
    /// broker will never take becomes a failure.
    pub(crate) async fn send(&self, mut outcome: Outcome) -> Result<(), GaveUp> {
        self.hand_over(&self.outcome, outcome.to_message(), |message, size, limit| {
            outcome.result = too_large(size, limit);
            *message = outcome.to_message();
        })
        .await
    }

    /// Says that a run starts, and ends when the broker answers for that: now its request may be acknowledged.
    pub(crate) async fn say_started(&self, started: &Started) -> Result<(), GaveUp> {
        self.hand_over(&self.outcome, started.to_message(), |_, _, _| {}).await
    }

    /// Puts a message aside that nobody can read, with the reason and all that came with it; without its body, if it is
    /// too large for the broker with that.
    pub(crate) async fn park(&self, message: Message, queue: &str, reason: &Unreadable) -> Result<(), GaveUp> {
        warn!(message.id = ?message.message_id, %reason, "A request is parked: it cannot be read");
        self.hand_over(&self.parking, message.parked(queue, reason), |message, _, _| message.body = Bytes::new()).await
    }

    /// Tries for ever while the broker is away or says no. `shrink` is given the size of a message that it will never
    /// take, and the limit.
    async fn hand_over(
        &self,
        route: &Route,
        mut message: Message,
        mut shrink: impl FnMut(&mut Message, usize, usize),
    ) -> Result<(), GaveUp> {
        let mut tries = 0;
        loop {
            let Err(error) = self.broker.publish(route.clone(), message.clone()).await else { return Ok(()) };
            if bites(Fault::SkipConfirm) {
                return Ok(());
            }
            debug!(message.id = ?message.message_id, r#type = %message.r#type, %error, "A message was not taken yet");
            if let PublishError::TooLarge { size, limit } = error {
                shrink(&mut message, size, limit);
            }
            tries += 1;
            self.pause(tries, &error).await?;
        }
    }

    /// Waits before the next try: for the broker when it is away, else as the backoff has it.
    async fn pause(&self, tries: u32, error: &PublishError) -> Result<(), GaveUp> {
        let wait = async {
            if *error == PublishError::Away {
                let mut line = self.broker.line();
                // An error means that the broker was closed; then only the worker's end ends the waiting.
                let _ = tokio::time::timeout(LOOK_AGAIN, line.wait_for(|line| *line == Line::Up)).await;
            }
            // Also after an outage: what all workers hold then must not come in one instant.
            tokio::time::sleep(BACKOFF.delay(tries, fastrand::f64())).await;
        };
        tokio::select! {
            () = wait => Ok(()),
            () = self.give_up.cancelled() => Err(GaveUp),
        }
    }
}

/// What a run ends with whose output nobody takes. Never tried again: the output would be as large.
pub(crate) fn too_large(size: usize, limit: usize) -> RunResult {
    RunResult::Failed { problem: job::output_too_large(size, limit), retry: Retry::Never }
}
