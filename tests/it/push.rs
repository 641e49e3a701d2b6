//! Kinds that a service runs (`push` in `worker.toml`), against a real one.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{any, post};
use buzzer_tests::client::Client;
use buzzer_tests::outside::{Api, Outside};
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A service, which remembers when it was called.
struct Service {
    address: SocketAddr,
    calls: Calls,
}

type Calls = Arc<Mutex<Vec<Instant>>>;

/// Tells by its end that the caller has hung up.
struct HungUp(Calls);

impl Drop for HungUp {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(Instant::now());
    }
}

impl Service {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let calls = Calls::default();
        let app = Router::new()
            .route("/mirror", post(mirror))
            .route("/nothing", post(|| async { StatusCode::NO_CONTENT }))
            .route("/html", post(|| async { Html("<!doctype html><p>Welcome") }))
            .route("/text", post(|| async { "\"text\"" }))
            .route("/large", post(|| async { "1".repeat(2000) }))
            .route("/to", any(|| async { Redirect::temporary("http://b.example/s3cret") }))
            .route("/no-such-dish", post(no_such_dish))
            .route("/status/{status}", post(|status: Path<u16>| async move { StatusCode::from_u16(*status).unwrap() }))
            .route("/busy-once", post(busy_once))
            .route("/silence", post(silence))
            .with_state(Calls::clone(&calls));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { address, calls }
    }

    /// A Buzzer with a kind for each of these paths, `push.0` and so on; the last is at a port where nobody listens.
    async fn buzzer(&self, paths: &[&str], timeout: &str) -> (Api, TempDir) {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("secret"), SECRET).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let here = paths.iter().map(|path| format!("http://{}{path}", self.address));
        let mut kinds = String::new();
        for (n, url) in here.chain([format!("http://{nobody}/s3cret")]).enumerate() {
            write!(
                kinds,
                "[[kind]]\nname = 'push.{n}'\ntimeout = '{timeout}'\nretry = {{ max_attempts = 2, backoff = '10ms' }}\n\
                 output = {{ not = {{ type = 'string' }} }}\n\
                 [kind.push]\nurl = '{url}'\nsecret_file = 'secret'\nanswer = '1KiB'\n"
            )
            .unwrap();
        }
        let file = folder.path().join("worker.toml");
        fs::write(&file, kinds).unwrap();
        let system = Outside::up(&[("BUZZER_WORKER_CONFIG", file.to_str().unwrap())]).await;
        system.knows("push.0").await;
        (system, folder)
    }
}

/// Answers with what came, once it is known to be signed.
async fn mirror(headers: HeaderMap, body: Bytes) -> Response {
    if let Err(error) = Webhook::new(SECRET).unwrap().verify(&body, &headers) {
        return (StatusCode::UNAUTHORIZED, error.to_string()).into_response();
    }
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let output = json!({
        "body": String::from_utf8(body.to_vec()).unwrap(),
        "content_type": header("content-type"),
        "webhook_id": header("webhook-id"),
        "id": header("buzzer-job-id"),
        "kind": header("buzzer-kind"),
        "attempt": header("buzzer-attempt"),
        "deadline": header("buzzer-deadline"),
    });
    axum::Json(output).into_response()
}

async fn no_such_dish() -> Response {
    let problem = json!({ "type": "https://example.com/dish", "title": "No dish", "detail": "there is no such dish" });
    (StatusCode::UNPROCESSABLE_ENTITY, [("content-type", "application/problem+json")], problem.to_string())
        .into_response()
}

async fn busy_once(State(calls): State<Calls>) -> Response {
    let mut calls = calls.lock().unwrap();
    calls.push(Instant::now());
    match calls.len() {
        1 => (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")]).into_response(),
        _ => "[1.50]".into_response(),
    }
}

async fn silence(State(calls): State<Calls>) {
    let _hung_up = HungUp(calls);
    std::future::pending::<()>().await;
}

async fn run(client: &Client, kind: usize, input: &Value) -> Value {
    let id = client.accepted(&format!("push.{kind}"), input).await;
    client.done(&id, LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_input_is_posted_signed_and_the_answer_is_the_output() {
    let service = Service::start().await;
    let (system, _folder) = service.buzzer(&["/mirror", "/nothing", "/busy-once"], "60s").await;
    let client = system.client();
    let job = run(&client, 0, &json!({ "dish": "ä" })).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let output = &job["output"];
    assert_eq!((&output["body"], &output["content_type"]), (&json!(r#"{"dish":"ä"}"#), &json!("application/json")));
    assert_eq!((&output["id"], &output["webhook_id"]), (&job["id"], &job["id"]));
    assert_eq!((&output["kind"], &output["attempt"]), (&json!("push.0"), &json!("1")));
    assert!(output["deadline"].as_str().unwrap() > job["started_at"].as_str().unwrap(), "{job}");

    let job = run(&client, 1, &json!(1)).await;
    assert_eq!((&job["state"], &job["output"]), (&json!("succeeded"), &Value::Null), "{job}");

    let job = run(&client, 2, &json!(1)).await;
    assert_eq!((&job["state"], &job["attempt"], &job["output"]), (&json!("succeeded"), &json!(2), &json!([1.5])));
    let calls = service.calls.lock().unwrap().clone();
    assert!(calls[1] - calls[0] >= Duration::from_secs(1), "a Retry-After is waited for: {calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_for_what_it_is() {
    let service = Service::start().await;
    let paths =
        ["/html", "/large", "/to", "/no-such-dish", "/status/404", "/status/500", "/status/200", "/silence", "/text"];
    let (system, _folder) = service.buzzer(&paths, "2s").await;
    let client = system.client();
    for (kind, attempts, slug, part) in [
        (
            0,
            1,
            "push-answer",
            "what is no JSON (text/html; charset=utf-8). Its body begins with `<!doctype html><p>Welcome`",
        ),
        (1, 1, "push-answer", "a body of more than 1024 bytes"),
        (2, 1, "push-answer", "307 Temporary Redirect: a redirect to b.example, which is not followed"),
        (3, 1, "rejected-input", "there is no such dish"),
        (4, 1, "push-answer", "answered 404 Not Found"),
        (5, 2, "push-answer", "answered 500 Internal Server Error"),
        (6, 1, "push-answer", "204 stands for the output null"),
        (7, 2, "timeout", "2s"),
        (8, 1, "push-answer", "The output does not fit the schema in worker.toml: "),
        (9, 2, "http-unreachable", "refused"),
    ] {
        let job = run(&client, kind, &json!({})).await;
        assert_eq!((&job["state"], &job["attempt"]), (&json!("failed"), &json!(attempts)), "{kind}: {job}");
        let problem = &job["error"];
        assert_eq!(problem["type"], format!("/problems/{slug}"), "{kind}: {problem}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(part) && !detail.contains("s3cret"), "{kind}: {detail}");
        let page = client.get(problem["type"].as_str().unwrap()).await.unwrap();
        let title = format!("<h1>{}</h1>", problem["title"].as_str().unwrap());
        assert!(page.text.contains(&title), "{title}: {}", page.text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_nobody_wants_any_more_is_hung_up() {
    let service = Service::start().await;
    let (system, _folder) = service.buzzer(&["/silence"], "60s").await;
    let client = system.client();
    let id = client.accepted("push.0", &json!(1)).await;
    eventually("the job to run", LIMIT, async || (client.job(&id).await.ok()?["state"] == "running").then_some(()))
        .await;
    client.send(client.request(Method::POST, &format!("/v1/jobs/{id}/cancel"))).await.unwrap();
    assert_eq!(client.done(&id, LIMIT).await["state"], "canceled");
    eventually("the service to notice", LIMIT, async || (!service.calls.lock().unwrap().is_empty()).then_some(()))
        .await;
}
