//! Where every delivery of one kind is looked at: is it to be run?

use std::future::Future;
use std::sync::Arc;

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::broker::{Delivery, Subscriber};
use buzzer_shared::kind::DeliveryMode;
use buzzer_shared::message::{Message, Request, ReturnReason, RunResult, Unreadable};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::execute::Executor;
use crate::held::{Held, Hold, Taken};
use crate::registry::Registered;

/// A request that came back to the queue so often may be what brings workers down.
const SUSPECT: u32 = 2;

/// Sorts out what is not to be run, and looks after all that was begun.
#[derive(Debug)]
pub(crate) struct Desk {
    kind: Arc<Registered>,
    queue: Arc<str>,
    held: Held,
    executor: Arc<Executor>,
    /// Everything that was begun and is not yet acknowledged.
    answers: TaskTracker,
}

/// What is done about a request that is new here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Run,
    /// It goes back, and comes again to be run alone.
    Suspect,
    /// It was delivered before, and nobody knows whether it was run.
    Refuse,
}

impl Desk {
    pub(crate) fn new(kind: Arc<Registered>, queue: Arc<str>, held: Held, executor: Arc<Executor>) -> Self {
        Self { kind, queue, held, executor, answers: TaskTracker::new() }
    }

    pub(crate) fn kind(&self) -> &Arc<Registered> {
        &self.kind
    }

    pub(crate) fn queue(&self) -> &Arc<str> {
        &self.queue
    }

    /// Changes whenever a run that is held, of whatever kind, was asked to stop.
    pub(crate) fn cancels(&self) -> watch::Receiver<()> {
        self.held.cancels()
    }

    pub(crate) fn executor(&self) -> &Arc<Executor> {
        &self.executor
    }

    /// The request, if it is to be run. Otherwise all that is to be done about it is done or under way.
    pub(crate) fn receive(&self, delivery: Delivery) -> Option<(Request, Hold)> {
        let request = match read(&delivery.message, &self.kind) {
            Ok(request) => request,
            Err(reason) => {
                self.park(delivery, reason);
                return None;
            }
        };
        let hold = match self.held.take(request.run, delivery.receipt) {
            Taken::New(hold) => hold,
            Taken::Adopted => {
                debug!(job.id = %request.run.job, "A redelivered request is adopted by its run");
                return None;
            }
            Taken::Settled(receipt) => {
                receipt.acknowledge();
                return None;
            }
        };
        self.admit(request, hold, delivery.redeliveries)
    }

    /// Begins something that ends with an acknowledgement.
    pub(crate) fn spawn(&self, answering: impl Future<Output = ()> + Send + 'static) {
        self.answers.spawn(answering);
    }

    /// Answers a request that was not started.
    pub(crate) fn answer_unstarted(&self, hold: Hold, result: RunResult) {
        let executor = Arc::clone(&self.executor);
        self.spawn(async move { executor.answer_unstarted(hold, result).await });
    }

    /// The worker stops: hands back what still comes, and waits until all that was begun is answered. The subscriber
    /// must live until then: without it nothing can be acknowledged.
    pub(crate) async fn close(self, mut subscriber: Option<Subscriber>, give_up: &CancellationToken) {
        if let Some(subscriber) = &mut subscriber {
            subscriber.stop();
            tokio::select! {
                biased;
                () = self.hand_back_rest(subscriber) => {}
                () = give_up.cancelled() => {}
            }
        }
        self.answers.close();
        self.answers.wait().await;
    }

    async fn hand_back_rest(&self, subscriber: &mut Subscriber) {
        while let Some(delivery) = subscriber.next().await {
            if let Some((_, hold)) = self.receive(delivery) {
                self.answer_unstarted(hold, RunResult::Returned(ReturnReason::Stopping));
            }
        }
    }

    fn admit(&self, request: Request, hold: Hold, redeliveries: u32) -> Option<(Request, Hold)> {
        // What was promised when the job was accepted holds, too.
        let mode = if request.at_most_once { DeliveryMode::AtMostOnce } else { self.kind.spec.delivery };
        match admission(mode, request.alone, redeliveries) {
            Admission::Run => return Some((request, hold)),
            Admission::Suspect => {
                info!(job.id = %request.run.job, redeliveries, "A request that comes again and again is handed back");
                self.answer_unstarted(hold, RunResult::Returned(ReturnReason::Suspect));
            }
            Admission::Refuse => {
                let id = request.run.job;
                warn!(job.id = %id, redeliveries, "A job is not run: it was delivered before, and runs at most once");
                hold.acknowledge();
            }
        }
        None
    }

    fn park(&self, delivery: Delivery, reason: Unreadable) {
        let (executor, queue) = (Arc::clone(&self.executor), Arc::clone(&self.queue));
        self.spawn(async move {
            if executor.outcomes.park(delivery.message, &queue, &reason).await.is_ok() {
                delivery.receipt.acknowledge();
            }
        });
    }
}

fn admission(mode: DeliveryMode, alone: bool, redeliveries: u32) -> Admission {
    match mode {
        DeliveryMode::AtMostOnce if redeliveries > 0 && !bites(Fault::RunRedelivered) => Admission::Refuse,
        DeliveryMode::AtLeastOnce if redeliveries >= SUSPECT && !alone => Admission::Suspect,
        _ => Admission::Run,
    }
}

/// The request, if it is one for this kind.
fn read(message: &Message, kind: &Registered) -> Result<Request, Unreadable> {
    let request = Request::read(message)?;
    if request.kind == kind.spec.name {
        Ok(request)
    } else {
        Err(Unreadable::Header { name: "kind", expected: "the kind of the queue that it came from" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_came_too_often_is_a_suspect_and_who_may_run_once_comes_once() {
        use Admission::{Refuse, Run, Suspect};
        use DeliveryMode::{AtLeastOnce, AtMostOnce};
        for (mode, alone, redeliveries, expected) in [
            (AtLeastOnce, false, 0, Run),
            (AtLeastOnce, false, 1, Run),
            (AtLeastOnce, false, 2, Suspect),
            (AtLeastOnce, true, 9, Run),
            (AtMostOnce, false, 0, Run),
            (AtMostOnce, true, 0, Run),
            (AtMostOnce, false, 1, Refuse),
            (AtMostOnce, true, 1, Refuse),
        ] {
            assert_eq!(admission(mode, alone, redeliveries), expected, "{mode:?} {alone} {redeliveries}");
        }
    }
}
