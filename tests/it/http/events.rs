//! The events of one job.

use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::message::{Signal, SignalBody};
use buzzer_shared::time::{Clock, Span, SystemClock};
use buzzer_tests::events::{EventStream, Shown};
use buzzer_tests::inside::{Inside, topology};
use buzzer_tests::wait::{eventually, within};
use buzzer_worker::{JobContext, JobError, Worker};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::{SOON, is_problem};

/// Tells of all that a handler can tell of, chapter by chapter: the next one when the one before was heard.
async fn story(ctx: JobContext, mut heard: watch::Receiver<usize>) -> Result<String, JobError> {
    for (chapter, percent) in [25.0, 50.0, 75.0].into_iter().enumerate() {
        ctx.progress(percent, "");
        ctx.log(format!("at {percent} %\nand on"));
        ctx.output("piece ");
        heard.wait_for(|heard| *heard > chapter).await.expect("somebody listens");
    }
    ctx.log("the end");
    Ok("piece piece piece ".into())
}

/// With a worker that tells stories, and who says how many chapters were heard.
async fn with_story() -> (Inside, watch::Sender<usize>) {
    let mut buzzer = Inside::without_worker().await;
    let (says, heard) = watch::channel(0);
    buzzer.work(Worker::builder().handler("story", move |ctx, (): ()| story(ctx, heard.clone()))).await;
    (buzzer, says)
}

async fn submitted(buzzer: &Inside, kind: &str, body: &str) -> String {
    buzzer.submit(kind, body).await.json()["links"]["events"].as_str().unwrap().to_owned()
}

async fn stream(buzzer: &Inside, path: &str) -> EventStream {
    EventStream::open(buzzer.request(Method::GET, path)).await.unwrap().expect("a stream")
}

async fn all(stream: EventStream) -> Vec<Shown> {
    within("the end of a stream", SOON, stream.rest()).await.unwrap()
}

/// The log as a page of JSON.
async fn page(buzzer: &Inside, path: &str) -> Value {
    buzzer.send(buzzer.request(Method::GET, path).header("accept", "application/json")).await.json()
}

#[tokio::test]
async fn p3_a_stream_shows_the_log_as_it_grows_and_ends_with_the_job() {
    let (buzzer, heard) = with_story().await;
    let path = submitted(&buzzer, "story", r#"{"input": null}"#).await;
    let mut stream = stream(&buzzer, &path).await;
    assert_eq!(stream.headers["cache-control"], "no-cache");
    assert_eq!(stream.headers["x-accel-buffering"], "no");
    let mut shown = Vec::new();
    while let Some(next) = within("an event", SOON, stream.next()).await.unwrap() {
        // Whoever asks at once never sees the job as it was before.
        let job = buzzer.get(path.strip_suffix("/events").unwrap()).await.json();
        assert!(job["seq"].as_u64().unwrap() >= next.event["seq"].as_u64().unwrap(), "{job} after {next:?}");
        heard.send_modify(|heard| *heard += usize::from(next.r#type == "job.output"));
        shown.push(next);
    }
    for (event, seq) in shown.iter().zip(1..) {
        assert_eq!((&event.event["seq"], event.id.parse().ok()), (&json!(seq), Some(seq)));
    }
    let types: Vec<_> = shown.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!((types[0], types[1]), ("job.accepted", "job.started"));
    let data = |r#type: &str| shown.iter().find(|event| event.r#type == r#type).unwrap().event["data"].clone();
    assert_eq!(data("job.progress")["percent"], 25.0);
    assert_eq!(data("job.log")["text"], "at 25 %\nand on");
    assert_eq!(data("job.output")["chunk"], "piece ");
    let job = buzzer.get(path.strip_suffix("/events").unwrap()).await.json();
    assert_eq!(shown.last().unwrap().event["data"], job, "the last event has the job as GET shows it");
    assert_eq!(shown[shown.len() - 2].event["data"], json!({ "text": "the end" }), "what was told last is not lost");

    let listed = page(&buzzer, &path).await;
    let events: Vec<_> = shown.iter().map(|shown| shown.event.clone()).collect();
    assert_eq!(listed, json!({ "items": events, "next": null }));
}

#[tokio::test]
async fn a_submission_may_be_answered_by_its_events() {
    let buzzer = Inside::start().await;
    let submission = || {
        let request = buzzer.submission("echo", "{\"input\": {\"a\":\r\n 1}, \"tags\": {\"a\": \"b\"}}");
        request.header("idempotency-key", "once")
    };
    let stream = EventStream::open(submission()).await.unwrap().unwrap();
    let path = stream.headers["location"].to_str().unwrap().to_owned();
    let shown = all(stream).await;
    let types: Vec<_> = shown.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(types, ["job.accepted", "job.started", "job.succeeded"]);
    let job = buzzer.get(&path).await.json();
    assert_eq!(shown[2].event["data"], job);
    let again = EventStream::open(submission()).await.unwrap().unwrap();
    assert_eq!(all(again).await, shown, "the same job from its beginning");
    assert_eq!(buzzer.count().await, 1);
}

#[tokio::test]
async fn a_stream_goes_on_after_any_event() {
    let buzzer = Inside::start().await;
    let path = submitted(&buzzer, "demo.progress", r#"{"input": {"steps": 3, "seconds": 0.5}}"#).await;
    let whole = all(stream(&buzzer, &path).await).await;
    for (at, last) in whole.iter().enumerate().take(whole.len() - 1) {
        let by_query = stream(&buzzer, &format!("{path}?after={}", last.id)).await;
        assert_eq!(all(by_query).await, whole[at + 1..]);
        // A browser comes back with the query that it began with: what it saw last counts.
        let request = buzzer.request(Method::GET, &format!("{path}?after=1")).header("last-event-id", &last.id);
        let by_header = EventStream::open(request).await.unwrap().unwrap();
        assert_eq!(all(by_header).await, whole[at + 1..]);
        let page = page(&buzzer, &format!("{path}?after={}&limit=1", last.id)).await;
        assert_eq!(page["items"], json!([whole[at + 1].event]));
        assert_eq!(page["next"].is_null(), at + 2 == whole.len(), "{page}");
    }
    let end = buzzer.request(Method::GET, &path).header("last-event-id", &whole.last().unwrap().id);
    assert!(EventStream::open(end).await.unwrap().is_none(), "204: a browser does not come back");
}

#[tokio::test]
async fn what_is_no_place_in_a_log_is_refused() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("echo", r#"{"input": 1}"#).await;
    let path = job["links"]["events"].as_str().unwrap();
    for cursor in ["x", "-1", "4", "f3", "4294967296"] {
        let request = buzzer.request(Method::GET, path).header("last-event-id", cursor);
        is_problem(&buzzer.send(request).await, 400, "bad-cursor");
    }
    is_problem(&buzzer.get(&format!("{path}?after=4")).await, 400, "bad-cursor");
    is_problem(&buzzer.get(&format!("{path}?after=x")).await, 400, "bad-query");
    is_problem(&buzzer.get(&format!("{path}?since=1")).await, 400, "bad-query");
    is_problem(&buzzer.get("/v1/jobs/x/events").await, 400, "bad-id");
    is_problem(&buzzer.get("/v1/jobs/019ab4a6-2c00-7000-8000-000000000000/events").await, 410, "job-gone");
}

#[tokio::test]
async fn where_no_form_fits_nothing_is_stored() {
    let buzzer = Inside::start().await;
    let as_html = |request: reqwest::RequestBuilder| buzzer.send(request.header("accept", "text/html"));
    is_problem(&as_html(buzzer.submission("echo", r#"{"input": 1}"#)).await, 406, "not-acceptable");
    is_problem(&as_html(buzzer.request(Method::GET, "/v1/events")).await, 406, "not-acceptable");
    assert_eq!(buzzer.count().await, 0);
    let job = buzzer.run("echo", r#"{"input": 1}"#).await;
    let events = buzzer.request(Method::GET, job["links"]["events"].as_str().unwrap());
    let refused = as_html(events).await;
    is_problem(&refused, 406, "not-acceptable");
    assert_eq!(refused.json()["offered"], json!(["text/event-stream", "application/json"]));
}

#[tokio::test]
async fn p8_more_streams_than_allowed_are_refused_and_nothing_is_stored_for_them() {
    let buzzer = Inside::with(|config| config.max_streams = 2).await;
    let path = submitted(&buzzer, "echo", r#"{"input": 1, "delay": "1h"}"#).await;
    let first = stream(&buzzer, &path).await;
    let second = stream(&buzzer, "/v1/events").await;
    let streaming = || buzzer.submission("echo", r#"{"input": 2}"#).header("accept", "text/event-stream");
    for request in [buzzer.request(Method::GET, &path), buzzer.request(Method::GET, "/v1/events"), streaming()] {
        let refused = buzzer.send(request).await;
        is_problem(&refused, 503, "too-many-streams");
        assert_eq!((refused.header("retry-after"), &refused.json()["limit"]), ("2", &json!(2)));
    }
    assert_eq!(buzzer.count().await, 1);
    assert!(page(&buzzer, &path).await["items"].is_array(), "a page is no stream");
    drop(second);
    eventually("a place to be free", SOON, async || {
        (buzzer.send(buzzer.request(Method::HEAD, "/v1/events")).await.status == 200).then_some(())
    })
    .await;
    drop(first);
}

/// A clean stop does not wait for streams, and who comes back misses nothing.
#[tokio::test]
async fn p11_streams_end_with_the_process_and_go_on_in_the_next() {
    // Far longer than a stop takes that waits for nobody.
    let mut buzzer = Inside::with(|config| config.drain = Span::from_secs(120)).await;
    buzzer.stop_workers().await;
    let path = submitted(&buzzer, "echo", r#"{"input": 1}"#).await;
    let mut of_job = stream(&buzzer, &path).await;
    let mut of_all = stream(&buzzer, "/v1/events?after=f0").await;
    let first = of_job.next().await.unwrap().unwrap();
    assert_eq!(of_all.next().await.unwrap().unwrap().event, first.event);
    let (mut buzzer, of_job_ends, of_all_ends) =
        within("a clean stop", SOON, async { tokio::join!(buzzer.restart(), of_job.next(), of_all.next()) }).await;
    assert_eq!((of_job_ends.unwrap(), of_all_ends.unwrap()), (None, None));
    buzzer.work(buzzer_worker::stock_worker(&buzzer_worker::StockConfig::default())).await;
    let request = buzzer.request(Method::GET, &path).header("last-event-id", of_job.last_id.unwrap());
    let rest = all(EventStream::open(request).await.unwrap().unwrap()).await;
    let types: Vec<_> = rest.iter().map(|event| event.r#type.as_str()).collect();
    assert_eq!(types, ["job.started", "job.succeeded"]);
    let request = buzzer.request(Method::GET, "/v1/events").header("last-event-id", of_all.last_id.unwrap());
    let mut of_all = EventStream::open(request).await.unwrap().unwrap();
    for expected in rest {
        assert_eq!(within("the feed", SOON, of_all.next()).await.unwrap().unwrap().event, expected.event);
    }
}

/// A worker that knows no bounds, as somebody may write one in another language.
#[tokio::test]
async fn p8_a_log_is_bounded_and_says_so() {
    let buzzer = Inside::start().await;
    // Ended by hand, once everything has been told.
    let path = submitted(&buzzer, "demo.sleep", r#"{"input": {"seconds": 60}}"#).await;
    let cancel = path.replace("/events", "/cancel");
    let mut stream = stream(&buzzer, &path).await;
    let (mut types, mut n) = (Vec::new(), 100);
    while let Some(next) = within("an event", SOON, stream.next()).await.unwrap() {
        types.push(next.r#type);
        if types.last().unwrap() == "job.started" {
            let job = next.event["job_id"].as_str().unwrap().parse().unwrap();
            for _ in 0..8 {
                n += 1;
                let body = SignalBody::Output { chunk: "x".repeat(200_000) };
                let now = SystemClock.now();
                let signal = Signal { run: RunId { job, dispatch: 1 }, n, worker: WorkerId::new(now), at: now, body };
                buzzer.broker().publish(topology().signal(), signal.to_message()).await.unwrap();
            }
        }
        if types.last().unwrap() == "job.truncated" {
            let asked = buzzer.send(buzzer.request(Method::POST, &cancel)).await;
            assert_eq!(asked.status, StatusCode::ACCEPTED, "{}", asked.text);
        }
    }
    let kept = vec!["job.output"; 5];
    let expected = [&["job.accepted", "job.started"][..], &kept, &["job.truncated", "job.canceled"]].concat();
    assert_eq!(types, expected);
}
