use buzzer_tests::inside::{Inside, MAX_BODY};
use reqwest::Method;
use serde_json::json;

use super::is_problem;

#[tokio::test]
async fn what_cannot_be_read_or_is_refused_is_a_problem_and_nothing_is_stored() {
    let buzzer = Inside::start().await;
    let good = r#"{"input": 1}"#;
    let cases = [
        (buzzer.submission("echo", "{\"input\": "), 400, "broken-json"),
        (buzzer.submission("echo", "{} {}"), 422, "invalid-request"),
        (buzzer.submission("echo", "{\"input\": 1} x"), 400, "broken-json"),
        (buzzer.submission("echo", ""), 400, "broken-json"),
        (buzzer.submission("echo", "[]"), 422, "invalid-request"),
        (buzzer.submission("echo", "[1]"), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "retry": [3]}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "delay": "87601h"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "expires": "3651d"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "run_at": "9999-12-30T00:00:00Z"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "timeout": "500us"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "colour": "red"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "delay": "soon"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "delay": 5}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "delay": "5s", "expires": "1s"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "timeout": "1000h"}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "run_at": "tomorrow"}"#), 422, "invalid-request"),
        (
            buzzer.submission("echo", r#"{"input": 1, "delay": "1s", "run_at": "2026-11-22T17:14:00Z"}"#),
            422,
            "invalid-request",
        ),
        (buzzer.submission("echo", r#"{"input": 1, "priority": 32}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "retry": {"max_attempts": 0}}"#), 422, "invalid-request"),
        (buzzer.submission("echo", r#"{"input": 1, "tags": {"a:b": "c"}}"#), 422, "invalid-request"),
        (buzzer.submission("demo.sleep", r#"{"input": {"seconds": "long"}}"#), 422, "invalid-input"),
        (buzzer.submission("no.such.kind", good), 404, "unknown-kind"),
        (buzzer.submission("NoKind!", good), 404, "unknown-kind"),
        (buzzer.submission("echo", &format!("\"{}\"", "x".repeat(MAX_BODY))), 413, "too-large"),
        (buzzer.submission("echo", good).header("idempotency-key", ""), 400, "bad-header"),
        (buzzer.request(Method::POST, "/v1/jobs/echo").body(good), 415, "wrong-media-type"),
        (
            buzzer.request(Method::POST, "/v1/jobs/echo").header("content-type", "text/plain").body(good),
            415,
            "wrong-media-type",
        ),
        (buzzer.submission("echo", good).header("content-encoding", "gzip"), 415, "wrong-encoding"),
        (buzzer.request(Method::PUT, "/v1/jobs/echo"), 405, "wrong-method"),
        (buzzer.request(Method::GET, "/v1/jobs/not-an-id"), 400, "bad-id"),
        (buzzer.request(Method::GET, "/v1/jobs/not-an-id/result"), 400, "bad-id"),
        (buzzer.request(Method::GET, "/v1/jobs?cursor=17"), 400, "bad-cursor"),
        (buzzer.request(Method::GET, "/v1/jobs?limit=0"), 400, "bad-query"),
        (buzzer.request(Method::GET, "/v1/jobs?limit=x"), 400, "bad-query"),
        (buzzer.request(Method::GET, "/v1/jobs?colour=red"), 400, "bad-query"),
        (buzzer.request(Method::GET, "/v1/jobs?state=asleep"), 400, "bad-query"),
        (buzzer.request(Method::GET, "/v1/jobs?tag=x"), 400, "bad-query"),
        (buzzer.request(Method::GET, "/v1/jobs/01932d5c-0000-7000-8000-000000000000?wait=x"), 400, "bad-query"),
        (buzzer.request(Method::GET, "/nowhere"), 404, "no-such-path"),
        (buzzer.request(Method::GET, "/v1/kinds/nothing"), 404, "unknown-kind"),
        (buzzer.request(Method::GET, "/problems/nothing"), 404, "no-such-path"),
    ];
    for (request, status, slug) in cases {
        is_problem(&buzzer.send(request).await, status, slug);
    }
    assert_eq!(buzzer.count().await, 0);
}

#[tokio::test]
async fn a_body_without_a_length_is_bounded_too() {
    let buzzer = Inside::start().await;
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; MAX_BODY / 10]));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let request = buzzer.request(Method::POST, "/v1/jobs/echo").header("content-type", "application/json").body(body);
    is_problem(&buzzer.send(request).await, 413, "too-large");
}

#[tokio::test]
async fn a_problem_names_the_place_and_the_way_out() {
    let buzzer = Inside::start().await;
    let unknown = buzzer.submit("eko", r#"{"input": 1}"#).await.json();
    assert!(unknown["known"].as_array().unwrap().contains(&json!("echo")), "{unknown}");
    let invalid = buzzer.submit("demo.sleep", r#"{"input": {"seconds": "long"}}"#).await.json();
    assert_eq!(invalid["errors"][0]["pointer"], "/input/seconds", "{invalid}");
    let bad = buzzer.submit("echo", r#"{"input": 1, "retry": {"backoff": "x"}}"#).await.json();
    assert_eq!(bad["errors"][0]["pointer"], "/retry/backoff", "{bad}");
    let far = buzzer.submit("echo", r#"{"input": 1, "run_at": "9999-12-30T00:00:00Z"}"#).await.json();
    assert_eq!(far["errors"][0]["pointer"], "/run_at", "{far}");
    let list = buzzer.submit("echo", r#"{"input": 1, "retry": [3]}"#).await.json();
    assert_eq!(list["errors"][0]["pointer"], "/retry", "{list}");
    let field = buzzer.submit("echo", r#"{"input": 1, "colour": "red"}"#).await.json();
    assert!(field["errors"][0]["detail"].as_str().unwrap().contains("colour"), "{field}");
    let large = buzzer.submit("echo", &format!("{{\"input\": \"{}\"}}", "x".repeat(MAX_BODY))).await.json();
    assert_eq!(large["limit"], MAX_BODY);
    let page = buzzer.get(large["type"].as_str().unwrap()).await;
    assert!(page.status.is_success() && page.text.contains("BUZZER_MAX_BODY"));
}
