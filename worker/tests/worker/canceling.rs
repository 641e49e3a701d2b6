//! What a cancel does to a run, wherever it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use buzzer_shared::message::{Outcome, Retry, ReturnReason, RunResult};
use buzzer_shared::time::Span;
use buzzer_worker::{HandlerOptions, JobContext, JobError, RawJson, StockConfig, Worker, WorkerConfig, stock_worker};
use tokio::time::Instant;

use crate::holding::gate;
use crate::stage::{alone, stage, within};

/// Tells that it is called, and ends as it is told to once it is asked to stop.
async fn listens(ctx: JobContext, how: String) -> Result<String, JobError> {
    ctx.progress(1.0, "called");
    ctx.canceled().await;
    assert!(ctx.is_canceled());
    match how.as_str() {
        "done" => Ok(how),
        "panic" => panic!("asked to"),
        _ => Err(JobError::retry("stopped halfway")),
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_to_stop_ends_as_canceled_unless_the_work_was_done() {
    let mut stage = stage(Worker::builder().handler("listens", listens)).await;
    for (how, result) in [
        ("done", RunResult::Succeeded("\"done\"".into())),
        ("failed", RunResult::Canceled),
        ("panic", RunResult::Canceled),
    ] {
        let request = stage.request("listens", &format!("{how:?}"));
        stage.send(&request).await;
        assert_eq!(stage.signal().await.run, request.run);
        let before = Instant::now();
        stage.cancel(&[request.run]).await;
        let outcome = stage.outcome().await;
        assert_eq!((outcome.run, outcome.result), (request.run, result));
        assert!(outcome.started_at.is_some());
        assert!(before.elapsed() < Duration::from_secs(1), "it waited for the grace period");
        while !stage.signals_here().is_empty() {}
    }
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("listens").await, []);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_stop_is_dropped_after_the_grace_period() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let gone = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&gone);
    let (tell, mut called) = tokio::sync::mpsc::unbounded_channel();
    let deaf = move |_: JobContext, _: RawJson| {
        let (dropped, tell) = (Dropped(Arc::clone(&seen)), tell.clone());
        async move {
            let _dropped = dropped;
            tell.send(())?;
            std::future::pending::<Result<(), JobError>>().await
        }
    };
    let config = WorkerConfig { cancel_grace: Span::from_secs(7), ..WorkerConfig::default() };
    let mut stage = stage(Worker::builder().config(config).handler("deaf", deaf)).await;
    let request = stage.request("deaf", "1");
    stage.send(&request).await;
    within(called.recv()).await.unwrap();
    let before = Instant::now();
    stage.cancel(&[request.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (request.run, RunResult::Canceled));
    assert!((7..8).contains(&before.elapsed().as_secs()), "{:?}", before.elapsed());
    assert!(gone.load(Ordering::SeqCst), "it goes on");
}

#[tokio::test(start_paused = true)]
async fn who_is_out_of_time_while_it_stops_was_canceled() {
    let (worker, mut gate) = gate(1);
    let mut stage = stage(worker).await;
    let mut request = stage.request("gate", "1");
    request.timeout = Duration::from_secs(2);
    stage.send(&request).await;
    gate.called().await;
    stage.cancel(&[request.run]).await;
    assert_eq!(stage.outcome().await.result, RunResult::Canceled);
}

/// In real time: the paused clock stands still while a blocking thread runs.
#[tokio::test]
async fn a_function_that_does_not_stop_is_canceled_and_keeps_its_core() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let (tell, mut called) = tokio::sync::mpsc::unbounded_channel();
    let crunch = move |ctx: JobContext, stubborn: bool| {
        tell.send(())?;
        if stubborn {
            let _ = released.lock().unwrap().recv();
            assert!(ctx.is_canceled());
        }
        Ok::<_, JobError>(stubborn)
    };
    let config = WorkerConfig { cancel_grace: Span::from_millis(50), ..WorkerConfig::default() };
    let options = HandlerOptions::new().slots(2);
    let worker = Worker::builder().config(config).cores(1).cpu_handler_with("crunch", options, crunch);
    let mut stage = stage(worker).await;
    let stubborn = stage.request("crunch", "true");
    stage.send(&stubborn).await;
    within(called.recv()).await.unwrap();
    stage.cancel(&[stubborn.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (stubborn.run, RunResult::Canceled));

    let mut next = stage.request("crunch", "false");
    next.timeout = Duration::from_millis(50);
    stage.send(&next).await;
    assert_eq!(stage.outcome().await.result, RunResult::Returned(ReturnReason::NoSlot));
    drop(release);
    assert_eq!(stage.run("crunch", "false").await.result, RunResult::Succeeded("false".into()));
}

fn assert_canceled_unstarted(outcome: &Outcome) {
    assert_eq!((&outcome.result, outcome.started_at), (&RunResult::Canceled, None));
}

#[tokio::test(start_paused = true)]
async fn a_cancel_that_comes_before_its_request_is_remembered() {
    let (worker, mut gate) = gate(2);
    let mut stage = stage(worker).await;
    gate.open.add_permits(9);
    let (canceled, other) = (stage.request("gate", "1"), stage.request("gate", "2"));
    // Said more than once, as the API does.
    stage.cancel(&[canceled.run]).await;
    stage.cancel(&[canceled.run]).await;
    stage.send(&canceled).await;
    let outcome = stage.outcome().await;
    assert_eq!(outcome.run, canceled.run);
    assert_canceled_unstarted(&outcome);
    stage.send(&other).await;
    assert_eq!(stage.outcome().await.run, other.run);
    assert_eq!(gate.calls.recv().await, Some(2));
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("gate").await, []);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slot_is_canceled_at_once() {
    let (worker, mut gate) = gate(1);
    let mut stage = stage(worker).await;
    // Acknowledged early, so that the next ones come although its slot is taken.
    let runs = alone("gate", "1");
    stage.send(&runs).await;
    gate.called().await;
    assert_eq!(stage.started().await.run, runs.run);
    let waits = stage.request("gate", "2");
    stage.send(&waits).await;
    stage.holds(2).await;
    stage.cancel(&[waits.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!(outcome.run, waits.run);
    assert_canceled_unstarted(&outcome);

    // The place is free again, and the next one is not canceled.
    let next = stage.request("gate", "3");
    stage.send(&next).await;
    gate.open.add_permits(2);
    assert_eq!((stage.outcome().await.run, stage.outcome().await.run), (runs.run, next.run));
    assert_eq!(gate.calls.recv().await, Some(3));
}

/// In real time: the paused clock stands still while a blocking thread runs.
#[tokio::test]
async fn who_waits_for_a_core_is_canceled_at_once() {
    let (tell, mut called) = tokio::sync::mpsc::unbounded_channel();
    let crunch = move |ctx: JobContext, n: u32| {
        tell.send(n)?;
        while !ctx.is_canceled() {
            std::thread::yield_now();
        }
        Ok::<_, JobError>(n)
    };
    let config = WorkerConfig { beat: Span::from_millis(20), ..WorkerConfig::default() };
    let options = HandlerOptions::new().slots(2);
    let worker = Worker::builder().config(config).cores(1).cpu_handler_with("crunch", options, crunch);
    let mut stage = stage(worker).await;
    let (runs, waits) = (stage.request("crunch", "1"), stage.request("crunch", "2"));
    stage.send(&runs).await;
    assert_eq!(within(called.recv()).await, Some(1));
    stage.send(&waits).await;
    stage.holds(2).await;
    stage.cancel(&[waits.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!(outcome.run, waits.run);
    assert_canceled_unstarted(&outcome);
    // And the other goes on until it is asked itself.
    stage.cancel(&[runs.run]).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, outcome.result), (runs.run, RunResult::Succeeded("1".into())));
    assert!(called.try_recv().is_err(), "it was called");
}

#[tokio::test(start_paused = true)]
async fn demos_stop_at_once() {
    let config = StockConfig { demo: true, ..StockConfig::default() };
    let mut stage = stage(stock_worker(&config)).await;
    for (kind, input) in [("demo.sleep", r#"{"seconds": 200}"#), ("demo.progress", r#"{"steps": 2, "seconds": 200}"#)] {
        let request = stage.request(kind, input);
        stage.send(&request).await;
        assert_eq!(stage.signal().await.run, request.run);
        let before = Instant::now();
        stage.cancel(&[request.run]).await;
        let outcome = stage.outcome().await;
        assert_eq!((outcome.run, outcome.result), (request.run, RunResult::Canceled));
        assert!(before.elapsed() < Duration::from_secs(1), "{kind} took {:?}", before.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_cancels_itself_is_nobodys_wish() {
    let stops_itself = async |ctx: JobContext, _: u32| -> Result<u32, JobError> {
        ctx.cancellation().cancel();
        Err(JobError::fail("the children were stopped"))
    };
    let mut stage = stage(Worker::builder().handler("stops", stops_itself)).await;
    let outcome = stage.run("stops", "1").await;
    assert!(matches!(outcome.result, RunResult::Failed { retry: Retry::Never, .. }), "{outcome:?}");
}
