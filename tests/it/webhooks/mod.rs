//! Webhooks: what is told, to whom, how often, and what becomes of those who do not listen.

mod endpoints;
mod kills;
mod record;
mod telling;
mod trouble;

use std::time::Duration;

use buzzer_tests::inside::{Answer, Inside};
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::Value;

const SINK: &str = "127.0.0.0/8";
/// For what takes a moment, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// As long as an endpoint has to answer, and what is around it.
const HUNG: Duration = Duration::from_secs(40);

/// A Buzzer whose webhooks may live on this machine, and which tries again soon.
async fn buzzer(schedule: &str) -> Inside {
    let schedule = schedule.parse().unwrap();
    Inside::allowing(SINK, |config| config.webhooks.webhook_schedule = schedule).await
}

async fn post(buzzer: &Inside, path: &str, body: Value) -> Answer {
    buzzer.send(buzzer.request(Method::POST, path).json(&body)).await
}

/// Registers a webhook, and returns it as it was answered, with its secret.
async fn register(buzzer: &Inside, body: Value) -> Value {
    let answer = post(buzzer, "/v1/webhooks", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let webhook = answer.json();
    assert_eq!(answer.header("location"), webhook["links"]["self"].as_str().unwrap());
    webhook
}

fn this(webhook: &Value) -> &str {
    webhook["links"]["self"].as_str().unwrap()
}

async fn deliveries(buzzer: &Inside, webhook: &Value) -> Vec<Value> {
    let answer = buzzer.get(webhook["links"]["deliveries"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["items"].as_array().unwrap().clone()
}

/// The only delivery to a webhook, once it fits.
async fn delivery(buzzer: &Inside, webhook: &Value, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(what, HUNG, async || {
        let all = deliveries(buzzer, webhook).await;
        assert!(all.len() < 2, "{all:?}");
        all.into_iter().find(|delivery| fits(delivery))
    })
    .await
}

async fn delivered(buzzer: &Inside, webhook: &Value) -> Value {
    delivery(buzzer, webhook, "it to be delivered", |delivery| delivery["state"] == "delivered").await
}

fn attempts(delivery: &Value) -> &Vec<Value> {
    delivery["attempts"].as_array().unwrap()
}

async fn events(buzzer: &Inside, job: &str) -> Vec<Value> {
    let request = buzzer.request(Method::GET, &format!("/v1/jobs/{job}/events?limit=500"));
    let page = buzzer.send(request.header("accept", "application/json")).await.json();
    page["items"].as_array().unwrap().clone()
}

fn secret(webhook: &Value) -> &str {
    webhook["secret"].as_str().unwrap()
}
