use buzzer_tests::inside::Inside;
use reqwest::StatusCode;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::address;

#[tokio::test]
async fn prefer_wait_answers_200_once_the_job_is_done_failed_too() {
    let buzzer = Inside::start().await;
    let wait = |kind: &str, body: &str| buzzer.send(buzzer.submission(kind, body).header("prefer", "wait=30"));
    let done = wait("echo", r#"{"input": 1}"#).await;
    assert_eq!((done.status, done.header("preference-applied")), (StatusCode::OK, "wait=30"));
    let failed = wait("demo.fail", r#"{"input": {"type": "https://example.com/no", "detail": "because"}}"#).await;
    assert_eq!(failed.status, StatusCode::OK);
    let job = failed.json();
    assert_eq!(job["state"], "failed");
    assert_eq!(job["error"]["type"], "https://example.com/no");
    assert_eq!(job["output"], Value::Null);
}

#[tokio::test]
async fn prefer_wait_answers_202_when_the_time_is_over() {
    let buzzer = Inside::start().await;
    let request = buzzer.submission("demo.sleep", r#"{"input": {"seconds": 30}}"#).header("prefer", "wait=1");
    let answer = buzzer.send(request).await;
    assert_eq!((answer.status, answer.header("preference-applied")), (StatusCode::ACCEPTED, "wait=1"));
}

#[tokio::test]
async fn a_long_poll_tells_what_is_newer_than_the_client_knows() {
    let buzzer = Inside::start().await;
    let job = buzzer.submit("demo.progress", r#"{"input": {"steps": 3, "seconds": 0.6}}"#).await.json();
    let this = job["links"]["self"].as_str().unwrap();
    let mut seq = 0;
    let mut percents = Vec::new();
    loop {
        let job = buzzer.get(&format!("{this}?wait=30&after={seq}")).await.json();
        assert!(job["seq"].as_u64().unwrap() > seq, "{job}");
        seq = job["seq"].as_u64().unwrap();
        percents.extend(job["progress"]["percent"].as_f64());
        if job["done"] == true {
            break;
        }
    }
    assert!(percents.len() > 1 && percents.is_sorted(), "{percents:?}");
}

#[tokio::test]
async fn who_waits_is_answered_when_the_process_stops() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let job = buzzer.submit("echo", r#"{"input": 1}"#).await.json();
    let mut client = TcpStream::connect(address(&buzzer)).await.unwrap();
    let this = job["links"]["self"].as_str().unwrap();
    let requests =
        format!("GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\nGET {this}?wait=60 HTTP/1.1\r\nhost: localhost\r\n\r\n");
    client.write_all(requests.as_bytes()).await.unwrap();
    // Once the first is answered, the second is being served.
    let mut answers = vec![0; 4096];
    let first = client.read(&mut answers).await.unwrap();
    assert!(answers.starts_with(b"HTTP/1.1 200"), "{first}");
    let _buzzer = buzzer.restart().await;
    answers.truncate(first);
    client.read_to_end(&mut answers).await.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
    assert!(answers.contains(job["id"].as_str().unwrap()), "{answers}");
}
