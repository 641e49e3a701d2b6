//! What was told, on record, and told once more.

use std::collections::BTreeSet;

use buzzer_tests::sink::{Manner, Sink};
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{SOON, buzzer, delivered, deliveries, post, register, this};

#[tokio::test]
async fn deliveries_are_listed_page_by_page_by_state_and_job_and_go_with_their_job() {
    let (buzzer, sink) = (buzzer("1h").await, Sink::start().await);
    sink.behaves("/hook", Manner::Status(500));
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let first = buzzer.run("echo", r#"{"input": 1}"#).await;
    sink.hears("/hook", 1, SOON).await;
    sink.behaves("/hook", Manner::Status(200));
    let second = buzzer.run("echo", r#"{"input": 2}"#).await;
    let list = async |query: &str| {
        let page = buzzer.get(&format!("{}/deliveries?{query}", this(&webhook))).await.json();
        let jobs =
            page["items"].as_array().unwrap().iter().map(|one| one["event"]["job_id"].clone()).collect::<Vec<_>>();
        (jobs, page["next"].clone())
    };
    let (one, two) = (first["id"].clone(), second["id"].clone());
    eventually("the second to be delivered", SOON, async || {
        (list("state=delivered").await.0 == [two.clone()]).then_some(())
    })
    .await;
    assert_eq!(list("").await, (vec![two.clone(), one.clone()], Value::Null));
    let (newest, next) = list("limit=1").await;
    assert_eq!(
        (newest, list(&format!("limit=1&cursor={}", next.as_str().unwrap())).await.0),
        (vec![two.clone()], vec![one.clone()])
    );
    assert_eq!(list("state=pending").await.0, std::slice::from_ref(&one));
    assert_eq!(list("state=failed").await.0, Vec::<Value>::new());
    assert_eq!(list(&format!("job={}", two.as_str().unwrap())).await.0, std::slice::from_ref(&two));
    for bad in ["limit=0", "cursor=j1", "state=done", "job=x"] {
        let refused = buzzer.get(&format!("{}/deliveries?{bad}", this(&webhook))).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}: {}", refused.text);
    }
    buzzer.send(buzzer.request(Method::DELETE, first["links"]["self"].as_str().unwrap())).await;
    assert_eq!(list("").await.0, [two]);
}

#[tokio::test]
async fn events_of_a_time_are_replayed_with_those_that_were_missed() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let run = async |n: u32| buzzer.run("echo", &json!({ "input": n }).to_string()).await;
    let before = run(0).await;
    let missed = run(1).await;
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let told = run(2).await;
    sink.hears("/hook", 1, SOON).await;
    delivered(&buzzer, &webhook).await;
    let after = run(3).await;
    sink.hears("/hook", 2, SOON).await;
    let replay = async |body: Value| post(&buzzer, &format!("{}/replay", this(&webhook)), body).await;
    let (from, to) = (missed["finished_at"].clone(), after["created_at"].clone());
    assert_eq!(replay(json!({ "from": from, "to": to, "undelivered": true })).await.json()["replayed"], 1);
    let heard = sink.hears("/hook", 3, SOON).await;
    assert_eq!(heard[2].json()["data"]["job_id"], missed["id"]);
    assert_ne!(heard[2].json()["data"]["job_id"], before["id"]);
    eventually("both to be delivered", SOON, async || {
        let all = deliveries(&buzzer, &webhook).await;
        all.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    assert_eq!(replay(json!({ "from": from, "to": to })).await.json(), json!({ "replayed": 2, "next": null }));
    let heard = sink.hears("/hook", 5, SOON).await;
    let ids = |job: &Value| -> BTreeSet<String> {
        heard.iter().filter(|one| one.json()["data"]["job_id"] == job["id"]).map(|one| one.id().to_owned()).collect()
    };
    assert_eq!((ids(&told).len(), ids(&missed).len(), ids(&after).len()), (1, 1, 1), "each under its own id");
    for (body, status) in [
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": to, "to": from }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": from, "cursor": "d1" }), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(replay(body.clone()).await.status, status, "{body}");
    }
}
