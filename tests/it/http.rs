//! The HTTP contract: what a client sends, and what it has in return.

use std::time::Duration;

use buzzer_shared::config::ByteSize;
use buzzer_shared::id::JobId;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_tests::inside::{Answer, Inside, MAX_BODY};
use buzzer_tests::wait::eventually;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// For what takes a moment, on a busy machine.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_job_is_accepted_run_and_its_result_fetched() {
    let buzzer = Inside::start().await;
    let accepted = buzzer.submit("echo", r#"{"input": {"hello": "world"}, "tags": {"customer": "7"}}"#).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED);
    let job = accepted.json();
    let this = job["links"]["self"].as_str().unwrap();
    assert_eq!(accepted.header("location"), this);
    assert_eq!(accepted.header("retry-after"), "1");
    assert_eq!((&job["state"], &job["attempt"], &job["done"]), (&json!("queued"), &json!(1), &json!(false)));

    let done = buzzer.get(&format!("{this}?wait=30")).await;
    let job = done.json();
    assert_eq!((&job["state"], &job["output"]), (&json!("succeeded"), &json!({"hello": "world"})), "{job}");
    assert_eq!(job["seq"], 3);
    assert_eq!(done.header("etag"), "W/\"3\"");
    assert_eq!(done.header("retry-after"), "");

    let result = buzzer.get(&format!("{this}/result")).await;
    assert_eq!((result.text.as_str(), result.header("content-type")), (r#"{"hello": "world"}"#, "application/json"));
}

#[tokio::test]
async fn input_and_output_are_kept_byte_for_byte() {
    let buzzer = Inside::start().await;
    for input in [
        r#""\u0000""#,
        r#"{"z":1,  "a":2, "a":3}"#,
        "1.0e+2",
        "12345678901234567890.123456789",
        r#""\ud83d\ude00 😀""#,
        "null",
    ] {
        let job = buzzer.run("echo", &format!(r#"{{"input": {input}}}"#)).await;
        let result = buzzer.get(job["links"]["result"].as_str().unwrap()).await;
        assert_eq!(result.text, input);
    }
}

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
async fn a_run_that_signals_its_start_began_when_it_did() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("demo.sleep", r#"{"input": {"seconds": 0.3}}"#).await;
    let time = |name: &str| job[name].as_str().unwrap().parse::<buzzer_shared::time::Time>().unwrap();
    assert!(time("finished_at").since(time("started_at")) >= Duration::from_millis(300), "{job}");
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
            "POST /v1/jobs/echo HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nidempotency-key: gone-{n}\r\n\
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

#[tokio::test]
async fn who_waits_is_answered_when_the_process_stops() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let job = buzzer.submit("echo", r#"{"input": 1}"#).await.json();
    let mut client = TcpStream::connect(address(&buzzer)).await.unwrap();
    let this = job["links"]["self"].as_str().unwrap();
    let requests = format!("GET /livez HTTP/1.1\r\nhost: x\r\n\r\nGET {this}?wait=60 HTTP/1.1\r\nhost: x\r\n\r\n");
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
async fn media_types_are_read_without_regard_to_case() {
    let buzzer = Inside::start().await;
    for media_type in ["Application/JSON; charset=utf-8", "application/vnd.x+JSON", "APPLICATION/x+json"] {
        let request = buzzer.request(Method::POST, "/v1/jobs/echo").header("content-type", media_type);
        let request = request.header("content-encoding", "identity").body(r#"{"input": 1}"#);
        assert_eq!(buzzer.send(request).await.status, StatusCode::ACCEPTED, "{media_type}");
    }
}

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

#[tokio::test]
async fn jobs_are_listed_newest_first_with_filters_and_a_cursor() {
    let buzzer = Inside::start().await;
    for n in 0..7 {
        let body = format!(r#"{{"input": {n}, "tags": {{"n": "{n}", "odd": "{}"}}}}"#, n % 2);
        buzzer.run("echo", &body).await;
    }
    buzzer.run("demo.fail", r#"{"input": {"type": "no", "detail": "no"}}"#).await;
    let ids = |page: &Value| {
        page["items"].as_array().unwrap().iter().map(|job| job["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let whole = ids(&buzzer.get("/v1/jobs").await.json());
    assert_eq!(whole.len(), 8);
    let mut sorted = whole.clone();
    sorted.sort_by(|a, b| b.cmp(a));
    assert_eq!(whole, sorted, "newest first");

    let mut paged = Vec::new();
    let mut next = String::new();
    loop {
        let page = buzzer.get(&format!("/v1/jobs?limit=3{next}")).await.json();
        paged.extend(ids(&page));
        match page["next"].as_str() {
            Some(cursor) => next = format!("&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(paged, whole);
    assert_eq!(ids(&buzzer.get("/v1/jobs?tag=odd:1").await.json()).len(), 3);
    assert_eq!(ids(&buzzer.get("/v1/jobs?state=failed").await.json()).len(), 1);
    assert_eq!(ids(&buzzer.get("/v1/jobs?kind=echo&state=succeeded&tag=n:4").await.json()).len(), 1);
    assert_eq!(ids(&buzzer.get("/v1/jobs?state=&kind=&tag=&cursor=&limit=").await.json()), whole);
    assert!(ids(&buzzer.get("/v1/jobs?tag=n:=").await.json()).is_empty(), "a value may end like a name");
    let listed = buzzer.get("/v1/jobs?limit=1").await.json();
    assert!(listed["items"][0].get("input").is_none() && listed["items"][0].get("output").is_none());
}

#[tokio::test]
async fn a_failure_is_tried_again_as_often_as_the_job_allows() {
    let buzzer = Inside::start().await;
    let flaky = |max: u32| {
        format!(
            r#"{{"input": {{"fail_times": 2}}, "retry": {{"max_attempts": {max}, "backoff": "1ms", "max_backoff": "5ms"}}}}"#
        )
    };
    let job = buzzer.run("demo.flaky", &flaky(3)).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(3)), "{job}");
    assert_eq!(job["error"], Value::Null);
    let job = buzzer.run("demo.flaky", &flaky(2)).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(2)), "{job}");
}

#[tokio::test]
async fn a_job_waits_for_its_time() {
    let buzzer = Inside::start().await;
    let job = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    assert_eq!((&job["state"], &job["waiting"]["for"]), (&json!("scheduled"), &json!("time")), "{job}");
    let job = buzzer.run("echo", r#"{"input": 1, "delay": "300ms"}"#).await;
    let time = |name: &str| job[name].as_str().unwrap().parse::<buzzer_shared::time::Time>().unwrap();
    assert!(time("started_at").since(time("created_at")) >= Duration::from_millis(300), "{job}");
}

#[tokio::test]
async fn p7_a_job_says_what_it_waits_for() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let first = buzzer.submit("echo", r#"{"input": 1}"#).await.json();
    let second = buzzer.submit("echo", r#"{"input": 2}"#).await.json();
    let urgent = buzzer.submit("echo", r#"{"input": 3, "priority": 9}"#).await.json();
    for (job, position) in [(urgent, 0), (first, 1), (second, 2)] {
        let job = buzzer.get(job["links"]["self"].as_str().unwrap()).await.json();
        assert_eq!(job["state"], "queued");
        assert_eq!(job["waiting"]["for"], "worker", "{job}");
        assert_eq!(job["waiting"]["position"], position, "{job}");
    }
    let stats = buzzer.get("/v1/stats").await.json();
    assert_eq!(
        (&stats["kinds"]["echo"]["waiting"], &stats["kinds"]["echo"]["slots"]),
        (&json!(3), &json!(0)),
        "{stats}"
    );
}

#[tokio::test]
async fn p7_a_worker_that_drains_is_no_worker_for_new_jobs() {
    let buzzer = Inside::start().await;
    let running = buzzer.submit("demo.sleep", r#"{"input": {"seconds": 0.9}}"#).await.json();
    let running = running["links"]["self"].as_str().unwrap();
    eventually("the job to run", SOON, async || (buzzer.get(running).await.json()["state"] == "running").then_some(()))
        .await;
    buzzer.ask_workers_to_stop();
    eventually("a new job to wait for a worker", SOON, async || {
        let job = buzzer.submit("echo", r#"{"input": 1}"#).await.json();
        (job["waiting"]["for"] == "worker").then_some(())
    })
    .await;
    let job = buzzer.get(&format!("{running}?wait=30")).await.json();
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
}

#[tokio::test]
async fn a_job_that_does_not_start_in_time_expires() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let job = buzzer.submit("echo", r#"{"input": 1, "expires": "100ms"}"#).await.json();
    let job = buzzer.get(&format!("{}?wait=30", job["links"]["self"].as_str().unwrap())).await.json();
    assert_eq!(job["state"], "expired", "{job}");
}

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

#[tokio::test]
async fn higher_priority_goes_first_then_the_oldest() {
    let mut buzzer = Inside::start().await;
    buzzer.stop_workers().await;
    let mut ids = Vec::new();
    for (n, priority) in [(0, 4), (1, 4), (2, 31), (3, 0), (4, 31)] {
        let job = buzzer.submit("echo", &format!(r#"{{"input": {n}, "priority": {priority}}}"#)).await.json();
        ids.push(job["id"].as_str().unwrap().to_owned());
    }
    let slow = async |_: JobContext, input: Value| -> Result<Value, JobError> { Ok(input) };
    buzzer.work(Worker::builder().handler_with("echo", HandlerOptions::new().slots(1), slow)).await;
    let mut ended = Vec::new();
    for (n, id) in ids.iter().enumerate() {
        let job = buzzer.get(&format!("/v1/jobs/{id}?wait=30")).await.json();
        ended.push((
            job["started_at"].as_str().unwrap().to_owned(),
            job["finished_at"].as_str().unwrap().to_owned(),
            n,
        ));
    }
    ended.sort();
    let order: Vec<_> = ended.iter().map(|(.., n)| *n).collect();
    let rank = |n: usize| order.iter().position(|at| *at == n).unwrap();
    // Times have milliseconds: what falls into one may stand in either order. One slot, so higher never starts later.
    let started = |n: usize| ended[rank(n)].0.clone();
    assert!(
        started(2) <= started(4) && started(4) <= started(0) && started(0) <= started(1) && started(1) <= started(3),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_handler_that_panics_overruns_or_outgrows_fails_its_own_job_alone() {
    static STUCK: Semaphore = Semaphore::const_new(0);
    let mut buzzer = Inside::start().await;
    let once = || HandlerOptions::new().retry(RetryPolicy::NEVER);
    let panics = async |_: JobContext, _: Value| -> Result<Value, JobError> { panic!("out of flour") };
    let overruns = async |_: JobContext, _: Value| -> Result<Value, JobError> {
        let _ = STUCK.acquire().await;
        Ok(Value::Null)
    };
    let outgrows = async |_: JobContext, _: Value| -> Result<String, JobError> { Ok("x".repeat(2 << 20)) };
    let ignores = |_: JobContext, _: Value| -> Result<Value, JobError> {
        let (_keep, wait) = std::sync::mpsc::channel::<()>();
        let _ = wait.recv_timeout(Duration::from_secs(3));
        Ok(Value::Null)
    };
    let worker = Worker::builder()
        .handler_with("bad.panic", once(), panics)
        .handler_with("bad.overrun", once().timeout(Duration::from_millis(100)), overruns)
        .handler_with("bad.outgrow", once(), outgrows)
        .cpu_handler_with("bad.ignore", once().timeout(Duration::from_millis(100)), ignores);
    buzzer.work(worker).await;
    let run = |kind: &'static str| buzzer.run(kind, r#"{"input": null}"#);
    let (panicked, overrun, outgrown, ignored, good) =
        tokio::join!(run("bad.panic"), run("bad.overrun"), run("bad.outgrow"), run("bad.ignore"), run("echo"));
    for (job, slug) in [(panicked, "panic"), (overrun, "timeout"), (outgrown, "output-too-large"), (ignored, "timeout")]
    {
        assert_eq!(
            (&job["state"], &job["error"]["type"]),
            (&json!("failed"), &json!(format!("/problems/{slug}"))),
            "{job}"
        );
    }
    assert_eq!(good["state"], "succeeded");
}

#[tokio::test]
async fn what_was_accepted_survives_a_restart_with_the_embedded_broker() {
    let mut buzzer = Inside::start().await;
    let running = buzzer.submit("demo.sleep", r#"{"input": {"seconds": 0.2}}"#).await.json();
    buzzer.stop_workers().await;
    let waiting = buzzer.submit("echo", r#"{"input": "later"}"#).await.json();
    let mut buzzer = buzzer.restart().await;
    buzzer.work(buzzer_worker::stock_worker(&buzzer_worker::StockConfig { demo: true, ..Default::default() })).await;
    for job in [running, waiting] {
        let job = buzzer.get(&format!("{}?wait=30", job["links"]["self"].as_str().unwrap())).await.json();
        assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
    }
}

#[tokio::test]
async fn kinds_workers_health_and_document_tell_what_is_there() {
    let buzzer = Inside::start().await;
    let kinds = buzzer.get("/v1/kinds").await.json();
    let names: Vec<_> = kinds["items"].as_array().unwrap().iter().map(|kind| kind["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["demo.fail", "demo.flaky", "demo.progress", "demo.sleep", "echo", "http.request"]);
    let sleep = buzzer.get("/v1/kinds/demo.sleep").await.json();
    assert!(sleep["input_schema"]["properties"]["seconds"].is_object(), "{sleep}");
    assert!(sleep["slots_live"].as_u64().unwrap() > 0);
    assert_eq!(buzzer.get("/v1/workers").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(buzzer.get("/livez").await.json()["status"], "ok");
    assert_eq!(buzzer.get("/readyz").await.json()["status"], "ok");
    let document = buzzer.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    for path in ["/v1/jobs", "/v1/jobs/{job}", "/v1/jobs/echo", "/v1/jobs/demo.sleep", "/v1/stats", "/readyz"] {
        assert!(document["paths"][path].is_object(), "{path}");
    }
}

fn address(buzzer: &Inside) -> String {
    let request = buzzer.request(Method::GET, "/").build().unwrap();
    format!("127.0.0.1:{}", request.url().port().unwrap())
}

/// Ends once the job is in this state.
async fn is_in(buzzer: &Inside, this: &str, state: &str) {
    let look = async || (buzzer.get(this).await.json()["state"] == state).then_some(());
    eventually(&format!("{this} to be {state}"), SOON, look).await;
}

fn is_problem(answer: &Answer, status: u16, slug: &str) {
    assert_eq!(answer.status.as_u16(), status, "{slug}: {}", answer.text);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string() && !problem["detail"].as_str().unwrap().is_empty(), "{problem}");
}
