//! The worker of `examples/worker`, as a process, with kinds that the API learns from it.

use std::time::Duration;

use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::RabbitNode;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_example_of_a_worker_brings_its_kinds_along() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(&[]).await;
    let mut worker = outside.example_worker();
    api.knows("text.words").await;
    api.knows("name.lookup").await;
    let client = api.client();
    let run = async |kind, input| client.done(&client.accepted(kind, &input).await, LIMIT).await;

    let job = run("text.words", json!({ "text": "To be, or not to be", "top": 1 })).await;
    assert_eq!(job["output"], json!({ "words": 6, "top": [{ "word": "be", "times": 2 }] }), "{job}");
    let job = run("text.words", json!({ "text": "…" })).await;
    assert_eq!(job["error"]["type"], "https://example.com/problems/no-words", "{job}");
    let job = run("name.lookup", json!({ "name": "127.0.0.1" })).await;
    assert_eq!(job["output"], json!({ "addresses": ["127.0.0.1"] }), "{job}");

    let workers = client.get("/v1/workers").await.unwrap().json();
    assert_eq!(workers["items"][0]["refused"], json!([]), "{workers}");
    assert!(worker.terminate().await.success(), "{}", worker.log());
}
