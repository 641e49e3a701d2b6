//! How a worker ends.

use std::time::Duration;

use buzzer_shared::broker::{Broker, PublishError};
use buzzer_shared::message::RunResult;
use buzzer_shared::time::Span;
use buzzer_worker::{WorkerConfig, WorkerError};
use tokio::time::Instant;

use crate::holding::gate;
use crate::stage::stage;

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
    // Both slots are taken, the prefetch is used up: the copy of a run frees nothing, the third waits at the broker.
    let waiting = stage.request("gate", "3");
    stage.send(&waiting).await;

    let before = Instant::now();
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert!((30..32).contains(&before.elapsed().as_secs()));
    let mut returned = stage.outcomes_here();
    returned.sort_by_key(|outcome| outcome.run.job);
    assert_eq!(returned.iter().map(|outcome| outcome.run).collect::<Vec<_>>(), [long.run, stuck.run]);
    assert!(returned.iter().all(|outcome| outcome.result == RunResult::Returned && outcome.started_at.is_some()));
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
