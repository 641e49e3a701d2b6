//! What becomes of those who do not listen, and of those beside them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use buzzer_shared::time::Span;
use buzzer_tests::inside::Inside;
use buzzer_tests::sink::{Manner, Rude, Sink};
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{SINK, SOON, attempts, buzzer, delivered, deliveries, delivery, post, register, secret, this};

#[tokio::test]
async fn what_fails_is_tried_again_under_the_same_id_and_can_be_replayed() {
    let (buzzer, sink) = (buzzer("100ms,1s").await, Sink::start().await);
    sink.behaves("/hook", Manner::Status(500));
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    let failed = delivery(&buzzer, &webhook, "it to be given up", |delivery| delivery["state"] == "failed").await;
    let heard = sink.heard("/hook");
    assert_eq!((heard.len(), attempts(&failed).len()), (3, 3), "as often as the schedule has it, and once more");
    assert!(heard.iter().all(|one| one.id() == failed["id"] && one.is_signed_with(secret(&webhook))), "{heard:?}");
    assert!(heard.iter().all(|one| one.body == heard[0].body), "the same event");
    assert!(
        heard[1].at - heard[0].at >= Duration::from_millis(100) && heard[2].at - heard[1].at >= Duration::from_secs(1)
    );
    assert!(attempts(&failed).iter().all(|attempt| attempt["status"] == 500), "{failed}");
    let seen = buzzer.get(this(&webhook)).await.json();
    assert_eq!((seen["enabled"].clone(), seen["failing_since"].is_string()), (json!(true), true), "{seen}");
    assert!(seen.get("secret").is_none(), "it is not shown again");

    sink.behaves("/hook", Manner::Status(204));
    let replayed = post(&buzzer, failed["links"]["replay"].as_str().unwrap(), json!({})).await;
    assert_eq!((replayed.status, &replayed.json()["state"]), (StatusCode::ACCEPTED, &json!("pending")));
    let delivered = delivered(&buzzer, &webhook).await;
    assert_eq!((attempts(&delivered).len(), attempts(&delivered)[3]["status"].clone()), (4, json!(204)));
    assert_eq!(sink.heard("/hook")[3].id(), failed["id"]);
    assert_eq!(buzzer.get(this(&webhook)).await.json()["failing_since"], Value::Null);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_nobody_follows_it() {
    let (buzzer, sink) = (buzzer("1h").await, Sink::start().await);
    sink.behaves("/moved", Manner::Redirects(sink.url("/elsewhere")));
    let webhook = register(&buzzer, json!({ "url": sink.url("/moved") })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    let waits = delivery(&buzzer, &webhook, "an attempt", |delivery| !attempts(delivery).is_empty()).await;
    assert_eq!((&waits["state"], &attempts(&waits)[0]["status"]), (&json!("pending"), &json!(307)));
    assert!(waits["waiting"].as_str().unwrap().contains("not due"), "{waits}");
    assert!(sink.heard("/elsewhere").is_empty());
}

#[tokio::test]
async fn who_closes_the_line_or_is_not_there_is_tried_again() {
    let (buzzer, rude) = (buzzer("50ms").await, Rude::that_closes().await);
    let closes = register(&buzzer, json!({ "url": rude.url })).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let away = register(&buzzer, json!({ "url": format!("http://{nobody}/s3cret") })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    for webhook in [&closes, &away] {
        let failed = delivery(&buzzer, webhook, "it to be given up", |delivery| delivery["state"] == "failed").await;
        for attempt in attempts(&failed) {
            assert!(attempt["status"].is_null() && attempt["answer"].is_null(), "{attempt}");
            let error = attempt["error"].as_str().unwrap();
            assert!(!error.is_empty() && !error.contains("s3cret"), "{error}");
        }
        assert_eq!(attempts(&failed).len(), 2);
    }
    assert!(rude.calls() >= 2);
}

/// Those who hang take their time; meanwhile others are told at once.
#[tokio::test]
async fn who_hangs_or_drips_is_cut_off_and_holds_up_nobody() {
    let (buzzer, sink, rude) = (buzzer("1h").await, Sink::start().await, Rude::that_drips().await);
    sink.behaves("/hangs", Manner::Hangs);
    sink.behaves("/endless", Manner::Endless);
    let [hangs, endless, well] = ["/hangs", "/endless", "/well"].map(|path| sink.url(path));
    let hangs = register(&buzzer, json!({ "url": hangs })).await;
    let drips = register(&buzzer, json!({ "url": rude.url })).await;
    let endless = register(&buzzer, json!({ "url": endless })).await;
    register(&buzzer, json!({ "url": well })).await;
    let began = Instant::now();
    buzzer.run("echo", r#"{"input": 1}"#).await;
    sink.hears("/well", 1, Duration::from_secs(10)).await;
    let taken = delivered(&buzzer, &endless).await;
    assert!(began.elapsed() < Duration::from_secs(14), "while the others hang");
    assert_eq!(attempts(&taken)[0]["answer"].as_str().unwrap().len(), 1024, "only the beginning is read");
    for webhook in [&hangs, &drips] {
        let waits = delivery(&buzzer, webhook, "an attempt", |delivery| !attempts(delivery).is_empty()).await;
        assert_eq!(waits["state"], "pending", "{waits}");
        let attempt = &attempts(&waits)[0];
        assert_eq!((&attempt["error"], &attempt["status"]), (&json!("no answer within 15 s"), &Value::Null));
        let duration: Span = attempt["duration"].as_str().unwrap().parse().unwrap();
        assert!((15_000..20_000).contains(&duration.as_millis()), "{attempt}");
    }
}

#[tokio::test]
async fn who_is_busy_is_left_alone_as_long_as_it_asks() {
    let (buzzer, sink) = (buzzer("10ms").await, Sink::start().await);
    for (path, status) in [("/429", 429), ("/503", 503)] {
        sink.behaves(path, Manner::Busy(status, 3));
        register(&buzzer, json!({ "url": sink.url(path) })).await;
    }
    let began = Instant::now();
    buzzer.run("echo", r#"{"input": 1}"#).await;
    for path in ["/429", "/503"] {
        sink.hears(path, 1, SOON).await;
        sink.behaves(path, Manner::Status(200));
    }
    // What comes meanwhile is not sent either.
    buzzer.run("echo", r#"{"input": 2}"#).await;
    for path in ["/429", "/503"] {
        let heard = sink.hears(path, 3, SOON).await;
        assert!(heard[1].at - heard[0].at >= Duration::from_secs(3), "{path}: {:?}", heard[1].at - heard[0].at);
    }
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[tokio::test]
async fn who_is_gone_is_disabled_says_so_and_can_be_enabled() {
    let (buzzer, sink) = (buzzer("50ms").await, Sink::start().await);
    sink.behaves("/gone", Manner::Status(410));
    let webhook = register(&buzzer, json!({ "url": sink.url("/gone") })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    let failed = delivery(&buzzer, &webhook, "it to fail", |delivery| delivery["state"] == "failed").await;
    assert_eq!(attempts(&failed).len(), 1, "it is not tried again");
    let disabled = buzzer.get(this(&webhook)).await.json();
    assert_eq!((&disabled["enabled"], &disabled["disabled"]["reason"]), (&json!(false), &json!("gone")));
    assert!(disabled["disabled"]["at"].is_string() && disabled["disabled"]["detail"].is_string(), "{disabled}");
    buzzer.run("echo", r#"{"input": 2}"#).await;
    for refused in [
        post(&buzzer, &format!("{}/test", this(&webhook)), json!({})).await,
        post(&buzzer, failed["links"]["replay"].as_str().unwrap(), json!({})).await,
        post(&buzzer, &format!("{}/replay", this(&webhook)), json!({ "from": "2026-01-01T00:00:00Z" })).await,
    ] {
        assert_eq!(
            (refused.status, refused.json()["type"].clone()),
            (StatusCode::CONFLICT, json!("/problems/webhook-disabled"))
        );
    }
    assert_eq!(deliveries(&buzzer, &webhook).await.len(), 1, "nothing is begun for it");

    sink.behaves("/gone", Manner::Status(200));
    let patch = buzzer.request(Method::PATCH, this(&webhook)).json(&json!({ "enabled": true }));
    let enabled = buzzer.send(patch).await.json();
    assert_eq!((&enabled["enabled"], &enabled["disabled"]), (&json!(true), &Value::Null));
    let from = webhook["created_at"].clone();
    let again = post(&buzzer, &format!("{}/replay", this(&webhook)), json!({ "from": from })).await;
    assert_eq!((again.status, again.json()), (StatusCode::ACCEPTED, json!({ "replayed": 2, "next": null })));
    let heard = sink.hears("/gone", 3, SOON).await;
    let inputs: BTreeSet<_> = heard[1..].iter().map(|one| one.json()["data"]["data"]["input"].as_u64()).collect();
    assert_eq!(inputs, [Some(1), Some(2)].into(), "also what came while it was disabled");
}

#[tokio::test]
async fn who_fails_for_too_long_is_disabled() {
    let buzzer = Inside::allowing(SINK, |config| {
        config.webhooks.webhook_schedule =
            "100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms,100ms,1h".parse().unwrap();
        config.webhooks.webhook_patience = Span::from_millis(500);
    })
    .await;
    let sink = Sink::start().await;
    sink.behaves("/fails", Manner::Status(500));
    let webhook = register(&buzzer, json!({ "url": sink.url("/fails") })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    let disabled = eventually("it to be disabled", SOON, async || {
        let seen = buzzer.get(this(&webhook)).await.json();
        (seen["enabled"] == false).then_some(seen)
    })
    .await;
    assert_eq!(disabled["disabled"]["reason"], "failing");
    let waits = deliveries(&buzzer, &webhook).await.remove(0);
    assert_eq!((&waits["state"], &waits["waiting"]), (&json!("pending"), &json!("the webhook is disabled")));

    sink.behaves("/fails", Manner::Status(200));
    buzzer.send(buzzer.request(Method::PATCH, this(&webhook)).json(&json!({ "enabled": true }))).await;
    delivered(&buzzer, &webhook).await;
}

/// Of a thousand endpoints a hundred hang: the others are told before any of those is cut off.
#[tokio::test(flavor = "multi_thread")]
async fn p9_a_hundred_endpoints_that_hang_hold_up_none_of_the_others() {
    const ENDPOINTS: usize = 1000;
    const HANG: usize = 100;
    const WAVES: usize = 3;
    let (buzzer, sink) = (buzzer("1h").await, Sink::start().await);
    for n in 0..ENDPOINTS {
        let path = format!("/{n}");
        if n % (ENDPOINTS / HANG) == 0 {
            sink.behaves(&path, Manner::Hangs);
        }
        register(&buzzer, json!({ "url": sink.url(&path) })).await;
    }
    let mut took = Vec::new();
    for wave in 1..=WAVES {
        let began = Instant::now();
        buzzer.run("echo", &json!({ "input": wave }).to_string()).await;
        let told = eventually("all that are well to be told", SOON, async || {
            let well = sink.everything().into_iter().filter(|one| !is_hanging(&one.path));
            let told: Vec<_> = well.filter(|one| one.at > began).collect();
            (told.len() >= ENDPOINTS - HANG).then_some(told)
        })
        .await;
        assert_eq!(told.len(), ENDPOINTS - HANG, "each once");
        took.extend(told.into_iter().map(|one| one.at - began));
    }
    took.sort_unstable();
    assert!(took.last() < Some(&Duration::from_secs(14)), "nobody waited until one that hangs was cut off: {took:?}");
    eprintln!("p50 {:?}, p99 {:?} after the submission", took[took.len() / 2], took[took.len() * 99 / 100]);
}

fn is_hanging(path: &str) -> bool {
    path[1..].parse::<usize>().unwrap().is_multiple_of(10)
}
