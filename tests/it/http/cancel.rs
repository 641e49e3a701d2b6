use buzzer_shared::id::JobId;
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_tests::inside::Inside;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{is_in, is_problem};

#[tokio::test]
async fn p5_a_cancel_is_done_asked_or_too_late() {
    let buzzer = Inside::start().await;
    let post = |path: String| buzzer.send(buzzer.request(Method::POST, &path));
    let cancel = |job: &Value| post(job["links"]["cancel"].as_str().unwrap().to_owned());

    let later = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    for _ in 0..2 {
        let canceled = cancel(&later).await;
        let job = canceled.json();
        assert_eq!((canceled.status, &job["state"], &job["done"]), (StatusCode::OK, &json!("canceled"), &json!(true)));
        assert!(job["finished_at"].is_string() && job["error"].is_null() && job["output"].is_null(), "{job}");
    }

    let running = buzzer.submit("demo.sleep", r#"{"input": {"seconds": 200}}"#).await.json();
    let this = running["links"]["self"].as_str().unwrap();
    is_in(&buzzer, this, "running").await;
    let asked = cancel(&running).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED);
    assert!(asked.json()["cancel_requested_at"].is_string(), "{}", asked.text);
    assert_eq!(asked.header("etag"), "W/\"2-to-stop\"", "it is not what it was");
    let job = buzzer.get(&format!("{this}?wait=30")).await.json();
    assert_eq!((&job["state"], &job["attempt"]), (&json!("canceled"), &json!(1)), "{job}");

    let done = buzzer.run("echo", r#"{"input": 1}"#).await;
    let late = cancel(&done).await;
    is_problem(&late, 409, "too-late");
    assert_eq!(late.json()["state"], "succeeded");
    is_problem(&post(format!("/v1/jobs/{}/cancel", JobId::new(SystemClock.now()))).await, 404, "unknown-job");
    is_problem(&post("/v1/jobs/x/cancel".into()).await, 400, "bad-id");
}
