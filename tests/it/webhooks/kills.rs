//! What is told whatever is killed, and by several APIs.

use std::collections::{BTreeMap, BTreeSet};

use buzzer_tests::client::Client;
use buzzer_tests::ledger::{HEALED, Ledger};
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::sink::{Heard, Manner, Sink};
use buzzer_tests::wait::eventually;
use reqwest::Method;
use serde_json::{Value, json};

use super::{SINK, SOON, secret, this};
use crate::faults::{API, WORKER};

/// What was told, and what the logs have, as texts.
struct Told {
    /// By their ids: one event for each id.
    by_id: BTreeMap<String, String>,
}

impl Told {
    fn of(heard: &[Heard], secret: &str) -> Self {
        let mut by_id = BTreeMap::new();
        for one in heard {
            let body = one.json();
            assert_eq!((&body["type"], &body["timestamp"]), (&body["data"]["type"], &body["data"]["at"]));
            assert!(one.is_signed_with(secret), "{one:?}");
            let known = by_id.entry(one.id().to_owned()).or_insert_with(|| body["data"].to_string());
            assert_eq!(*known, body["data"].to_string(), "one id, one event");
        }
        Self { by_id }
    }

    fn events(&self) -> BTreeSet<&str> {
        let events: BTreeSet<_> = self.by_id.values().map(String::as_str).collect();
        assert_eq!(events.len(), self.by_id.len(), "one event, one id");
        events
    }
}

async fn logs(client: &Client, ids: impl Iterator<Item = &String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for id in ids {
        let request = client.request(Method::GET, &format!("/v1/jobs/{id}/events?limit=500"));
        let page = client.send(request.header("accept", "application/json")).await.unwrap().json();
        all.extend(page["items"].as_array().unwrap().iter().map(Value::to_string));
    }
    all
}

const EVERY: [&str; 11] = [
    "job.accepted",
    "job.started",
    "job.progress",
    "job.log",
    "job.output",
    "job.truncated",
    "job.retrying",
    "job.succeeded",
    "job.failed",
    "job.canceled",
    "job.expired",
];

/// What webhooks tell are the events of the logs, whatever is killed: none is missing, and none is made up.
#[tokio::test(flavor = "multi_thread")]
async fn p3_what_is_told_is_what_the_logs_have_whatever_is_killed() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut settings = API.to_vec();
    settings
        .extend([("BUZZER_EGRESS_ALLOW", SINK), ("BUZZER_WEBHOOK_SCHEDULE", "200ms,400ms,800ms,2s,2s,2s,2s,2s,2s")]);
    let mut api = outside.api(&settings).await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(outside.worker(&[WORKER, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat()));
    }
    api.knows("demo.progress").await;
    let (client, sink) = (api.client(), Sink::start().await);
    let body = json!({ "url": sink.url("/every"), "events": EVERY });
    let webhook = client.send(client.request(Method::POST, "/v1/webhooks").json(&body)).await.unwrap().json();
    let mut ledger = Ledger::default();
    for round in 0..3 {
        ledger.submit(&client, "demo.progress", 20, |_| json!({ "steps": 4, "seconds": 1.0 })).await;
        ledger.submit(&client, "demo.flaky", 10, |_| json!({ "fail_times": 1 })).await;
        // Somebody who answers now well, now not.
        sink.behaves("/every", Manner::Status([500, 200, 503][round]));
        // Deliveries that a killed worker had are suspects, and wait for each other.
        sink.hears("/every", 20 * (round + 1), HEALED).await;
        workers[round % 2].kill();
        workers[round % 2].start();
        if round > 0 {
            api.process().kill();
            api.start_again().await;
        }
    }
    sink.behaves("/every", Manner::Status(200));
    for id in ledger.0.keys() {
        client.done(id, HEALED).await;
    }
    let expected = logs(&client, ledger.0.keys()).await;
    eventually("all to be told", HEALED, async || {
        let told: BTreeSet<String> = sink.heard("/every").iter().map(|one| one.json()["data"].to_string()).collect();
        expected.is_subset(&told).then_some(())
    })
    .await;
    let heard = sink.heard("/every");
    let told = Told::of(&heard, secret(&webhook));
    let all: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    // Jobs whose 202 was lost with the API are told of, too.
    let known = |event: &&&str| ledger.0.keys().any(|id| event.contains(id.as_str()));
    assert_eq!(told.events().iter().filter(known).copied().collect::<BTreeSet<_>>(), all);
    assert!(heard.len() > all.len(), "somebody had to be told twice");
}

/// A worker is killed when its POST has just been made, and so is the API: it is made again, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_right_after_the_post_has_it_made_again_under_the_same_id() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[API, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat()).await;
    let mut worker = outside.worker(&[WORKER, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat());
    api.knows("echo").await;
    let (client, sink) = (api.client(), Sink::start().await);
    let post = async |path: &str, body: Value| {
        client.send(client.request(Method::POST, path).json(&body)).await.unwrap().json()
    };
    let webhook = post("/v1/webhooks", json!({ "url": sink.url("/hook") })).await;

    sink.behaves("/hook", Manner::Hangs);
    let id = client.accepted("echo", &json!(1)).await;
    sink.hears("/hook", 1, SOON).await;
    worker.kill();
    sink.behaves("/hook", Manner::Status(200));
    worker.start();
    let heard = sink.hears("/hook", 2, HEALED).await;
    assert_eq!((heard[0].id(), &heard[0].body), (heard[1].id(), &heard[1].body));
    assert!(heard.iter().all(|one| one.is_signed_with(secret(&webhook))));
    client.done(&id, SOON).await;

    // The API is away when the answer comes; the other secret signs then, too.
    sink.behaves("/hook", Manner::Hangs);
    client.accepted("echo", &json!(2)).await;
    sink.hears("/hook", 3, SOON).await;
    let rotated = post(&format!("{}/rotate", this(&webhook)), json!({})).await;
    api.process().kill();
    worker.kill();
    sink.behaves("/hook", Manner::Status(200));
    api.start_again().await;
    worker.start();
    let heard = sink.hears("/hook", 4, HEALED).await;
    assert_eq!(heard[2].id(), heard[3].id());
    assert!(heard[3].is_signed_with(secret(&webhook)));
    eventually("it to be delivered", HEALED, async || {
        let page = client.get(webhook["links"]["deliveries"].as_str().unwrap()).await.ok()?.json();
        page["items"].as_array()?.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    // Whatever goes out from now on.
    post(&format!("{}/test", this(&webhook)), json!({})).await;
    let last = sink.hears("/hook", 5, SOON).await.pop().unwrap();
    assert!(last.is_signed_with(secret(&webhook)) && last.is_signed_with(secret(&rotated)));
}

/// What one replica registers, the other tells of, from its next event on.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_the_same_webhooks() {
    let outside = Outside::on(RabbitNode::shared().await);
    let store = PostgresServer::shared().await.database().await;
    let settings = [&[("BUZZER_STORE", store.as_str()), ("BUZZER_EGRESS_ALLOW", SINK)], API].concat();
    let (one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
    let _worker = outside.worker(&[WORKER, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat());
    one.knows("echo").await;
    other.knows("echo").await;
    let (one, other, sink) = (one.client(), other.client(), Sink::start().await);
    let before = other.accepted("echo", &json!(0)).await;
    other.done(&before, SOON).await;
    let mut ids = BTreeSet::new();
    let mut secrets = Vec::new();
    for (registering, telling, path) in [(&one, &other, "/a"), (&other, &one, "/b")] {
        let body = json!({ "url": sink.url(path), "events": EVERY });
        let created = registering.send(registering.request(Method::POST, "/v1/webhooks").json(&body)).await.unwrap();
        secrets.push((path, secret(&created.json()).to_owned()));
        for n in 0..20 {
            ids.insert(telling.accepted("echo", &json!(n)).await);
        }
    }
    for id in &ids {
        one.done(id, HEALED).await;
    }
    let expected = logs(&one, ids.iter()).await;
    let heard = sink.hears("/a", expected.len(), HEALED).await;
    let told = Told::of(&heard, &secrets[0].1);
    assert_eq!(told.events(), expected.iter().map(String::as_str).collect());
    let second: BTreeSet<_> = expected.iter().filter(|event| !event.contains(&before)).cloned().collect();
    let heard = sink.hears("/b", second.len() / 2, HEALED).await;
    assert!(Told::of(&heard, &secrets[1].1).events().iter().all(|event| expected.contains(*event)));
}
