use std::time::Duration;

use buzzer_tests::inside::Inside;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{address, is_problem};

#[tokio::test]
async fn p4_the_same_key_is_the_same_job() {
    let buzzer = Inside::start().await;
    let submit = |body: &'static str, kind: &'static str| {
        buzzer.send(buzzer.submission(kind, body).header("idempotency-key", "order-7"))
    };
    let answers = futures_util::future::join_all((0..32).map(|_| submit(r#"{"input": 1}"#, "echo"))).await;
    let first = answers[0].json()["id"].clone();
    assert!(answers.iter().all(|answer| answer.status == StatusCode::ACCEPTED && answer.json()["id"] == first));
    assert_eq!(buzzer.count().await, 1);

    for (body, kind) in [(r#"{"input": 2}"#, "echo"), (r#"{"input": 1}"#, "demo.fail")] {
        let answer = submit(body, kind).await;
        is_problem(&answer, 422, "key-reused");
    }
    let waited = buzzer.submission("echo", r#"{"input": 1}"#).header("idempotency-key", "order-7");
    let waited = buzzer.send(waited.header("prefer", "wait=30")).await;
    assert_eq!((waited.status, waited.json()["id"].clone()), (StatusCode::OK, first));
    assert_eq!(buzzer.count().await, 1);
}

#[tokio::test]
async fn p4_a_key_answers_although_its_kind_became_stricter() {
    let mut buzzer = Inside::start().await;
    let body = r#"{"input": 1, "timeout": "2s"}"#;
    let keyed =
        |buzzer: &Inside| buzzer.submission("echo", body).header("idempotency-key", "k").header("prefer", "wait=30");
    let first = buzzer.send(keyed(&buzzer)).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text);
    let short = HandlerOptions::new().timeout(Duration::from_secs(1));
    let echo = async |_: JobContext, input: Value| -> Result<Value, JobError> { Ok(input) };
    buzzer.stop_workers().await;
    buzzer.work(Worker::builder().handler_with("echo", short, echo)).await;
    let fresh = buzzer.submit("echo", body).await;
    is_problem(&fresh, 422, "invalid-request");
    let again = buzzer.send(keyed(&buzzer)).await;
    assert_eq!((again.status, again.json()), (StatusCode::OK, first.json()));
}

#[tokio::test]
async fn a_client_that_hangs_up_does_not_hold_up_its_job() {
    let buzzer = Inside::start().await;
    let body = r#"{"input": 1}"#;
    let address = address(&buzzer);
    for n in 0..100 {
        let mut client = TcpStream::connect(&address).await.unwrap();
        let request = format!(
            "POST /v1/jobs/echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nidempotency-key: gone-{n}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.write_all(request.as_bytes()).await.unwrap();
    }
    // A job that was stored and not sent would wait for the end of its claim, 30 seconds.
    let again = (0..100).map(|n| {
        let request = buzzer.submission("echo", body).header("idempotency-key", format!("gone-{n}"));
        buzzer.send(request.header("prefer", "wait=15"))
    });
    for answer in futures_util::future::join_all(again).await {
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
}
