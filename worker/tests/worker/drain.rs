//! How a worker ends.

use std::time::Duration;

use buzzer_shared::broker::{Broker, PublishError};
use buzzer_shared::message::{ReturnReason, RunResult};
use buzzer_shared::time::Span;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker, WorkerConfig, WorkerError};
use tokio::time::Instant;

use crate::holding::gate;
use crate::stage::{stage, within};

fn grace(seconds: u64) -> WorkerConfig {
    WorkerConfig { drain: Span::from_secs(seconds), ..WorkerConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn what_runs_may_finish_within_the_grace_period() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker.config(grace(30))).await;
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    gate.called().await;
    stage.shutdown.request();
    // It beats on while it drains.
    assert_eq!(stage.beat().await.held, [request.run]);
    gate.open.add_permits(1);
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (request.run, RunResult::Succeeded("1".into())));
    let before = Instant::now();
    stage.ended().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(1), "it waited for nothing");
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn what_has_not_started_and_what_runs_too_long_is_handed_back() {
    let (worker, mut gate) = gate(2);
    let mut stage = stage(worker.config(grace(30))).await;
    let (long, stuck) = (stage.request("gate", "1"), stage.request("gate", "2"));
    for request in [&long, &stuck] {
        stage.send(request).await;
        gate.called().await;
    }
    // Both slots are taken and the prefetch is used up: the third waits at the broker.
    let waiting = stage.request("gate", "3");
    stage.send(&waiting).await;

    let before = Instant::now();
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert!((30..32).contains(&before.elapsed().as_secs()));
    let mut returned = stage.outcomes_here();
    returned.sort_by_key(|outcome| outcome.run.job);
    assert_eq!(returned.iter().map(|outcome| outcome.run).collect::<Vec<_>>(), [long.run, stuck.run]);
    assert!(
        returned.iter().all(
            |outcome| outcome.result == RunResult::Returned(ReturnReason::Stopping) && outcome.started_at.is_some()
        )
    );
    assert_eq!(stage.left_over("gate").await, [waiting.run]);
    let mut last = stage.beat().await;
    while !last.leaving {
        last = stage.beat().await;
    }
    assert_eq!(last.held, []);
}

#[tokio::test(start_paused = true)]
async fn a_worker_whose_last_outcome_nobody_takes_goes_all_the_same() {
    let (worker, mut gate) = gate(2);
    let mut stage = stage(worker.config(grace(1))).await;
    stage.line.refuse(std::iter::repeat_n(PublishError::Unknown, 1_000));
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    gate.called().await;
    let before = Instant::now();
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert!(before.elapsed() < Duration::from_secs(10));
    assert_eq!(stage.outcomes_here(), []);
    // Not acknowledged, so another worker gets it.
    assert_eq!(stage.left_over("gate").await, [request.run]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_closed_ends_the_worker() {
    let (worker, _gate) = gate(1);
    let mut stage = stage(worker).await;
    stage.line.close().await;
    assert!(matches!(stage.ended().await, Err(WorkerError::BrokerClosed)));
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_and_not_started_is_handed_back() {
    let (worker, mut gate) = gate(2);
    let mut stage = stage(worker).await;
    let requests = [stage.request("gate", "1"), stage.request("gate", "2")];
    // Nothing here lets the worker run in between, so it finds both requests and the wish to stop at once.
    for request in &requests {
        stage.send(request).await;
    }
    stage.shutdown.request();
    for request in &requests {
        let outcome = stage.outcome().await;
        assert_eq!(
            (outcome.run, outcome.result, outcome.started_at),
            (request.run, RunResult::Returned(ReturnReason::Stopping), None)
        );
    }
    stage.ended().await.unwrap();
    assert!(gate.calls.try_recv().is_err(), "it was started");
    assert_eq!(stage.left_over("gate").await, []);
}

/// In real time: the paused clock stands still while a blocking thread runs.
#[tokio::test]
async fn what_waits_for_a_core_is_handed_back_at_once() {
    let (tell, mut started) = tokio::sync::mpsc::unbounded_channel();
    let crunch = move |ctx: JobContext, n: u32| {
        tell.send(n)?;
        while !ctx.is_canceled() {
            std::thread::yield_now();
        }
        Ok::<_, JobError>(n)
    };
    let config = WorkerConfig { beat: Span::from_millis(20), ..grace(3600) };
    let options = HandlerOptions::new().slots(2);
    let worker = Worker::builder().config(config).cores(1).cpu_handler_with("crunch", options, crunch);
    let mut stage = stage(worker).await;
    let (runs, waits) = (stage.request("crunch", "1"), stage.request("crunch", "2"));
    stage.send(&runs).await;
    assert_eq!(within(started.recv()).await, Some(1));
    stage.send(&waits).await;
    while stage.beat().await.held.len() < 2 {}
    stage.shutdown.request();
    let outcome = stage.outcome().await;
    assert_eq!(
        (outcome.run, outcome.result, outcome.started_at),
        (waits.run, RunResult::Returned(ReturnReason::Stopping), None)
    );
    // The other one has its grace period, unless somebody asks a second time.
    stage.shutdown.force();
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (runs.run, RunResult::Returned(ReturnReason::Stopping)));
    stage.ended().await.unwrap();
}
