//! What is told, and to whom.

use std::collections::BTreeSet;

use buzzer_shared::time::Span;
use buzzer_tests::sink::{Heard, Manner, Sink};
use buzzer_tests::wait::eventually;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{SOON, attempts, buzzer, delivered, deliveries, events, post, register, secret, this};

#[tokio::test]
async fn an_event_is_posted_signed_and_on_record() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    sink.behaves("/hook", Manner::Says("thank you".into()));
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let job = buzzer.run("echo", r#"{"input": {"n": 1.50,  "text": "ä\u0000"}}"#).await;
    let heard = sink.hears("/hook", 1, SOON).await.remove(0);
    assert!(heard.verifies_with(secret(&webhook)) && heard.is_signed_with(secret(&webhook)), "{heard:?}");
    assert_eq!(heard.header("content-type"), "application/json");
    assert_eq!(heard.header("user-agent"), concat!("buzzer/", env!("CARGO_PKG_VERSION")));
    let last = events(&buzzer, job["id"].as_str().unwrap()).await.pop().unwrap();
    let body = json!({ "type": "job.succeeded", "timestamp": last["at"], "data": last });
    assert_eq!(heard.json(), body, "the event as every other way shows it");
    let text = String::from_utf8(heard.body.to_vec()).unwrap();
    assert!(text.contains(r#"{"n": 1.50,  "text": "ä\u0000"}"#), "byte for byte: {text}");

    let delivery = delivered(&buzzer, &webhook).await;
    assert_eq!(delivery["id"], heard.id());
    assert_eq!(delivery["event"], json!({ "type": "job.succeeded", "job_id": job["id"], "seq": 3 }));
    assert_eq!((&delivery["url"], &delivery["waiting"]), (&json!(sink.url("/hook")), &Value::Null));
    let attempt = &attempts(&delivery)[0];
    assert_eq!(
        (&attempt["status"], &attempt["answer"], &attempt["error"]),
        (&json!(200), &json!("thank you"), &Value::Null)
    );
    assert!(attempt["duration"].as_str().unwrap().parse::<Span>().is_ok() && attempt["at"].is_string(), "{attempt}");
    assert_eq!(sink.everything().len(), 1, "the end of the job, and nothing else");
}

#[tokio::test]
async fn a_webhook_chooses_types_kinds_and_tags() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let types = ["job.accepted", "job.started", "job.progress", "job.succeeded"];
    register(&buzzer, json!({ "url": sink.url("/all"), "events": types })).await;
    register(&buzzer, json!({ "url": sink.url("/kind"), "kinds": ["echo"] })).await;
    register(&buzzer, json!({ "url": sink.url("/tag"), "tags": { "table": "7" } })).await;
    let progress =
        buzzer.run("demo.progress", r#"{"input": {"steps": 2, "seconds": 0.4}, "tags": {"table": "7"}}"#).await;
    let echo = buzzer.run("echo", r#"{"input": 1}"#).await;
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    let mut log = events(&buzzer, &id(&progress)).await;
    log.extend(events(&buzzer, &id(&echo)).await);
    let heard = sink.hears("/all", log.len(), SOON).await;
    let told: BTreeSet<String> = heard.iter().map(|heard| heard.json()["data"].to_string()).collect();
    assert_eq!(told, log.iter().map(Value::to_string).collect());
    let jobs =
        |heard: Vec<Heard>| -> Vec<Value> { heard.iter().map(|one| one.json()["data"]["job_id"].clone()).collect() };
    assert_eq!(jobs(sink.hears("/kind", 1, SOON).await), [echo["id"].clone()]);
    assert_eq!(jobs(sink.hears("/tag", 1, SOON).await), [progress["id"].clone()]);
    assert_eq!(sink.everything().len(), log.len() + 2);
}

#[tokio::test]
async fn a_job_may_name_a_webhook_of_its_own() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let webhook = json!({ "url": sink.url("/own?key=s"), "events": ["job.accepted", "job.succeeded"] });
    let job = buzzer.run("echo", &json!({ "input": 1, "webhook": webhook }).to_string()).await;
    assert_eq!(job["webhook"], webhook);
    let heard = sink.hears("/own", 2, SOON).await;
    let secrets = buzzer.get("/v1/webhooks/jobs/secret").await.json();
    assert!(heard.iter().all(|heard| heard.is_signed_with(secret(&secrets))), "{heard:?}");
    let data = |heard: &Heard| heard.json()["data"].clone();
    let log = events(&buzzer, job["id"].as_str().unwrap()).await;
    assert_eq!(
        heard.iter().map(data).map(|event| event["seq"].as_u64()).collect::<BTreeSet<_>>(),
        [Some(1), Some(3)].into()
    );
    assert!(heard.iter().all(|heard| log.contains(&data(heard))));
    assert_eq!(buzzer.get("/v1/webhooks/jobs/secret").await.json(), secrets, "it stays");

    let all = json!({ "links": { "deliveries": "/v1/webhooks/jobs/deliveries" } });
    let listed = eventually("both to be delivered", SOON, async || {
        let listed = deliveries(&buzzer, &all).await;
        listed.iter().all(|one| one["state"] == "delivered").then_some(listed)
    })
    .await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["url"], sink.url("/own?key=s"));
    let rotated = post(&buzzer, "/v1/webhooks/jobs/rotate", json!({ "overlap": "1h" })).await.json();
    let replay = listed[0]["links"]["replay"].as_str().unwrap();
    assert_eq!(post(&buzzer, replay, json!({})).await.status, StatusCode::ACCEPTED);
    let again = sink.hears("/own", 3, SOON).await.pop().unwrap();
    assert!(again.is_signed_with(secret(&secrets)) && again.is_signed_with(secret(&rotated)), "{again:?}");
    assert_eq!(again.id(), listed[0]["id"]);

    // The end alone, when nothing is said; and a job that is run again tells the same.
    let plain = buzzer.run("echo", &json!({ "input": 2, "webhook": { "url": sink.url("/end") } }).to_string()).await;
    sink.hears("/end", 1, SOON).await;
    let retry = post(&buzzer, &format!("{}/retry", plain["links"]["self"].as_str().unwrap()), json!({})).await.json();
    assert_eq!(retry["webhook"], plain["webhook"]);
    let told = sink.hears("/end", 2, SOON).await;
    assert_eq!(told[1].json()["data"]["job_id"], retry["id"]);
    let without = buzzer.run("echo", r#"{"input": 3}"#).await;
    assert!(without.get("webhook").is_none(), "{without}");
}

#[tokio::test]
async fn the_jobs_that_deliver_are_seen_by_nobody_and_cannot_be_submitted() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let every = ["job.accepted", "job.started", "job.succeeded"];
    register(&buzzer, json!({ "url": sink.url("/hook"), "events": every })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    sink.hears("/hook", 3, SOON).await;
    let input =
        json!({ "url": sink.url("/forged"), "signed": { "id": "a", "timestamp": 1, "signature": "v1,a" }, "body": {} });
    let refused = buzzer.submit("webhook.deliver", &json!({ "input": input }).to_string()).await;
    assert_eq!(
        (refused.status, refused.json()["type"].clone()),
        (StatusCode::FORBIDDEN, json!("/problems/reserved-kind"))
    );
    for (path, items) in [("/v1/jobs", 1), ("/v1/jobs?kind=webhook.deliver", 0)] {
        assert_eq!(buzzer.get(path).await.json()["items"].as_array().unwrap().len(), items, "{path}");
    }
    let kinds = buzzer.get("/v1/kinds").await;
    assert!(!kinds.text.contains("webhook.deliver"), "{}", kinds.text);
    assert_eq!(buzzer.get("/v1/kinds/webhook.deliver").await.status, StatusCode::NOT_FOUND);
    assert!(buzzer.get("/openapi.json").await.json()["paths"].get("/v1/jobs/webhook.deliver").is_none());
    let heard = sink.everything();
    assert_eq!(heard.len(), 3, "what is told is not told of: {heard:?}");
}

#[tokio::test]
async fn nobody_waits_in_the_dark() {
    let sink = Sink::start().await;
    let mut buzzer = buzzer("5s").await;
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    buzzer.stop_workers().await;
    post(&buzzer, &format!("{}/test", this(&webhook)), json!({})).await;
    let waits = deliveries(&buzzer, &webhook).await.remove(0);
    assert_eq!((&waits["state"], &waits["waiting"]), (&json!("pending"), &json!("no worker runs webhook.deliver now")));
    assert!(sink.everything().is_empty());
}
