//! What a run ends with.

use std::sync::mpsc;
use std::time::Duration;

use buzzer_shared::broker::PublishError;
use buzzer_shared::config::ByteSize;
use buzzer_shared::message::{Header, Message, Retry, ReturnReason, RunResult};
use buzzer_shared::problem::job;
use buzzer_worker::{
    Handler, HandlerOptions, JobContext, JobError, RawJson, StockConfig, Worker, WorkerConfig, stock_worker,
};
use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::stage::{failure, stage};

#[derive(Deserialize, Serialize, JsonSchema)]
struct Number {
    number: i64,
}

async fn double(_: JobContext, input: Number) -> Result<Number, JobError> {
    Ok(Number { number: input.number * 2 })
}

#[tokio::test(start_paused = true)]
async fn a_success_carries_its_output() {
    let mut stage = stage(Worker::builder().handler("double", double)).await;
    let outcome = stage.run("double", r#"{"number": 21}"#).await;
    assert_eq!(outcome.result, RunResult::Succeeded(Bytes::from_static(br#"{"number":42}"#)));
    assert_eq!(outcome.worker, stage.announced.worker);
    assert!(outcome.started_at.is_some());
}

#[tokio::test(start_paused = true)]
async fn echo_gives_back_the_very_bytes() {
    let mut stage = stage(stock_worker(&StockConfig::default())).await;
    for input in [r#" {"b":1.50,"a":"\u0000","a":1e400} "#, "null", "\"ä\"", "123456789012345678901234567890"] {
        let outcome = stage.run("echo", input).await;
        assert_eq!(outcome.result, RunResult::Succeeded(Bytes::copy_from_slice(input.as_bytes())));
    }
}

#[tokio::test(start_paused = true)]
async fn an_input_of_another_shape_is_rejected_and_tried_again() {
    let mut stage = stage(Worker::builder().handler("double", double)).await;
    for input in [r#"{"number": "x"}"#, "{", ""] {
        let outcome = stage.run("double", input).await;
        let (problem, retry) = failure(&outcome);
        assert_eq!((problem.r#type.as_str(), retry), (job::REJECTED_INPUT, Retry::Policy));
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_says_whether_to_try_again() {
    async fn fail(_: JobContext, how: String) -> Result<(), JobError> {
        match how.as_str() {
            "retry" => Err(JobError::retry("no answer")),
            "later" => Err(JobError::retry_after(Duration::from_secs(9), "busy")),
            "never" => Err(JobError::fail("no such card").with_type("https://example.com/card")),
            _ => Ok(Err(std::io::Error::other("cable cut"))?),
        }
    }
    let mut stage = stage(Worker::builder().handler("fail", fail)).await;
    for (how, r#type, detail, retry) in [
        ("retry", job::FAILED, "no answer", Retry::Policy),
        ("later", job::FAILED, "busy", Retry::After(Duration::from_secs(9))),
        ("never", "https://example.com/card", "no such card", Retry::Never),
        ("error", job::FAILED, "cable cut", Retry::Policy),
    ] {
        let outcome = stage.run("fail", &format!("{how:?}")).await;
        let (problem, found) = failure(&outcome);
        assert_eq!((problem.r#type.as_str(), problem.detail.as_deref(), found), (r#type, Some(detail), retry));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_fails_its_job_and_nothing_else() {
    /// Panics when it is dropped.
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            panic!("stepped on");
        }
    }
    async fn panics(_: JobContext, how: String) -> Result<(), JobError> {
        match how.as_str() {
            "run" => panic!("number {}", 7),
            "drop" => {
                let _mine = Mine;
                std::future::pending().await
            }
            _ => Ok(()),
        }
    }
    let mut stage = stage(
        Worker::builder()
            .handler("panics", panics)
            .cpu_handler("cpu", |_, (): ()| -> Result<(), _> { panic!("from a core") }),
    )
    .await;
    for (kind, input, text) in
        [("panics", r#""run""#, "number 7"), ("panics", r#""drop""#, "stepped on"), ("cpu", "null", "from a core")]
    {
        let outcome = stage.run(kind, input).await;
        let (problem, retry) = failure(&outcome);
        assert_eq!((problem.r#type.as_str(), problem.detail.as_deref()), (job::PANIC, Some(text)));
        assert_eq!(retry, Retry::Policy);
    }
    assert!(matches!(stage.run("panics", r#""well""#).await.result, RunResult::Succeeded(_)));
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_its_timeout_and_a_job_may_only_shorten_it() {
    async fn forever(_: JobContext, _: RawJson) -> Result<(), JobError> {
        std::future::pending().await
    }
    let options = HandlerOptions::new().timeout(Duration::from_secs(2));
    let mut stage = stage(Worker::builder().handler_with("forever", options, forever)).await;
    for (asked, limit) in [(Duration::from_millis(50), 50), (Duration::from_secs(50), 2000)] {
        let mut request = stage.request("forever", "null");
        request.timeout = asked;
        let before = tokio::time::Instant::now();
        stage.send(&request).await;
        let outcome = stage.outcome().await;
        let (problem, retry) = failure(&outcome);
        assert_eq!((problem.r#type.as_str(), retry), (job::TIMEOUT, Retry::Policy));
        // The paused clock is exact, but for its granule of a millisecond.
        let took = before.elapsed().as_millis();
        assert!((limit..limit + 5).contains(&took), "{took}");
    }
}

/// In real time: the paused clock stands still while a blocking thread runs.
#[tokio::test]
async fn a_cpu_handler_that_ignores_its_timeout_stops_nobody_else() {
    let (release, released) = mpsc::channel::<()>();
    let released = std::sync::Mutex::new(released);
    let crunch = move |ctx: JobContext, stubborn: bool| {
        if stubborn {
            let _ = released.lock().unwrap().recv();
            assert!(ctx.is_canceled());
        }
        Ok::<_, JobError>(stubborn)
    };
    let worker = Worker::builder().cores(2).cpu_handler("crunch", crunch).handler("double", double);
    let mut stage = stage(worker).await;
    let mut stubborn = stage.request("crunch", "true");
    stubborn.timeout = Duration::from_millis(50);
    stage.send(&stubborn).await;
    let outcome = stage.outcome().await;
    assert_eq!((outcome.run, failure(&outcome).0.r#type.as_str()), (stubborn.run, job::TIMEOUT));

    // One core is still taken, the other is free, and so are the async threads.
    assert!(matches!(stage.run("crunch", "false").await.result, RunResult::Succeeded(_)));
    assert!(matches!(stage.run("double", r#"{"number":1}"#).await.result, RunResult::Succeeded(_)));

    // With the second taken too, a third finds none within its time and is handed back.
    stubborn.run.dispatch = 2;
    stage.send(&stubborn).await;
    assert_eq!(failure(&stage.outcome().await).0.r#type, job::TIMEOUT);
    let mut late = stage.request("crunch", "false");
    late.timeout = Duration::from_millis(50);
    stage.send(&late).await;
    let outcome = stage.outcome().await;
    assert_eq!(
        (outcome.run, outcome.result, outcome.started_at),
        (late.run, RunResult::Returned(ReturnReason::NoSlot), None)
    );

    // When they come back at last, so do their cores.
    drop(release);
    assert!(matches!(stage.run("crunch", "false").await.result, RunResult::Succeeded(_)));
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_too_large_fails_for_good() {
    async fn long(_: JobContext, length: usize) -> Result<String, JobError> {
        Ok("x".repeat(length))
    }
    let config = WorkerConfig { max_body: ByteSize(100), ..WorkerConfig::default() };
    let mut stage = stage(Worker::builder().config(config).handler("long", long)).await;
    assert!(matches!(stage.run("long", "98").await.result, RunResult::Succeeded(_)));

    let outcome = stage.run("long", "99").await;
    let (problem, retry) = failure(&outcome);
    assert_eq!((problem.r#type.as_str(), retry), (job::OUTPUT_TOO_LARGE, Retry::Never));
    assert_eq!((&problem.more["size"], &problem.more["limit"]), (&101.into(), &100.into()));

    // Or the broker itself takes less.
    stage.line.refuse([PublishError::TooLarge { size: 52, limit: 40 }]);
    let outcome = stage.run("long", "50").await;
    assert_eq!(failure(&outcome).0.more["limit"], 40);
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_request_is_parked_with_its_reason() {
    let mut stage = stage(Worker::builder().handler("double", double)).await;
    let good = stage.request("double", r#"{"number":1}"#).to_message();
    let strange = Message { r#type: "buzzer.request.v9".into(), ..good.clone() };
    let other = stage.request("triple", "3").to_message();
    for (message, reason) in [(strange, "buzzer.request.v9"), (other, "kind of the queue")] {
        stage.send_message("double", message.clone()).await;
        let parked = stage.parked().await;
        let (rest, told) = parked.headers.split_at(message.headers.len());
        let [(from, Header::Text(queue)), (why, Header::Text(said))] = told else { panic!("{told:?}") };
        assert_eq!((from.as_ref(), why.as_ref()), ("parked-from", "parked-reason"));
        assert!(queue.ends_with("requests.double.v1") && said.contains(reason), "{queue}: {said}");
        assert_eq!((&parked.r#type, &parked.body, parked.expiration), (&message.r#type, &message.body, None));
        assert_eq!(rest, message.headers);
    }
    // They are acknowledged, and the worker goes on.
    stage.send_message("double", good).await;
    assert!(matches!(stage.outcome().await.result, RunResult::Succeeded(_)));
    stage.shutdown.request();
    stage.ended().await.unwrap();
    assert_eq!(stage.left_over("double").await, []);
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_be_a_type() {
    struct Adder {
        plus: i64,
    }
    impl Handler for Adder {
        const KIND: &'static str = "add";
        type Input = Number;
        type Output = Number;

        fn options(&self) -> HandlerOptions {
            HandlerOptions::new().title("Add").slots(3)
        }

        async fn run(&self, _: JobContext, input: Number) -> Result<Number, JobError> {
            Ok(Number { number: input.number + self.plus })
        }
    }
    let mut stage = stage(Worker::builder().register(Adder { plus: 5 })).await;
    let spec = &stage.announced.kinds[0];
    assert_eq!((spec.title.as_str(), spec.slots), ("Add", 3));
    assert_eq!(stage.run("add", r#"{"number":2}"#).await.result, RunResult::Succeeded(r#"{"number":7}"#.into()));
}
