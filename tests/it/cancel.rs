//! A cancel lasts, whoever is killed between the wish and its fulfilment.

use buzzer_tests::client::Client;
use buzzer_tests::ledger::HEALED;
use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use reqwest::Method;
use serde_json::json;

async fn cancel(client: &Client, id: &str) -> u16 {
    let request = client.request(Method::POST, &format!("/v1/jobs/{id}/cancel"));
    client.send(request).await.unwrap().status.as_u16()
}

async fn runs(client: &Client, id: &str) {
    eventually(&format!("{id} to run"), HEALED, async || {
        (client.job(id).await.ok()?["state"] == "running").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_cancel_outlives_the_api_and_reaches_a_worker_that_was_deaf() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[]).await;
    let mut worker = outside.worker(&[("BUZZER_BEAT", "500ms")]);
    api.knows("demo.sleep").await;
    let client = api.client();
    let id = client.accepted("demo.sleep", &json!({ "seconds": 200 })).await;
    runs(&client, &id).await;
    worker.pause();
    assert_eq!(cancel(&client, &id).await, 202);
    api.process().kill();
    api.start_again().await;
    let job = client.job(&id).await.unwrap();
    assert_eq!((&job["done"], &job["cancel_requested_at"].is_string()), (&json!(false), &true), "{job}");
    worker.resume();
    assert_eq!(client.done(&id, HEALED).await["state"], "canceled");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_canceled_job_ends_although_its_worker_is_lost() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(&[("BUZZER_CLAIM_LEASE", "3s"), ("BUZZER_RUN_LEASE", "4s")]).await;
    let mut worker = outside.worker(&[("BUZZER_BEAT", "500ms")]);
    api.knows("demo.sleep").await;
    let client = api.client();
    let id = client.accepted("demo.sleep", &json!({ "seconds": 200 })).await;
    runs(&client, &id).await;
    worker.pause();
    assert_eq!(cancel(&client, &id).await, 202);
    worker.kill();
    let job = client.done(&id, HEALED).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("canceled"), &json!(1)), "{job}");
    // Whoever takes its request now has nothing to do.
    let _next = outside.worker(&[]);
    let other = client.accepted("echo", &json!(1)).await;
    assert_eq!(client.done(&other, HEALED).await["state"], "succeeded");
    assert_eq!(client.job(&id).await.unwrap(), job);
}
