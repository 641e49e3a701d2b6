//! Requests that may bring workers down, and those that come too late.

use std::time::Duration;

use buzzer_shared::message::{Request, ReturnReason, RunResult};
use buzzer_shared::time::Span;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker, WorkerConfig};
use tokio::time::Instant;

use crate::holding::{gate, gate_with};
use crate::stage::{alone, request, stage, stage_with, within};

#[tokio::test(start_paused = true)]
async fn a_request_that_came_back_twice_is_handed_back_and_one_that_came_back_once_runs() {
    let (worker, mut gate) = gate(4);
    gate.open.add_permits(9);
    let (suspect, unlucky) = (request("gate", "1"), request("gate", "2"));
    let mut stage = stage_with(worker, &[(suspect.clone(), 2), (unlucky.clone(), 1)]).await;
    let mut outcomes = [stage.outcome().await, stage.outcome().await];
    outcomes.sort_by_key(|outcome| outcome.started_at.is_some());
    let [back, ran] = outcomes;
    assert_eq!((back.run, back.result), (suspect.run, RunResult::Returned(ReturnReason::Suspect)));
    assert_eq!((ran.run, ran.result), (unlucky.run, RunResult::Succeeded("2".into())));
    assert_eq!((gate.calls.recv().await, gate.calls.try_recv().ok()), (Some(2), None));
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_runs_alone_and_is_acknowledged_before() {
    let (worker, mut gate) = gate(4);
    let suspect = alone("gate", "1");
    let mut stage = stage_with(worker, &[(suspect.clone(), 5)]).await;
    let started = stage.started().await;
    assert_eq!((started.run, started.worker, started.charged), (suspect.run, stage.announced.worker, true));
    gate.called().await;
    // Now the worker crashes: the broker does not have the request any more.
    stage.crash().await;
    assert_eq!(stage.left_over("gate").await, []);
}

/// A worker with the kind `note`, which tells when a run begins and ends; how long it takes is its input, in tenths of a second.
fn note() -> (buzzer_worker::WorkerBuilder, tokio::sync::mpsc::UnboundedReceiver<(&'static str, u64)>) {
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let handler = move |_: JobContext, tenths: u64| {
        let tell = tell.clone();
        async move {
            tell.send(("begins", tenths))?;
            tokio::time::sleep(Duration::from_millis(100 * tenths)).await;
            tell.send(("ends", tenths))?;
            Ok::<_, JobError>(tenths)
        }
    };
    // Beats so often that what it holds is known before anything ends.
    let config = WorkerConfig { beat: Span::from_millis(100), ..WorkerConfig::default() };
    (Worker::builder().config(config).handler("note", handler), told)
}

#[tokio::test(start_paused = true)]
async fn nothing_runs_beside_a_suspect_and_others_go_before_the_next() {
    let (worker, mut told) = note();
    let mut stage = stage(worker).await;
    let (first, suspect, second, last) =
        (stage.request("note", "5"), alone("note", "40"), alone("note", "2"), stage.request("note", "1"));
    stage.send(&first).await;
    assert_eq!(within(told.recv()).await, Some(("begins", 5)));
    for request in [&suspect, &second, &last] {
        stage.send(request).await;
    }
    stage.holds(4).await;

    assert_eq!(stage.outcome().await.run, first.run);
    let started = stage.started().await;
    assert_eq!((started.run, started.charged), (suspect.run, true));
    assert_eq!(stage.outcome().await.run, suspect.run);
    assert_eq!(stage.outcome().await.run, last.run);
    let started = stage.started().await;
    assert_eq!((started.run, started.charged), (second.run, true));
    assert_eq!(stage.outcome().await.run, second.run);
    let mut log = Vec::new();
    while let Ok(line) = told.try_recv() {
        log.push(line);
    }
    let alone = |tenths| [("begins", tenths), ("ends", tenths)];
    assert_eq!(log, [vec![("ends", 5)], alone(40).into(), alone(1).into(), alone(2).into()].concat());
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_takes_hours_lets_others_in_after_a_while_and_takes_its_charge_back() {
    let hours = Duration::from_secs(7200);
    let (worker, mut gate) = gate_with(HandlerOptions::new().slots(2).timeout(hours));
    let same = async |_: JobContext, input: u32| -> Result<u32, JobError> { Ok(input) };
    let mut stage = stage(worker.handler("same", same)).await;
    let suspect = Request { timeout: hours, ..alone("gate", "1") };
    stage.send(&suspect).await;
    assert!(stage.started().await.charged);
    gate.called().await;
    tokio::time::sleep(Duration::from_secs(601)).await;
    let started = stage.started().await;
    assert_eq!((started.run, started.charged), (suspect.run, false));
    assert_eq!(stage.run("same", "2").await.result, RunResult::Succeeded("2".into()));
    gate.open.add_permits(1);
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (suspect.run, RunResult::Succeeded("1".into())));
}

#[tokio::test(start_paused = true)]
async fn a_suspect_waits_a_second_and_is_not_charged_beside_others() {
    let (worker, mut told) = note();
    let mut stage = stage(worker).await;
    let (long, suspect, other) = (stage.request("note", "50"), alone("note", "2"), stage.request("note", "1"));
    stage.send(&long).await;
    assert_eq!(within(told.recv()).await, Some(("begins", 50)));
    let before = Instant::now();
    stage.send(&suspect).await;
    let started = stage.started().await;
    assert_eq!((started.run, started.charged), (suspect.run, false));
    assert_eq!(before.elapsed().as_secs(), 1);
    assert_eq!(within(told.recv()).await, Some(("begins", 2)));
    // It keeps out what comes later, all the same.
    stage.send(&other).await;
    assert_eq!(stage.outcome().await.run, suspect.run);
    assert_eq!(within(told.recv()).await, Some(("ends", 2)));
    assert_eq!(stage.outcome().await.run, other.run);
    assert_eq!(stage.outcome().await.run, long.run);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_outlives_its_run_is_company() {
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let stubborn = move |_: JobContext, (): ()| {
        let _ = released.lock().unwrap().recv();
        Ok::<_, JobError>(())
    };
    async fn quick(_: JobContext, (): ()) -> Result<(), JobError> {
        Ok(())
    }
    let options = HandlerOptions::new().timeout(Duration::from_secs(1));
    let worker = Worker::builder().cpu_handler_with("stubborn", options, stubborn).handler("quick", quick);
    let mut stage = stage(worker).await;
    stage.send(&stage.request("stubborn", "null")).await;
    // The paused clock does not go on by itself while a function blocks a thread.
    let outcome = stage.while_time_goes_on(async |stage| stage.outcome().await).await;
    assert!(matches!(outcome.result, RunResult::Failed { .. }), "{outcome:?}");

    let suspect = alone("quick", "null");
    stage.send(&suspect).await;
    let started = stage.while_time_goes_on(async |stage| stage.started().await).await;
    assert_eq!((started.run, started.charged), (suspect.run, false));
    assert_eq!(stage.outcome().await.run, suspect.run);

    // Once it is gone at last, the next one is charged.
    drop(release);
    let started = loop {
        let suspect = alone("quick", "null");
        stage.send(&suspect).await;
        let started = stage.while_time_goes_on(async |stage| stage.started().await).await;
        assert_eq!(stage.outcome().await.run, suspect.run);
        if started.charged {
            break started;
        }
    };
    assert!(started.charged);
}

#[tokio::test(start_paused = true)]
async fn a_suspect_that_waits_is_handed_back_and_canceled_at_once() {
    let (worker, mut gate) = gate(4);
    let mut stage = stage(worker).await;
    stage.send(&stage.request("gate", "1")).await;
    gate.called().await;
    let (canceled, waits) = (alone("gate", "2"), alone("gate", "3"));
    let before = Instant::now();
    for suspect in [&canceled, &waits] {
        stage.send(suspect).await;
    }
    stage.cancel(&[canceled.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result, outcome.started_at), (canceled.run, RunResult::Canceled, None));
    stage.shutdown.request();
    let outcome = stage.outcome().await;
    let stopping = RunResult::Returned(ReturnReason::Stopping);
    assert_eq!((outcome.run, outcome.result, outcome.started_at), (waits.run, stopping, None));
    assert!(before.elapsed() < Duration::from_secs(1));
    gate.open.add_permits(1);
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn what_comes_too_late_is_not_started() {
    let (worker, mut gate) = gate(1);
    let mut stage = stage(worker).await;
    let expires = |request: Request, left| Request { expires_in: Some(left), ..request };
    let late = expires(stage.request("gate", "1"), Duration::ZERO);
    stage.send(&late).await;
    let outcome = stage.outcome().await;
    let expired = RunResult::Returned(ReturnReason::Expired);
    assert_eq!((outcome.run, &outcome.result, outcome.started_at), (late.run, &expired, None));

    // One in time, and one whose time passes while it waits for the slot.
    let minute = Duration::from_secs(60);
    let (runs, waits) = (expires(alone("gate", "2"), minute), expires(stage.request("gate", "3"), minute));
    stage.send(&runs).await;
    assert_eq!(stage.started().await.run, runs.run);
    assert_eq!(within(gate.calls.recv()).await, Some(2));
    stage.send(&waits).await;
    stage.holds(2).await;
    tokio::time::advance(minute).await;
    gate.open.add_permits(9);
    assert_eq!(stage.outcome().await.result, RunResult::Succeeded("2".into()));
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result, outcome.started_at), (waits.run, expired, None));
    assert!(gate.calls.try_recv().is_err(), "it was started");
}
