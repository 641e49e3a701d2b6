//! The kind `http.request`, through the whole of Buzzer, against a real server.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::response::{AppendHeaders, IntoResponse, Redirect, Response};
use axum::routing::{any, get};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use buzzer_tests::inside::Inside;
use buzzer_tests::outside::Outside;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The one address that most of these jobs may call.
const ALLOWED: &str = "127.0.0.1";

/// A service to call, which remembers who called.
struct Service {
    address: SocketAddr,
    calls: Calls,
}

type Calls = Arc<Mutex<Vec<Call>>>;

#[derive(Debug)]
struct Call {
    at: Instant,
    authorization: bool,
}

impl Service {
    async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    async fn start_at(address: &str) -> Self {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let app = Router::new()
            .route("/mirror", any(mirror))
            .route("/cookies", get(|| async { AppendHeaders([("set-cookie", "a=1"), ("set-cookie", "b=2")]) }))
            .route("/bytes", get(|| async { vec![0xff_u8, 0, 0xfe] }))
            .route("/status/{status}", any(status))
            .route("/busy-once", get(busy_once))
            .route("/large/{size}", get(|size: Path<usize>| async move { "x".repeat(*size) }))
            .route("/to/{*target}", any(|target: Path<String>| async move { Redirect::temporary(&target) }))
            .route("/silence", get(std::future::pending::<()>))
            .layer(axum::middleware::from_fn_with_state(Calls::clone(&calls), remember))
            .with_state(Calls::clone(&calls));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, calls }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn called(&self) -> usize {
        self.calls.lock().unwrap().len()
    }
}

async fn remember(State(calls): State<Calls>, request: Request, next: axum::middleware::Next) -> Response {
    let authorization = request.headers().contains_key("authorization");
    calls.lock().unwrap().push(Call { at: Instant::now(), authorization });
    next.run(request).await
}

/// Answers with what came.
async fn mirror(method: axum::http::Method, headers: axum::http::HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    axum::Json(json!({
        "method": method.as_str(),
        "host": header("host"),
        "user_agent": header("user-agent"),
        "content_type": header("content-type"),
        "x_one": header("x-one"),
        "body": BASE64_STANDARD.encode(body),
    }))
    .into_response()
}

async fn status(Path(status): Path<u16>) -> Response {
    (StatusCode::from_u16(status).unwrap(), "s3cret").into_response()
}

async fn busy_once(State(calls): State<Calls>) -> Response {
    match calls.lock().unwrap().len() {
        1 => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response(),
        _ => "ready".into_response(),
    }
}

/// Where a service sends half of its responses, and hangs up.
async fn hangs_up() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let asked = stream.read(&mut [0; 1024]).await.unwrap();
            assert!(asked > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf").await.unwrap();
        }
    });
    url
}

/// Counts connections, and takes none.
struct Trap(TcpListener);

impl Trap {
    fn at(address: &str) -> Self {
        let trap = TcpListener::bind(address).unwrap();
        trap.set_nonblocking(true).unwrap();
        Self(trap)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn connections(&self) -> usize {
        std::iter::from_fn(|| self.0.accept().ok()).count()
    }
}

/// Runs a job that is tried again soon, twice at most.
async fn call(buzzer: &Inside, input: Value) -> Value {
    let retry = json!({ "max_attempts": 2, "backoff": "10ms", "max_backoff": "10ms" });
    buzzer.run("http.request", &json!({ "input": input, "retry": retry }).to_string()).await
}

async fn succeeded(buzzer: &Inside, input: Value) -> Value {
    let mut job = call(buzzer, input).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    job["output"].take()
}

/// The problem that a job ended with, after `attempts`. Its page says the same.
async fn failed(buzzer: &Inside, input: Value, attempts: u32, slug: &str) -> Value {
    let mut job = call(buzzer, input).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(attempts)), "{job}");
    let problem = job["error"].take();
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{problem}");
    let page = buzzer.get(problem["type"].as_str().unwrap()).await;
    let title = format!("<h1>{}</h1>", problem["title"].as_str().unwrap());
    assert!(page.status == StatusCode::OK && page.text.contains(&title), "{title}: {}", page.text);
    problem
}

#[tokio::test]
async fn the_output_is_the_response() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let output = succeeded(&buzzer, json!({ "url": service.url("/cookies") })).await;
    assert_eq!((&output["status"], &output["body"]), (&json!(200), &json!("")));
    assert_eq!((&output["headers"]["set-cookie"], &output["body_base64"]), (&json!("a=1, b=2"), &Value::Null));
    let output = succeeded(&buzzer, json!({ "url": service.url("/bytes") })).await;
    assert_eq!((&output["body_base64"], &output["body"]), (&json!("/wD+"), &Value::Null));
    let output =
        succeeded(&buzzer, json!({ "url": service.url("/large/7"), "method": "HEAD", "max_response": 0 })).await;
    assert_eq!((&output["headers"]["content-length"], &output["body"]), (&json!("7"), &json!("")));
}

#[tokio::test]
async fn method_headers_and_body_arrive_as_they_were_given() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let mirrored = async |mut input: Value| {
        input["url"] = service.url("/mirror").into();
        let output = succeeded(&buzzer, input).await;
        serde_json::from_str::<Value>(output["body"].as_str().unwrap()).unwrap()
    };
    let plain = mirrored(json!({})).await;
    assert_eq!((&plain["method"], &plain["body"], &plain["content_type"]), (&json!("GET"), &json!(""), &Value::Null));
    assert_eq!(plain["host"], service.address.to_string());
    assert_eq!(plain["user_agent"], concat!("buzzer/", env!("CARGO_PKG_VERSION")));

    let posted = mirrored(json!({ "method": "POST", "json": { "a": [1, null] }, "headers": { "X-One": "1" } })).await;
    assert_eq!((&posted["method"], &posted["x_one"]), (&json!("POST"), &json!("1")));
    assert_eq!(
        (&posted["content_type"], &posted["body"]),
        (&json!("application/json"), &json!("eyJhIjpbMSxudWxsXX0="))
    );

    let headers = json!({ "content-type": "text/plain", "user-agent": "me" });
    let text = mirrored(json!({ "method": "PUT", "body": "ä", "headers": headers })).await;
    assert_eq!((&text["content_type"], &text["body"]), (&json!("text/plain"), &json!("w6Q=")));
    assert_eq!((&text["method"], &text["user_agent"]), (&json!("PUT"), &json!("me")));
    let bytes = mirrored(json!({ "method": "PATCH", "body_base64": "/wD+" })).await;
    assert_eq!((&bytes["method"], &bytes["body"]), (&json!("PATCH"), &json!("/wD+")));
}

#[tokio::test]
async fn what_is_wrong_with_an_input_is_told_before_it_is_accepted() {
    let buzzer = Inside::start().await;
    for (input, pointer) in [
        (json!({}), "/input"),
        (json!({ "url": "http://a", "uri": 1 }), "/input"),
        (json!({ "url": "http://a", "method": "get" }), "/input/method"),
        (json!({ "url": "http://a", "redirects": 11 }), "/input/redirects"),
        (json!({ "url": "http://a", "body": "", "json": null }), "/input/json"),
        (json!({ "url": "http://a", "json": 1, "body_base64": "" }), "/input/body_base64"),
    ] {
        let answer = buzzer.submit("http.request", &json!({ "input": input }).to_string()).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{input}: {}", answer.text);
        let pointers: Vec<_> =
            answer.json()["errors"].as_array().unwrap().iter().map(|e| e["pointer"].clone()).collect();
        assert!(pointers.iter().any(|found| found.as_str().unwrap().starts_with(pointer)), "{input}: {pointers:?}");
    }
    let input = json!({ "url": "http://a", "headers": { "host": "b" } });
    let problem = failed(&buzzer, input, 1, "rejected-input").await;
    assert!(problem["detail"].as_str().unwrap().contains("`host`"), "{problem}");
}

#[tokio::test]
async fn a_4xx_fails_at_once_and_a_5xx_is_tried_again() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let missing = failed(&buzzer, json!({ "url": service.url("/status/404?s3cret") }), 1, "http-status").await;
    assert_eq!(missing["detail"], format!("GET {} answered 404 Not Found", service.address));
    assert_eq!(service.called(), 1);
    let broken = json!({ "url": service.url("/status/500"), "method": "POST" });
    let broken = failed(&buzzer, broken, 2, "http-status").await;
    assert_eq!(broken["detail"], format!("POST {} answered 500 Internal Server Error", service.address));
    assert_eq!(service.called(), 3);
    failed(&buzzer, json!({ "url": service.url("/status/429") }), 2, "http-status").await;
    assert_eq!(service.called(), 5);
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let job = call(&buzzer, json!({ "url": service.url("/busy-once") })).await;
    assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(2)), "{job}");
    assert_eq!(job["output"]["body"], "ready");
    let calls = service.calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    // The job's own policy would have waited 10 ms.
    assert!(calls[1].at - calls[0].at >= Duration::from_secs(1), "{calls:?}");
}

#[tokio::test]
async fn a_response_that_is_too_large_fails_at_once() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let large = |size: usize| json!({ "url": service.url(&format!("/large/{size}")), "max_response": 1000 });
    let output = succeeded(&buzzer, large(1000)).await;
    assert_eq!(output["body"].as_str().unwrap().len(), 1000);
    let problem = failed(&buzzer, large(1001), 1, "http-response-too-large").await;
    assert!(problem["detail"].as_str().unwrap().contains("1000 bytes"), "{problem}");
    assert_eq!(service.called(), 2);
}

#[tokio::test]
async fn who_cannot_be_reached_is_tried_again_and_who_is_silent_times_out() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let nobody = Trap::at("127.0.0.1:0").address();
    let problem = failed(&buzzer, json!({ "url": format!("http://{nobody}/s3cret") }), 2, "http-unreachable").await;
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("GET {nobody}: ")) && !detail.contains("s3cret"), "{detail}");

    let problem = failed(&buzzer, json!({ "url": hangs_up().await }), 2, "http-unreachable").await;
    assert!(!problem["detail"].as_str().unwrap().contains("half"), "{problem}");

    let retry = json!({ "max_attempts": 1, "backoff": "1s", "max_backoff": "1s" });
    let body = json!({ "input": { "url": service.url("/silence") }, "timeout": "200ms", "retry": retry });
    let job = buzzer.run("http.request", &body.to_string()).await;
    assert_eq!((&job["state"], &job["error"]["type"]), (&json!("failed"), &json!("/problems/timeout")), "{job}");
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_the_job_says() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let url = service.url("/to//to//mirror");
    let output = succeeded(&buzzer, json!({ "url": url })).await;
    assert_eq!((&output["status"], &output["headers"]["location"]), (&json!(307), &json!("/to//mirror")));
    let output = succeeded(&buzzer, json!({ "url": url, "redirects": 1 })).await;
    assert_eq!((&output["status"], &output["headers"]["location"]), (&json!(307), &json!("/mirror")));
    let output = succeeded(&buzzer, json!({ "url": url, "redirects": 2, "method": "POST", "body": "x" })).await;
    let mirrored: Value = serde_json::from_str(output["body"].as_str().unwrap()).unwrap();
    assert_eq!((&mirrored["method"], &mirrored["body"]), (&json!("POST"), &json!("eA==")));
    assert_eq!(service.called(), 1 + 2 + 3);
}

#[tokio::test]
async fn a_redirect_is_checked_like_the_first_url() {
    let (buzzer, service) = (Inside::start_allowing(ALLOWED).await, Service::start().await);
    let trap = Trap::at("127.0.0.2:0");
    let port = trap.address().port();
    for target in [
        format!("http://127.0.0.2:{port}/"),
        format!("http://0x7f.2:{port}/"),
        format!("//2130706434:{port}/"),
        format!("http://[::ffff:127.0.0.2]:{port}/"),
        format!("/to//to/http://127.0.0.2:{port}/"),
        "http://169.254.169.254/".into(),
        "http://[::1]/".into(),
        "file:///etc/passwd".into(),
        format!("http://user:s3cret@{}/", service.address),
    ] {
        let input = json!({ "url": service.url(&format!("/to/{target}")), "redirects": 10 });
        let problem = failed(&buzzer, input, 1, "http-forbidden-address").await;
        assert!(!problem["detail"].as_str().unwrap().contains("s3cret"), "{problem}");
    }
    assert_eq!(trap.connections(), 0);
}

/// A foreign server that redirects to itself must not have them either.
#[tokio::test]
async fn credentials_stay_with_whom_they_were_meant_for() {
    let buzzer = Inside::start_allowing("127.0.0.0/8").await;
    let (own, foreign) = (Service::start().await, Service::start_at("127.0.0.2:0").await);
    let url = own.url(&format!("/to//to/{}", foreign.url("/to//mirror")));
    let input = json!({ "url": url, "redirects": 10, "headers": { "authorization": "Bearer s3cret" } });
    succeeded(&buzzer, input).await;
    let authorized =
        |service: &Service| -> Vec<_> { service.calls.lock().unwrap().iter().map(|call| call.authorization).collect() };
    assert_eq!((authorized(&own), authorized(&foreign)), (vec![true, true], vec![false, false]));
}

#[tokio::test]
async fn what_is_not_public_is_not_called() {
    let buzzer = Inside::start().await;
    let trap = Trap::at("127.0.0.1:0");
    let (open, closed) = (trap.address().port(), Trap::at("127.0.0.1:0").address().port());
    for host in ["127.0.0.1", "localhost", "0x7f.1", "2130706433", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]"] {
        let refused = async |port: u16| {
            let problem =
                failed(&buzzer, json!({ "url": format!("http://{host}:{port}/") }), 1, "http-forbidden-address");
            problem.await["detail"].as_str().unwrap().replace(&port.to_string(), "PORT")
        };
        let detail = refused(open).await;
        assert!(detail.contains("BUZZER_EGRESS_ALLOW"), "{detail}");
        assert_eq!(detail, refused(closed).await, "an answer tells what listens where");
    }
    assert_eq!(trap.connections(), 0);
}

#[tokio::test]
async fn proxies_of_the_environment_are_not_used() {
    let (service, proxy) = (Service::start().await, Trap::at("127.0.0.2:0"));
    let url = format!("http://{}", proxy.address());
    let mut settings = vec![("BUZZER_EGRESS_ALLOW", "127.0.0.0/8")];
    settings.extend(["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"].map(|name| (name, url.as_str())));
    let system = Outside::up(&settings).await;
    system.knows("http.request").await;
    let client = system.client();
    let id = client.accepted("http.request", &json!({ "url": service.url("/mirror") })).await;
    let job = client.done(&id, Duration::from_secs(30)).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!((service.called(), proxy.connections()), (1, 0));
}
