use buzzer_tests::inside::Inside;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::is_problem;

#[tokio::test]
async fn only_a_job_that_is_done_can_be_deleted() {
    let buzzer = Inside::start().await;
    let delete = |job: &Value| buzzer.send(buzzer.request(Method::DELETE, job["links"]["self"].as_str().unwrap()));
    let later = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    is_problem(&delete(&later).await, 409, "not-done");
    let done = buzzer.run("echo", r#"{"input": 1}"#).await;
    let deleted = delete(&done).await;
    assert_eq!((deleted.status, deleted.json()), (StatusCode::OK, done.clone()));
    is_problem(&delete(&done).await, 404, "unknown-job");
    is_problem(&buzzer.get(done["links"]["self"].as_str().unwrap()).await, 404, "unknown-job");
}
