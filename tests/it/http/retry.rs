use buzzer_tests::inside::Inside;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{is_in, is_problem};

#[tokio::test]
async fn a_retry_runs_a_job_now_or_anew() {
    let buzzer = Inside::start().await;
    let retry = |job: &Value| {
        let path = format!("{}/retry", job["links"]["self"].as_str().unwrap());
        buzzer.request(Method::POST, &path)
    };
    let body = r#"{"input": {"fail_times": 1}, "retry": {"backoff": "1h", "max_backoff": "1h"}, "tags": {"a": "b"}}"#;
    let flaky = buzzer.submit("demo.flaky", body).await.json();
    let this = flaky["links"]["self"].as_str().unwrap();
    is_in(&buzzer, this, "retrying").await;
    let sooner = buzzer.send(retry(&flaky)).await;
    assert_eq!((sooner.status, &sooner.json()["id"]), (StatusCode::OK, &flaky["id"]), "{}", sooner.text);
    let done = buzzer.get(&format!("{this}?wait=30")).await.json();
    assert_eq!((&done["state"], &done["attempt"]), (&json!("succeeded"), &json!(2)), "{done}");

    let anew = async |key: &str| {
        let answer = buzzer.send(retry(&flaky).header("idempotency-key", key)).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
        answer
    };
    let first = anew("again").await;
    let job = first.json();
    assert_eq!(first.header("location"), job["links"]["self"].as_str().unwrap());
    assert_eq!((&job["retry_of"], &job["input"], &job["tags"]), (&flaky["id"], &flaky["input"], &flaky["tags"]));
    assert_ne!(job["id"], flaky["id"]);
    assert_eq!(anew("again").await.json()["id"], job["id"]);
    assert_ne!(anew("once more").await.json()["id"], job["id"]);
    assert_eq!(buzzer.get(this).await.json(), done, "what is done never changes");

    let waits = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    is_problem(&buzzer.send(retry(&waits)).await, 409, "nothing-to-retry");
}
