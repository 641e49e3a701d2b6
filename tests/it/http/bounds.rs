use buzzer_shared::config::ByteSize;
use buzzer_tests::inside::Inside;
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};

use super::{SOON, is_problem};

#[tokio::test]
async fn p8_past_the_bound_a_submission_is_refused_until_there_is_room() {
    let buzzer = Inside::with(|config| config.max_waiting = 3).await;
    let key = |key: &'static str| {
        let request = buzzer.submission("demo.sleep", r#"{"input": {"seconds": 0}, "delay": "1h"}"#);
        buzzer.send(request.header("idempotency-key", key))
    };
    let mut jobs = Vec::new();
    for name in ["a", "b", "c"] {
        jobs.push(key(name).await.json());
    }
    let refused = key("d").await;
    is_problem(&refused, 503, "too-many-waiting");
    assert!(!refused.header("retry-after").is_empty());
    assert_eq!(key("a").await.json()["id"], jobs[0]["id"], "what was accepted is still answered for");
    let cancel = jobs[0]["links"]["cancel"].as_str().unwrap();
    assert_eq!(buzzer.send(buzzer.request(Method::POST, cancel)).await.status, StatusCode::OK);
    eventually("room for one more", SOON, async || (key("d").await.status == StatusCode::ACCEPTED).then_some(())).await;
    is_problem(&key("e").await, 503, "too-many-waiting");

    let buzzer = Inside::with(|config| config.max_stored = ByteSize(1)).await;
    is_problem(&buzzer.submit("echo", r#"{"input": 1}"#).await, 503, "store-full");
}
