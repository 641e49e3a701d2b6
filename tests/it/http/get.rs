use buzzer_shared::time::{Clock, SystemClock};
use buzzer_tests::inside::Inside;
use reqwest::{Method, StatusCode};

use super::is_problem;

#[tokio::test]
async fn an_etag_spares_what_is_known() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("echo", r#"{"input": 1}"#).await;
    let this = job["links"]["self"].as_str().unwrap();
    let seq = &job["seq"];
    for tag in [format!("W/\"{seq}\""), format!("\"{seq}\""), format!("\"x\", W/\"{seq}\""), "*".into()] {
        let answer = buzzer.send(buzzer.request(Method::GET, this).header("if-none-match", &tag)).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::NOT_MODIFIED, ""), "{tag}");
        assert_eq!(answer.header("cache-control"), "private, no-cache");
    }
    let other = buzzer.request(Method::GET, this).header("if-none-match", "W/\"1\"");
    assert_eq!(buzzer.send(other).await.status, StatusCode::OK);
}

#[tokio::test]
async fn methods_are_what_http_says_they_are() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("echo", r#"{"input": 1}"#).await;
    let this = job["links"]["self"].as_str().unwrap();
    let wrong = buzzer.send(buzzer.request(Method::DELETE, "/v1/jobs")).await;
    is_problem(&wrong, 405, "wrong-method");
    assert!(wrong.header("allow").contains("GET"), "{:?}", wrong.headers);
    let (get, head) = (buzzer.get(this).await, buzzer.send(buzzer.request(Method::HEAD, this)).await);
    assert_eq!((head.status, head.text.as_str()), (StatusCode::OK, ""));
    for name in ["etag", "content-type", "content-length"] {
        assert_eq!(head.header(name), get.header(name), "{name}");
    }
}

#[tokio::test]
async fn a_job_that_is_unknown_is_404_and_one_that_is_too_old_410() {
    let buzzer = Inside::start().await;
    // A UUIDv7 begins with the milliseconds.
    let id = |millis: i64| format!("{:08x}-{:04x}-7000-8000-000000000000", millis >> 16, millis & 0xffff);
    let now = SystemClock.now().as_millis();
    is_problem(&buzzer.get(&format!("/v1/jobs/{}", id(now))).await, 404, "unknown-job");
    is_problem(&buzzer.get(&format!("/v1/jobs/{}", id(now - 2 * 3_600_000))).await, 410, "job-gone");
}

#[tokio::test]
async fn there_is_no_result_before_the_end() {
    let buzzer = Inside::start().await;
    let job = buzzer.submit("demo.sleep", r#"{"input": {"seconds": 60}}"#).await.json();
    let answer = buzzer.get(job["links"]["result"].as_str().unwrap()).await;
    is_problem(&answer, 409, "no-result");
    assert!(["queued", "running"].contains(&answer.json()["state"].as_str().unwrap()));
}
