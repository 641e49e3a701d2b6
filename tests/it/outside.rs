//! Real processes, on a real RabbitMQ.

use std::time::Duration;

use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use serde_json::json;

const JOB_LIMIT: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_and_both_services_stop_cleanly() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[]).await;
    let mut worker = outside.worker(&[]);
    api.knows("echo").await;
    let id = api.client().accepted("echo", &json!({"text": "hello"})).await;
    let job = api.client().done(&id, JOB_LIMIT).await;
    assert_eq!((&job["state"], &job["output"]), (&json!("succeeded"), &json!({"text": "hello"})));
    assert!(worker.terminate().await.success(), "{}", worker.log());
    assert!(api.process().terminate().await.success(), "{}", api.process().log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_job_survives_a_crash_of_the_api() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[]).await;
    let _worker = outside.worker(&[]);
    api.knows("demo.sleep").await;
    let client = api.client();
    let id = client.accepted("demo.sleep", &json!({"seconds": 2})).await;
    eventually("the job to run", JOB_LIMIT, async || {
        client.job(&id).await.ok().filter(|job| job["state"] == "running")
    })
    .await;
    api.process().kill();
    api.start_again().await;
    assert_eq!(api.client().done(&id, JOB_LIMIT).await["state"], "succeeded");
}
