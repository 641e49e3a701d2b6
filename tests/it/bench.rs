//! `buzzer bench` against a whole system, and against servers that behave badly. Nothing here says how fast anything is.

use std::convert::Infallible;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::within;
use serde_json::Value;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;

const LIMIT: Duration = Duration::from_secs(120);
const FEW: &[&str] = &["--connections", "8", "--warm-up", "20", "--json"];

/// What `buzzer bench` prints and how it ends.
async fn bench(server: &str, arguments: &[&str]) -> Output {
    let program = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("buzzer");
    let mut command = tokio::process::Command::new(program);
    command.env_clear().env("BUZZER_SERVER", server).arg("bench").args(arguments).kill_on_drop(true);
    within("buzzer bench", LIMIT, command.output()).await.unwrap()
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_job_is_learned_of_in_each_way() {
    let mut system = Outside::up(&[]).await;
    let (server, watched) = (format!("http://{}", system.address()), format!("up={}", system.process().id()));
    for learn in ["feed", "poll", "wait", "none"] {
        let own = ["--jobs", "300", "--learn", learn, "--watch", &watched];
        let output = bench(&server, &[FEW, &own].concat()).await;
        assert!(output.status.success(), "{learn}: {output:?}");
        let report = report(&output);
        assert_eq!((&report["learn"], &report["kind"]), (&learn.into(), &"echo".into()), "{report}");
        assert_eq!((&report["jobs"], &report["input_bytes"]), (&300.into(), &256.into()), "{report}");
        let done = if learn == "none" { 0 } else { 300 };
        assert_eq!((&report["jobs_done"], &report["jobs_missing"]), (&done.into(), &0.into()), "{report}");
        assert_eq!(report["done_per_second"].is_null(), learn == "none", "{report}");
        assert_eq!(report["result_ms"].is_null(), learn == "none", "{report}");
        assert_eq!(report["answer_ms"].is_null(), learn == "wait", "{report}");
        let times = if learn == "none" { &report["answer_ms"] } else { &report["result_ms"] };
        let [p50, p90, p99, p999, max] = ["p50", "p90", "p99", "p999", "max"].map(|name| times[name].as_f64().unwrap());
        assert!(0.0 < p50 && p50 <= p90 && p90 <= p99 && p99 <= p999 && p999 <= max, "{report}");
        for process in ["up", "client"] {
            let share = &report["processes"][process];
            let [now, peak] = ["memory_mib", "memory_peak_mib"].map(|name| share[name].as_f64().unwrap());
            assert!(0.0 < now && now <= peak && share["cpu_seconds_per_10000"].is_number(), "{report}");
        }
        assert!(report["raw"].is_null() && report["done_to_raw_percent"].is_null(), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_come_at_their_rate() {
    let system = Outside::up(&[]).await;
    let server = format!("http://{}", system.address());
    let output = bench(&server, &[FEW, &["--jobs", "100", "--rate", "200/s", "--learn", "wait"]].concat()).await;
    let report = report(&output);
    assert_eq!((&report["jobs_done"], &report["rate_per_second"]), (&100.into(), &200.0.into()), "{report}");
    // From the first to the hundredth there are 99 pauses of 5 ms.
    assert!(report["seconds"].as_f64().unwrap() > 0.49, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_enough_and_people_get_a_table() {
    let system = Outside::up(&[]).await;
    let server = format!("http://{}", system.address());
    let output = bench(&server, &["--duration", "300ms", "--warm-up", "100ms", "--input", r#"{"n": 1}"#]).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    for word in ["jobs of echo", "8 bytes each", "handed in", "P99.9", "time to the result", "≤", "client"] {
        assert!(text.contains(word), "{word} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_that_fail_are_counted_and_end_the_command_badly() {
    let system = Outside::up(&[("BUZZER_DEMO", "1")]).await;
    system.knows("demo.fail").await;
    let server = format!("http://{}", system.address());
    let own = ["demo.fail", "--input", r#"{"type": "no-soup", "detail": "none today"}"#, "--jobs", "3"];
    let output = bench(&server, &[&own[..], &["--warm-up", "0", "--json"]].concat()).await;
    let report = report(&output);
    assert_eq!((&report["jobs_done"], &report["jobs_not_succeeded"]), (&3.into(), &3.into()), "{report}");
    assert_eq!(output.status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_alone_is_measured_in_the_same_run() {
    let node = RabbitNode::shared().await;
    let system = Outside::up(&[]).await;
    let server = format!("http://{}", system.address());
    let output = bench(&server, &[FEW, &["--jobs", "100", "--compare-raw", node.url().as_str()]].concat()).await;
    let report = report(&output);
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{report}"));
    let (raw, done) = (&report["raw"], number(&report["done_per_second"]));
    assert!(
        number(&raw["cpu_seconds_per_10000"]) > 0.0 && number(&raw["p50_ms"]) <= number(&raw["p99_ms"]),
        "{report}"
    );
    let percent = 100.0 * done / number(&raw["per_second"]);
    assert!((number(&report["done_to_raw_percent"]) - percent).abs() < 1e-6, "{report}");
    let times = number(&report["result_ms"]["p50"]) / number(&raw["p50_ms"]);
    assert!((number(&report["p50_to_raw_p50"]) - times).abs() < 1e-6, "{report}");
    let left = node.ctl(&["list_queues", "name"]).await;
    assert!(!left.lines().any(|queue| queue.starts_with("raw-")), "{left}");
}

/// A server that takes jobs, after it was busy so often; its feed is cut at first, and then has so many of their ends.
#[derive(Debug, Default)]
struct Rough {
    busy: AtomicUsize,
    accepted: AtomicUsize,
    /// How many ends are told, once so many jobs were accepted.
    ends: usize,
    news: Notify,
}

impl Rough {
    async fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().route("/v1/jobs/echo", post(submit)).route("/v1/events", get(events));
        let router = router.route("/v1/jobs/refused", post(refuse)).with_state(Arc::new(self));
        tokio::spawn(async move { axum::serve(listener, router).await });
        server
    }
}

fn id(number: usize) -> String {
    format!("01a20543-0192-713f-b535-{number:012x}")
}

async fn submit(State(rough): State<Arc<Rough>>) -> Response {
    let less = rough.busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
    if less.is_ok() {
        return (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "{}").into_response();
    }
    let number = rough.accepted.fetch_add(1, Ordering::Relaxed);
    rough.news.notify_one();
    (StatusCode::ACCEPTED, [("location", format!("/v1/jobs/{}", id(number)))], "{}").into_response()
}

async fn refuse() -> Response {
    let problem = r#"{"type": "/problems/soup", "title": "No soup", "detail": "It is all gone."}"#;
    (StatusCode::UNPROCESSABLE_ENTITY, problem).into_response()
}

async fn events(
    State(rough): State<Arc<Rough>>,
    Query(query): Query<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Result<String, Infallible> {
    assert!(query.contains(&("kind".into(), "echo".into())), "{query:?}");
    let Some(last) = headers.get("last-event-id") else {
        return Ok("retry: 1000\nid: f0\n\n".into());
    };
    if !query.contains(&("state".into(), "succeeded".into())) || last != "f0" {
        return std::future::pending().await;
    }
    while rough.accepted.load(Ordering::Relaxed) < rough.ends {
        rough.news.notified().await;
    }
    // The first is somebody else's.
    let jobs = [0xffff].into_iter().chain(0..rough.ends);
    let event = |(seq, job)| {
        format!("id: f{seq:x}\nevent: job.succeeded\ndata: {{\"seq\":3,\"job_id\":\"{}\",\"data\":{{}}}}\n\n", id(job))
    };
    Ok(jobs.enumerate().map(|(seq, job)| event((seq + 1, job))).collect())
}

#[tokio::test]
async fn a_server_that_is_busy_is_asked_again() {
    let server = Rough { busy: 3.into(), ..Rough::default() }.serve().await;
    let output = bench(&server, &["--jobs", "5", "--warm-up", "0", "--learn", "none", "--json"]).await;
    let report = report(&output);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&report["jobs"], &report["busy_answers"]), (&5.into(), &3.into()), "{report}");
}

#[tokio::test]
async fn a_feed_that_was_cut_goes_on_and_the_jobs_of_others_do_not_count() {
    let server = Rough { ends: 5, ..Rough::default() }.serve().await;
    let output = bench(&server, &["--jobs", "5", "--warm-up", "0", "--json"]).await;
    let report = report(&output);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((&report["jobs"], &report["jobs_done"]), (&5.into(), &5.into()), "{report}");
}

#[tokio::test]
async fn jobs_that_are_never_done_are_missing() {
    let server = Rough { ends: 3, ..Rough::default() }.serve().await;
    // Longer than a feed takes to come back.
    let output = bench(&server, &["--jobs", "5", "--warm-up", "0", "--patience", "3s", "--json"]).await;
    let report = report(&output);
    assert_eq!((&report["jobs_done"], &report["jobs_missing"]), (&3.into(), &2.into()), "{report}");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("2 jobs were not done"), "{output:?}");
}

#[tokio::test]
async fn a_refusal_ends_it_in_the_servers_words() {
    let server = Rough::default().serve().await;
    let output = bench(&server, &["refused", "--learn", "none"]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("No soup. It is all gone."), "{output:?}");
}

#[tokio::test]
async fn a_server_that_is_away_cannot_be_reached() {
    // Bound and not listening: nobody else gets the port meanwhile, and it refuses connections.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let server = format!("http://{}", socket.local_addr().unwrap());
    let output = bench(&server, &[]).await;
    assert_eq!(output.status.code(), Some(3));
    assert!(said(&output).contains("cannot reach"), "{output:?}");
}

#[tokio::test]
async fn what_cannot_be_watched_or_asked_is_said() {
    let server = Rough::default().serve().await;
    for (arguments, words) in [
        (&["--watch", "api=2147483647", "--warm-up", "0"][..], "there is no process"),
        (&["--watch", "api"], "NAME=PID"),
        (&["--rate", "0"], "50/s"),
        (&["--size", "1"], "at least 2"),
        (&["--server", "https://127.0.0.1:1"], "plain http"),
        (&["--compare-raw", "embedded"], "RabbitMQ"),
    ] {
        let output = bench(&server, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(said(&output).contains(words), "{arguments:?}: {output:?}");
    }
}
