use std::time::Duration;

use buzzer_shared::retry::RetryPolicy;
use buzzer_tests::inside::Inside;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

#[tokio::test]
async fn a_run_that_signals_its_start_began_when_it_did() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("demo.sleep", r#"{"input": {"seconds": 0.3}}"#).await;
    let time = |name: &str| job[name].as_str().unwrap().parse::<buzzer_shared::time::Time>().unwrap();
    assert!(time("finished_at").since(time("started_at")) >= Duration::from_millis(300), "{job}");
}

#[tokio::test]
async fn a_failure_is_tried_again_as_often_as_the_job_allows() {
    let buzzer = Inside::start().await;
    let flaky = |max: u32| {
        format!(
            r#"{{"input": {{"fail_times": 2}}, "retry": {{"max_attempts": {max}, "backoff": "1ms", "max_backoff": "5ms"}}}}"#
        )
    };
    let job = buzzer.run("demo.flaky", &flaky(3)).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(3)), "{job}");
    assert_eq!(job["error"], Value::Null);
    let job = buzzer.run("demo.flaky", &flaky(2)).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(2)), "{job}");
}

#[tokio::test]
async fn a_handler_that_panics_overruns_or_outgrows_fails_its_own_job_alone() {
    static STUCK: Semaphore = Semaphore::const_new(0);
    let mut buzzer = Inside::start().await;
    let once = || HandlerOptions::new().retry(RetryPolicy::NEVER);
    let panics = async |_: JobContext, _: Value| -> Result<Value, JobError> { panic!("out of flour") };
    let overruns = async |_: JobContext, _: Value| -> Result<Value, JobError> {
        let _ = STUCK.acquire().await;
        Ok(Value::Null)
    };
    let outgrows = async |_: JobContext, _: Value| -> Result<String, JobError> { Ok("x".repeat(2 << 20)) };
    let ignores = |_: JobContext, _: Value| -> Result<Value, JobError> {
        let (_keep, wait) = std::sync::mpsc::channel::<()>();
        let _ = wait.recv_timeout(Duration::from_secs(3));
        Ok(Value::Null)
    };
    let worker = Worker::builder()
        .handler_with("bad.panic", once(), panics)
        .handler_with("bad.overrun", once().timeout(Duration::from_millis(100)), overruns)
        .handler_with("bad.outgrow", once(), outgrows)
        .cpu_handler_with("bad.ignore", once().timeout(Duration::from_millis(100)), ignores);
    buzzer.work(worker).await;
    let run = |kind: &'static str| buzzer.run(kind, r#"{"input": null}"#);
    let (panicked, overrun, outgrown, ignored, good) =
        tokio::join!(run("bad.panic"), run("bad.overrun"), run("bad.outgrow"), run("bad.ignore"), run("echo"));
    for (job, slug) in [(panicked, "panic"), (overrun, "timeout"), (outgrown, "output-too-large"), (ignored, "timeout")]
    {
        assert_eq!(
            (&job["state"], &job["error"]["type"]),
            (&json!("failed"), &json!(format!("/problems/{slug}"))),
            "{job}"
        );
    }
    assert_eq!(good["state"], "succeeded");
}

#[tokio::test]
async fn what_was_accepted_survives_a_restart_with_the_embedded_broker() {
    let mut buzzer = Inside::start().await;
    let running = buzzer.submit("demo.sleep", r#"{"input": {"seconds": 0.2}}"#).await.json();
    buzzer.stop_workers().await;
    let waiting = buzzer.submit("echo", r#"{"input": "later"}"#).await.json();
    let mut buzzer = buzzer.restart().await;
    buzzer.work(buzzer_worker::stock_worker(&buzzer_worker::StockConfig { demo: true, ..Default::default() })).await;
    for job in [running, waiting] {
        let job = buzzer.get(&format!("{}?wait=30", job["links"]["self"].as_str().unwrap())).await.json();
        assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
    }
}
