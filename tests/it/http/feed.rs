//! The events of all jobs of a tenant.

use std::time::Duration;

use buzzer_tests::events::{EventStream, Shown};
use buzzer_tests::inside::Inside;
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::Value;

use super::{SOON, is_problem};

async fn feed(buzzer: &Inside, query: &str) -> EventStream {
    let request = buzzer.request(Method::GET, &format!("/v1/events{query}"));
    EventStream::open(request).await.unwrap().expect("a stream")
}

async fn next(stream: &mut EventStream) -> Shown {
    within("an event of the feed", SOON, stream.next()).await.unwrap().expect("no end")
}

/// The types of the next events.
async fn types(stream: &mut EventStream, count: usize) -> Vec<String> {
    let mut types = Vec::new();
    for _ in 0..count {
        types.push(next(stream).await.r#type);
    }
    types
}

#[tokio::test]
async fn p3_the_feed_has_the_events_of_all_jobs_under_their_own_numbers() {
    let buzzer = Inside::start().await;
    let before = buzzer.run("echo", r#"{"input": 0}"#).await;
    let mut from_now_on = feed(&buzzer, "").await;
    let jobs = [buzzer.run("echo", r#"{"input": 1}"#).await, buzzer.run("echo", r#"{"input": 2}"#).await];
    for job in &jobs {
        for seq in 1..=3 {
            let Shown { event, .. } = next(&mut from_now_on).await;
            assert_eq!((&event["job_id"], event["seq"].as_i64()), (&job["id"], Some(seq)));
            if seq == 3 {
                assert_eq!(&event["data"], job, "the job as GET shows it");
            }
        }
    }
    let mut from_the_beginning = feed(&buzzer, "?after=f0").await;
    assert_eq!(next(&mut from_the_beginning).await.event["job_id"], before["id"]);
}

#[tokio::test]
async fn the_feed_is_filtered_by_kind_tag_and_state() {
    let buzzer = Inside::start().await;
    let mut all = feed(&buzzer, "").await;
    let mut fails = feed(&buzzer, "?kind=demo.fail").await;
    let mut failed = feed(&buzzer, "?state=failed").await;
    let mut red = feed(&buzzer, "?tag=colour:red").await;
    let mut scheduled = feed(&buzzer, "?state=scheduled").await;
    buzzer.run("echo", r#"{"input": 1, "tags": {"colour": "blue"}}"#).await;
    buzzer.run("demo.fail", r#"{"input": {"type": "t", "detail": "d"}, "tags": {"colour": "red"}}"#).await;
    buzzer.submit("echo", r#"{"input": 1, "delay": "1h", "tags": {"colour": "red"}}"#).await;
    let failing = ["job.accepted", "job.started", "job.failed"];
    assert_eq!(types(&mut fails, 3).await, failing);
    assert_eq!(types(&mut failed, 1).await, ["job.failed"]);
    assert_eq!(types(&mut red, 4).await, [&failing[..], &["job.accepted"]].concat());
    let waiting = next(&mut scheduled).await.event;
    assert!(waiting["data"]["run_at"].is_string(), "{waiting}");
    assert_eq!(types(&mut all, 7).await.len(), 7);
}

#[tokio::test]
async fn what_is_no_place_in_a_feed_or_no_filter_is_refused() {
    let buzzer = Inside::start().await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    for cursor in ["3", "j1", "f", "fx", "f-1", "f4", "f7fffffffffffffff", "f10000000000000000"] {
        is_problem(&buzzer.get(&format!("/v1/events?after={cursor}")).await, 400, "bad-cursor");
        let request = buzzer.request(Method::GET, "/v1/events").header("last-event-id", cursor);
        is_problem(&buzzer.send(request).await, 400, "bad-cursor");
    }
    for query in ["colour=red", "kind=No%20kind", "state=sleepy", "tag=red"] {
        is_problem(&buzzer.get(&format!("/v1/events?{query}")).await, 400, "bad-query");
    }
}

/// Before its first event a stream has told from where on it is.
#[tokio::test]
async fn who_is_cut_off_before_the_first_event_misses_none() {
    let buzzer = Inside::start().await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    let mut stream = feed(&buzzer, "?state=succeeded").await;
    // The first block brings the cursor, and no event yet.
    let cursor = eventually("the first block", SOON, async || {
        let _ = tokio::time::timeout(Duration::from_millis(50), stream.next()).await;
        stream.last_id.clone()
    })
    .await;
    drop(stream);
    let missed = buzzer.run("echo", r#"{"input": 2}"#).await;
    let mut stream = feed(&buzzer, &format!("?state=succeeded&after={cursor}")).await;
    assert_eq!(next(&mut stream).await.event["job_id"], missed["id"]);
}

/// It reads nothing while far more happens than is held for it. Where that takes so long that it is cut off, it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_slow_gets_everything_all_the_same() {
    let buzzer = Inside::start().await;
    let mut slow = feed(&buzzer, "").await;
    let input = "x".repeat(16 * 1024);
    let mut jobs = Vec::new();
    for _ in 0..450 {
        jobs.push(buzzer.run("echo", &format!(r#"{{"input": "{input}"}}"#)).await["id"].clone());
    }
    let mut seen: Vec<(Value, Value)> = Vec::new();
    let mut came_back = 0;
    while seen.len() < 3 * jobs.len() {
        if let Ok(Some(Shown { event, .. })) = within("an event of the feed", SOON, slow.next()).await {
            seen.push((event["job_id"].clone(), event["seq"].clone()));
        } else {
            came_back += 1;
            assert!(came_back < 5, "it reads as fast as it can, and is cut off");
            let last = slow.last_id.expect("a stream begins with an id");
            slow = feed(&buzzer, &format!("?after={last}")).await;
        }
    }
    let expected: Vec<_> = jobs.iter().flat_map(|id| (1..=3).map(|seq| (id.clone(), seq.into()))).collect();
    assert_eq!(seen, expected);
}
