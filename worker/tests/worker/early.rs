//! Kinds that are acknowledged before they run: long ones, and those that run at most once.

use std::time::Duration;

use buzzer_shared::broker::PublishError;
use buzzer_shared::message::{ReturnReason, RunResult, SignalBody};
use buzzer_shared::time::Span;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker, WorkerBuilder, WorkerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::holding::{Gate, gate_with};
use crate::stage::{request, stage, stage_with, within};

/// A worker with the kind `gate`, whose runs may take hours.
fn long(slots: u16) -> (WorkerBuilder, Gate) {
    gate_with(HandlerOptions::new().slots(slots).timeout(Duration::from_secs(4 * 3600)))
}

/// A worker with the kind `gate`, whose jobs are run at most once.
fn once(slots: u16) -> (WorkerBuilder, Gate) {
    gate_with(HandlerOptions::new().slots(slots).at_most_once())
}

#[tokio::test(start_paused = true)]
async fn it_is_acknowledged_before_it_runs_and_then_lives_on_the_beats() {
    for (worker, mut gate) in [long(2), once(2)] {
        let mut stage = stage(worker).await;
        let request = stage.request("gate", "1");
        stage.send(&request).await;
        let started = stage.started().await;
        assert_eq!((started.run, started.worker, started.charged), (request.run, stage.announced.worker, false));
        gate.called().await;
        assert_eq!(stage.beat().await.held, [request.run]);
        gate.open.add_permits(1);
        let outcome = stage.outcome().await;
        assert_eq!((outcome.run, outcome.result), (request.run, RunResult::Succeeded("1".into())));
        assert_eq!(outcome.started_at, Some(started.at));

        // And the next one's worker crashes: the broker does not have the request any more.
        stage.send(&stage.request("gate", "2")).await;
        gate.called().await;
        stage.crash().await;
        assert_eq!(stage.left_over("gate").await, []);
    }
}

#[tokio::test(start_paused = true)]
async fn it_is_not_run_before_the_broker_answers_for_the_word_of_its_start() {
    let (worker, mut gate) = long(2);
    let mut stage = stage(worker).await;
    stage.line.refuse([PublishError::Away, PublishError::Unknown, PublishError::Refused]);
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    stage.refused(2).await;
    assert!(gate.calls.try_recv().is_err(), "it was called");
    assert_eq!(stage.started().await.run, request.run);
    gate.called().await;
    assert_eq!(stage.line.refused(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_crash_before_that_leaves_the_request_to_others() {
    let (worker, mut gate) = long(2);
    let mut stage = stage(worker).await;
    stage.line.refuse(std::iter::repeat_n(PublishError::Unknown, 1_000));
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    stage.refused(3).await;
    stage.crash().await;
    assert_eq!(stage.left_over("gate").await, [request.run]);
    assert!(gate.calls.try_recv().is_err(), "it was called");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_meanwhile_does_not_run_it() {
    let (worker, mut gate) = long(1);
    let mut stage = stage(worker).await;
    stage.line.refuse(std::iter::repeat_n(PublishError::Unknown, 1_000));
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    stage.refused(3).await;
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.outcomes_here(), []);
    assert_eq!(stage.left_over("gate").await, [request.run]);
    assert!(gate.calls.try_recv().is_err(), "it was called");
}

#[tokio::test(start_paused = true)]
async fn a_cancel_meanwhile_is_answered_without_a_start() {
    let (worker, mut gate) = once(1);
    let mut stage = stage(worker).await;
    stage.line.refuse(std::iter::repeat_n(PublishError::Unknown, 2));
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    stage.refused(1).await;
    stage.cancel(&[request.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result, outcome.started_at), (request.run, RunResult::Canceled, None));
    assert!(gate.calls.try_recv().is_err(), "it was called");
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn its_signals_tell_of_progress_only() {
    async fn reports(ctx: JobContext, (): ()) -> Result<(), JobError> {
        for percent in [10.0, 20.0] {
            ctx.progress(percent, "");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(())
    }
    let options = HandlerOptions::new().at_most_once();
    let mut stage = stage(Worker::builder().handler_with("reports", options, reports)).await;
    stage.send(&stage.request("reports", "null")).await;
    for (n, percent) in [(1, 10.0), (2, 20.0)] {
        let signal = stage.signal().await;
        let told = SignalBody::Progress { percent: Some(percent), message: None };
        assert_eq!((signal.n, signal.body), (n, told));
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_takes_no_more_than_it_has_slots_for_and_nothing_goes_back() {
    async fn quick(_: JobContext, n: u32) -> Result<u32, JobError> {
        Ok(n)
    }
    let (worker, mut gate) = long(2);
    let mut stage = stage(worker.handler("quick", quick)).await;
    let requests: Vec<_> = (1..=3).map(|n| stage.request("gate", &n.to_string())).collect();
    for request in &requests {
        stage.send(request).await;
    }
    for request in &requests[..2] {
        assert_eq!(stage.started().await.run, request.run);
        gate.called().await;
    }
    // Whoever else comes gets the third, which this worker never had; others of its kinds run on.
    assert_eq!(stage.untaken("gate").await, (requests[2].run, 0));
    assert!(matches!(stage.run("quick", "5").await.result, RunResult::Succeeded(_)));
    assert_eq!(stage.beat().await.held.len(), 2);

    gate.open.add_permits(1);
    assert_eq!(stage.outcome().await.result, RunResult::Succeeded("1".into()));
    assert_eq!(stage.started().await.run, requests[2].run);
}

#[tokio::test(start_paused = true)]
async fn what_comes_although_no_slot_is_free_is_handed_back() {
    let (worker, mut gate) = long(1);
    let mut stage = stage(worker).await;
    let requests: Vec<_> = (1..=3).map(|n| stage.request("gate", &n.to_string())).collect();
    stage.send(&requests[0]).await;
    assert_eq!(stage.started().await.run, requests[0].run);
    gate.called().await;
    // While it takes nothing, two come together.
    stage.line.overdo();
    for request in &requests[1..] {
        stage.send(request).await;
    }
    gate.open.add_permits(1);
    assert_eq!(stage.outcome().await.run, requests[0].run);
    let back = stage.outcome().await;
    let no_slot = RunResult::Returned(ReturnReason::NoSlot);
    assert_eq!((back.run, back.result, back.started_at), (requests[2].run, no_slot, None));
    assert_eq!(stage.started().await.run, requests[1].run);
    gate.called().await;
    stage.crash().await;
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn many_go_through_few_slots_each_once() {
    // One that came again would be refused.
    let (worker, gate) = once(2);
    let mut stage = stage(worker).await;
    gate.open.add_permits(100);
    let requests: Vec<_> = (0..30).map(|n| stage.request("gate", &n.to_string())).collect();
    for request in &requests {
        stage.send(request).await;
    }
    let mut ended = Vec::new();
    while ended.len() < requests.len() {
        if let Some(outcome) = stage.outcome_or_start().await {
            assert!(matches!(outcome.result, RunResult::Succeeded(_)), "{outcome:?}");
            ended.push(outcome.run);
        }
    }
    ended.sort_by_key(|run| run.job);
    ended.dedup();
    assert_eq!(ended.len(), requests.len());
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("gate").await, []);
}

/// In real time, since it asks over a socket.
#[tokio::test]
async fn a_worker_whose_slots_are_taken_is_well() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (worker, mut gate) = long(1);
    let stage = stage(worker.listen(address)).await;
    let ask = async || {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    stage.send(&stage.request("gate", "1")).await;
    gate.called().await;
    let answer = within(ask()).await;
    assert!(answer.contains(r#""status":"ok""#) && answer.contains(r#""kinds":{"gate":true}"#), "{answer}");
    // It takes again once its slot is free.
    gate.open.add_permits(2);
    stage.send(&stage.request("gate", "2")).await;
    gate.called().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_begun_and_is_cut_says_that_it_was_begun() {
    let (worker, mut gate) = once(1);
    let config = WorkerConfig { drain: Span::from_secs(1), ..WorkerConfig::default() };
    let mut stage = stage(worker.config(config)).await;
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    let started = stage.started().await;
    gate.called().await;
    stage.shutdown.request();
    let outcome = stage.outcome().await;
    let stopping = RunResult::Returned(ReturnReason::Stopping);
    assert_eq!((outcome.run, outcome.result, outcome.started_at), (request.run, stopping, Some(started.at)));
    stage.ended().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_came_before_is_never_run_if_it_may_run_once_only() {
    let (worker, mut gate) = once(1);
    gate.open.add_permits(9);
    let (came_before, new) = (request("gate", "1"), request("gate", "2"));
    let mut stage = stage_with(worker, &[(came_before, 1), (new.clone(), 0)]).await;
    // Refused without a word.
    assert_eq!(stage.started().await.run, new.run);
    assert_eq!(stage.outcome().await.run, new.run);
    assert_eq!(within(gate.calls.recv()).await, Some(2));
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.outcomes_here(), []);
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_long_run_that_comes_again_is_only_acknowledged() {
    let (worker, mut gate) = long(2);
    let mut stage = stage(worker).await;
    let request = stage.request("gate", "1");
    stage.send(&request).await;
    assert_eq!(stage.started().await.run, request.run);
    gate.called().await;
    // As after a line that broke before the acknowledgement reached the broker.
    stage.send(&request).await;
    // With a prefetch of one, the next comes only when that one is acknowledged.
    let next = stage.request("gate", "2");
    stage.send(&next).await;
    assert_eq!(stage.started().await.run, next.run);
    assert_eq!(within(gate.calls.recv()).await, Some(2));
    assert!(gate.calls.try_recv().is_err(), "it ran twice");
    stage.crash().await;
    assert_eq!(stage.left_over("gate").await, []);
}
