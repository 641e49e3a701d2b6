//! What a worker holds, and how it lets go.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buzzer_shared::broker::{Line, PublishError};
use buzzer_shared::message::RunResult;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker, WorkerBuilder};
use tokio::sync::{Semaphore, mpsc};

use crate::stage::{stage, within};

/// A handler that tells when it is called, and goes on when it is let.
pub(crate) struct Gate {
    pub(crate) calls: mpsc::UnboundedReceiver<u32>,
    pub(crate) open: Arc<Semaphore>,
}

impl Gate {
    pub(crate) async fn called(&mut self) {
        within(self.calls.recv()).await.unwrap();
    }
}

/// A worker with the kind `gate`, of so many slots.
pub(crate) fn gate(slots: u16) -> (WorkerBuilder, Gate) {
    gate_with(HandlerOptions::new().slots(slots).timeout(Duration::from_secs(600)))
}

pub(crate) fn gate_with(options: HandlerOptions) -> (WorkerBuilder, Gate) {
    let (tell, calls) = mpsc::unbounded_channel();
    let open = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&open);
    let handler = move |_: JobContext, input: u32| {
        let (tell, gate) = (tell.clone(), Arc::clone(&gate));
        async move {
            tell.send(input)?;
            gate.acquire().await?.forget();
            Ok::<_, JobError>(input)
        }
    };
    (Worker::builder().handler_with("gate", options, handler), Gate { calls, open })
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_request_is_adopted_while_it_runs() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker).await;
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    gate.called().await;
    stage.send(&request).await;
    // A second request behind it: when that one runs, the redelivery has been looked at.
    let other = stage.request("gate", "2");
    stage.send(&other).await;
    gate.called().await;

    gate.open.add_permits(2);
    let mut runs = [stage.outcome().await.run, stage.outcome().await.run];
    runs.sort_by_key(|run| run.job);
    assert_eq!(runs, [request.run, other.run]);
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert!(gate.calls.try_recv().is_err(), "it ran twice");
    // Of the two deliveries the later one was acknowledged. The first, whose line is gone in real life, was not.
    assert_eq!(stage.left_over("gate").await, [request.run]);
}

#[tokio::test(start_paused = true)]
async fn a_redelivered_request_is_adopted_while_its_outcome_waits_for_the_broker() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker).await;
    stage.line.refuse([PublishError::Refused, PublishError::Unknown, PublishError::Returned("no queue".into())]);
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    gate.called().await;
    gate.open.add_permits(9);
    stage.send(&request).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (request.run, RunResult::Succeeded("1".into())));
    assert_eq!(stage.line.refused(), 3);

    // And once more when all is said: then it is only acknowledged.
    stage.send(&request).await;
    let other = stage.request("gate", "2");
    stage.send(&other).await;
    assert_eq!(stage.outcome().await.run, other.run);
    gate.called().await;
    assert!(gate.calls.try_recv().is_err(), "it ran twice");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_held_until_the_broker_takes_it() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker).await;
    gate.open.add_permits(9);
    stage.line.refuse(std::iter::repeat_n(PublishError::Unknown, 50));
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    gate.called().await;
    // Not answered, so still held: the lease must live.
    assert_eq!(stage.beat().await.held, [request.run]);
    assert_eq!(stage.outcome().await.run, request.run);
    assert_eq!(stage.line.refused(), 50);
    assert_eq!(within(async { while !stage.beat().await.held.is_empty() {} }).await, ());
}

#[tokio::test(start_paused = true)]
async fn an_outcome_goes_out_when_the_broker_is_back() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker).await;
    gate.open.add_permits(9);
    stage.line.pretend(Line::Away("cable cut".into()));
    stage.line.refuse([PublishError::Away]);
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    gate.called().await;
    within(async {
        while stage.line.refused() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    stage.line.pretend(Line::Up);
    let before = tokio::time::Instant::now();
    assert_eq!(stage.outcome().await.run, request.run);
    assert!(before.elapsed() < Duration::from_secs(1), "it did not look at the line");
}

#[tokio::test(start_paused = true)]
async fn slots_bound_what_runs_at_a_time() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (running, peak) = (Arc::clone(&now), Arc::clone(&most));
    let handler = move |_: JobContext, _: u32| {
        let (running, peak) = (Arc::clone(&running), Arc::clone(&peak));
        async move {
            peak.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(1)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok::<_, JobError>(())
        }
    };
    let mut stage = stage(Worker::builder().handler_with("few", HandlerOptions::new().slots(3), handler)).await;
    for _ in 0..10 {
        stage.send(&stage.request("few", "0")).await;
    }
    for _ in 0..10 {
        stage.outcome().await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
