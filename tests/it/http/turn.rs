use std::time::Duration;

use buzzer_tests::inside::Inside;
use buzzer_tests::wait::eventually;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use serde_json::{Value, json};

use super::SOON;

#[tokio::test]
async fn a_job_waits_for_its_time() {
    let buzzer = Inside::start().await;
    let job = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    assert_eq!((&job["state"], &job["waiting"]["for"]), (&json!("scheduled"), &json!("time")), "{job}");
    let job = buzzer.run("echo", r#"{"input": 1, "delay": "300ms"}"#).await;
    let time = |name: &str| job[name].as_str().unwrap().parse::<buzzer_shared::time::Time>().unwrap();
    assert!(time("started_at").since(time("created_at")) >= Duration::from_millis(300), "{job}");
}

#[tokio::test]
async fn p7_a_job_says_what_it_waits_for() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let first = buzzer.submit("echo", r#"{"input": 1}"#).await.json();
    let second = buzzer.submit("echo", r#"{"input": 2}"#).await.json();
    let urgent = buzzer.submit("echo", r#"{"input": 3, "priority": 9}"#).await.json();
    for (job, position) in [(urgent, 0), (first, 1), (second, 2)] {
        let job = buzzer.get(job["links"]["self"].as_str().unwrap()).await.json();
        assert_eq!(job["state"], "queued");
        assert_eq!(job["waiting"]["for"], "worker", "{job}");
        assert_eq!(job["waiting"]["position"], position, "{job}");
    }
    let stats = buzzer.get("/v1/stats").await.json();
    assert_eq!(
        (&stats["kinds"]["echo"]["waiting"], &stats["kinds"]["echo"]["slots"]),
        (&json!(3), &json!(0)),
        "{stats}"
    );
}

#[tokio::test]
async fn p7_a_worker_that_drains_is_no_worker_for_new_jobs() {
    let buzzer = Inside::start().await;
    let running = buzzer.submit("demo.sleep", r#"{"input": {"seconds": 0.9}}"#).await.json();
    let running = running["links"]["self"].as_str().unwrap();
    eventually("the job to run", SOON, async || (buzzer.get(running).await.json()["state"] == "running").then_some(()))
        .await;
    buzzer.ask_workers_to_stop();
    eventually("a new job to wait for a worker", SOON, async || {
        let job = buzzer.submit("echo", r#"{"input": 1}"#).await.json();
        (job["waiting"]["for"] == "worker").then_some(())
    })
    .await;
    let job = buzzer.get(&format!("{running}?wait=30")).await.json();
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
}

#[tokio::test]
async fn a_job_that_does_not_start_in_time_expires() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let job = buzzer.submit("echo", r#"{"input": 1, "expires": "100ms"}"#).await.json();
    let job = buzzer.get(&format!("{}?wait=30", job["links"]["self"].as_str().unwrap())).await.json();
    assert_eq!(job["state"], "expired", "{job}");
}

#[tokio::test]
async fn higher_priority_goes_first_then_the_oldest() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let mut ids = Vec::new();
    for (n, priority) in [(0, 4), (1, 4), (2, 31), (3, 0), (4, 31)] {
        let job = buzzer.submit("echo", &format!(r#"{{"input": {n}, "priority": {priority}}}"#)).await.json();
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    let slow = async |_: JobContext, input: Value| -> Result<Value, JobError> { Ok(input) };
    buzzer.work(Worker::builder().handler_with("echo", HandlerOptions::new().slots(1), slow)).await;
    let mut ended = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let job = buzzer.get(&format!("/v1/jobs/{id}?wait=30")).await.json();
        ended.push((
            job["started_at"].as_str().unwrap().to_owned(),
            job["finished_at"].as_str().unwrap().to_owned(),
            n,
        ));
    }
    ended.sort();
    let order: Vec<_> = ended.iter().map(|(.., n)| *n).collect();
    let rank = |n: usize| order.iter().position(|at| *at == n).unwrap();
    // Times have milliseconds: what falls into one may stand in either order. One slot, so higher never starts later.
    let started = |n: usize| ended[rank(n)].0.clone();
    assert!(
        started(2) <= started(4) && started(4) <= started(0) && started(0) <= started(1) && started(1) <= started(3),
        "{ended:?}"
    );
}
