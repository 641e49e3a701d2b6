//! Webhooks: what is told, to whom, how often, and what becomes of those who do not listen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use buzzer_shared::time::{Clock, Span, SystemClock};
use buzzer_tests::client::Client;
use buzzer_tests::inside::{Answer, Inside};
use buzzer_tests::ledger::{HEALED, Ledger};
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::sink::{Heard, Manner, Rude, Sink};
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::faults::{API, WORKER};

const SINK: &str = "127.0.0.0/8";
/// For what takes a moment, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// As long as an endpoint has to answer, and what is around it.
const HUNG: Duration = Duration::from_secs(40);

/// A Buzzer whose webhooks may live on this machine, and which tries again soon.
async fn buzzer(schedule: &str) -> Inside {
    let schedule = schedule.parse().unwrap();
    Inside::allowing(SINK, |config| config.webhooks.webhook_schedule = schedule).await
}

async fn post(buzzer: &Inside, path: &str, body: Value) -> Answer {
    buzzer.send(buzzer.request(Method::POST, path).json(&body)).await
}

/// Registers a webhook, and returns it as it was answered, with its secret.
async fn register(buzzer: &Inside, body: Value) -> Value {
    let answer = post(buzzer, "/v1/webhooks", body).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let webhook = answer.json();
    assert_eq!(answer.header("location"), webhook["links"]["self"].as_str().unwrap());
    webhook
}

fn this(webhook: &Value) -> &str {
    webhook["links"]["self"].as_str().unwrap()
}

async fn deliveries(buzzer: &Inside, webhook: &Value) -> Vec<Value> {
    let answer = buzzer.get(webhook["links"]["deliveries"].as_str().unwrap()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()["items"].as_array().unwrap().clone()
}

/// The only delivery to a webhook, once it fits.
async fn delivery(buzzer: &Inside, webhook: &Value, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
    eventually(what, HUNG, async || {
        let all = deliveries(buzzer, webhook).await;
        assert!(all.len() < 2, "{all:?}");
        all.into_iter().find(|delivery| fits(delivery))
    })
    .await
}

async fn delivered(buzzer: &Inside, webhook: &Value) -> Value {
    delivery(buzzer, webhook, "it to be delivered", |delivery| delivery["state"] == "delivered").await
}

fn attempts(delivery: &Value) -> &Vec<Value> {
    delivery["attempts"].as_array().unwrap()
}

async fn events(buzzer: &Inside, job: &str) -> Vec<Value> {
    let request = buzzer.request(Method::GET, &format!("/v1/jobs/{job}/events?limit=500"));
    let page = buzzer.send(request.header("accept", "application/json")).await.json();
    page["items"].as_array().unwrap().clone()
}

fn secret(webhook: &Value) -> &str {
    webhook["secret"].as_str().unwrap()
}

#[tokio::test]
async fn an_event_is_posted_signed_and_on_record() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    sink.behaves("/hook", Manner::Says("thank you".into()));
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let job = buzzer.run("echo", r#"{"input": {"n": 1.50,  "text": "ä\u0000"}}"#).await;
    let heard = sink.hears("/hook", 1, SOON).await.remove(0);
    assert!(heard.verifies_with(secret(&webhook)) && heard.is_signed_with(secret(&webhook)), "{heard:?}");
    assert_eq!(heard.header("content-type"), "application/json");
    assert_eq!(heard.header("user-agent"), concat!("buzzer/", env!("CARGO_PKG_VERSION")));
    let last = events(&buzzer, job["id"].as_str().unwrap()).await.pop().unwrap();
    let body = json!({ "type": "job.succeeded", "timestamp": last["at"], "data": last });
    assert_eq!(heard.json(), body, "the event as every other way shows it");
    let text = String::from_utf8(heard.body.to_vec()).unwrap();
    assert!(text.contains(r#"{"n": 1.50,  "text": "ä\u0000"}"#), "byte for byte: {text}");

    let delivery = delivered(&buzzer, &webhook).await;
    assert_eq!(delivery["id"], heard.id());
    assert_eq!(delivery["event"], json!({ "type": "job.succeeded", "job_id": job["id"], "seq": 3 }));
    assert_eq!((&delivery["url"], &delivery["waiting"]), (&json!(sink.url("/hook")), &Value::Null));
    let attempt = &attempts(&delivery)[0];
    assert_eq!(
        (&attempt["status"], &attempt["answer"], &attempt["error"]),
        (&json!(200), &json!("thank you"), &Value::Null)
    );
    assert!(attempt["duration"].as_str().unwrap().parse::<Span>().is_ok() && attempt["at"].is_string(), "{attempt}");
    assert_eq!(sink.everything().len(), 1, "the end of the job, and nothing else");
}

#[tokio::test]
async fn a_webhook_chooses_types_kinds_and_tags() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let types = ["job.accepted", "job.started", "job.progress", "job.succeeded"];
    register(&buzzer, json!({ "url": sink.url("/all"), "events": types })).await;
    register(&buzzer, json!({ "url": sink.url("/kind"), "kinds": ["echo"] })).await;
    register(&buzzer, json!({ "url": sink.url("/tag"), "tags": { "table": "7" } })).await;
    let progress =
        buzzer.run("demo.progress", r#"{"input": {"steps": 2, "seconds": 0.4}, "tags": {"table": "7"}}"#).await;
    let echo = buzzer.run("echo", r#"{"input": 1}"#).await;
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    let mut log = events(&buzzer, &id(&progress)).await;
    log.extend(events(&buzzer, &id(&echo)).await);
    let heard = sink.hears("/all", log.len(), SOON).await;
    let told: BTreeSet<String> = heard.iter().map(|heard| heard.json()["data"].to_string()).collect();
    assert_eq!(told, log.iter().map(Value::to_string).collect());
    let jobs =
        |heard: Vec<Heard>| -> Vec<Value> { heard.iter().map(|one| one.json()["data"]["job_id"].clone()).collect() };
    assert_eq!(jobs(sink.hears("/kind", 1, SOON).await), [echo["id"].clone()]);
    assert_eq!(jobs(sink.hears("/tag", 1, SOON).await), [progress["id"].clone()]);
    assert_eq!(sink.everything().len(), log.len() + 2);
}

#[tokio::test]
async fn a_job_may_name_a_webhook_of_its_own() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let webhook = json!({ "url": sink.url("/own?key=s"), "events": ["job.accepted", "job.succeeded"] });
    let job = buzzer.run("echo", &json!({ "input": 1, "webhook": webhook }).to_string()).await;
    assert_eq!(job["webhook"], webhook);
    let heard = sink.hears("/own", 2, SOON).await;
    let secrets = buzzer.get("/v1/webhooks/jobs/secret").await.json();
    assert!(heard.iter().all(|heard| heard.is_signed_with(secret(&secrets))), "{heard:?}");
    let data = |heard: &Heard| heard.json()["data"].clone();
    let log = events(&buzzer, job["id"].as_str().unwrap()).await;
    assert_eq!(
        heard.iter().map(data).map(|event| event["seq"].as_u64()).collect::<BTreeSet<_>>(),
        [Some(1), Some(3)].into()
    );
    assert!(heard.iter().all(|heard| log.contains(&data(heard))));
    assert_eq!(buzzer.get("/v1/webhooks/jobs/secret").await.json(), secrets, "it stays");

    let all = json!({ "links": { "deliveries": "/v1/webhooks/jobs/deliveries" } });
    let listed = eventually("both to be delivered", SOON, async || {
        let listed = deliveries(&buzzer, &all).await;
        listed.iter().all(|one| one["state"] == "delivered").then_some(listed)
    })
    .await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[0]["url"], sink.url("/own?key=s"));
    let rotated = post(&buzzer, "/v1/webhooks/jobs/rotate", json!({ "overlap": "1h" })).await.json();
    let replay = listed[0]["links"]["replay"].as_str().unwrap();
    assert_eq!(post(&buzzer, replay, json!({})).await.status, StatusCode::ACCEPTED);
    let again = sink.hears("/own", 3, SOON).await.pop().unwrap();
    assert!(again.is_signed_with(secret(&secrets)) && again.is_signed_with(secret(&rotated)), "{again:?}");
    assert_eq!(again.id(), listed[0]["id"]);

    // The end alone, when nothing is said; and a job that is run again tells the same.
    let plain = buzzer.run("echo", &json!({ "input": 2, "webhook": { "url": sink.url("/end") } }).to_string()).await;
    sink.hears("/end", 1, SOON).await;
    let retry = post(&buzzer, &format!("{}/retry", plain["links"]["self"].as_str().unwrap()), json!({})).await.json();
    assert_eq!(retry["webhook"], plain["webhook"]);
    let told = sink.hears("/end", 2, SOON).await;
    assert_eq!(told[1].json()["data"]["job_id"], retry["id"]);
    let without = buzzer.run("echo", r#"{"input": 3}"#).await;
    assert!(without.get("webhook").is_none(), "{without}");
}

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

#[tokio::test]
async fn during_a_rotation_both_secrets_sign_and_then_the_new_one_alone() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let first = secret(&webhook).to_owned();
    let rotate = async |body: Value| post(&buzzer, &format!("{}/rotate", this(&webhook)), body).await;
    let test = async || {
        let before = sink.heard("/hook").len();
        let begun = post(&buzzer, &format!("{}/test", this(&webhook)), json!({})).await;
        assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
        (begun.json(), sink.hears("/hook", before + 1, SOON).await.pop().unwrap())
    };
    let (begun, heard) = test().await;
    assert_eq!((heard.id(), &begun["event"]), (begun["id"].as_str().unwrap(), &Value::Null));
    assert_eq!(heard.json()["type"], "webhook.test");
    assert!(heard.is_signed_with(&first) && heard.json()["timestamp"].is_string());

    // Without a body, for a day.
    let rotated = buzzer.send(buzzer.request(Method::POST, &format!("{}/rotate", this(&webhook)))).await.json();
    let second = secret(&rotated).to_owned();
    let until: buzzer_shared::time::Time = rotated["former_secret_until"].as_str().unwrap().parse().unwrap();
    assert!((86_000..86_401).contains(&until.since(SystemClock.now()).as_secs()), "{rotated}");
    let (_, heard) = test().await;
    assert!(heard.is_signed_with(&first) && heard.is_signed_with(&second));
    assert_eq!(heard.header("webhook-signature").split(' ').count(), 2);

    let third = secret(&rotate(json!({ "overlap": "0s" })).await.json()).to_owned();
    let (_, heard) = test().await;
    assert!(heard.is_signed_with(&third) && !heard.is_signed_with(&first) && !heard.is_signed_with(&second));
    let refused = rotate(json!({ "overlap": "31d" })).await;
    assert_eq!(
        (refused.status, refused.json()["errors"][0]["pointer"].clone()),
        (StatusCode::UNPROCESSABLE_ENTITY, json!("/overlap"))
    );
    assert_eq!(rotate(json!({ "overlpa": "1s" })).await.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn webhooks_are_listed_changed_and_deleted() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let first = register(&buzzer, json!({ "url": sink.url("/a"), "description": "the first" })).await;
    let second = register(&buzzer, json!({ "url": sink.url("/b"), "events": ["job.failed"], "kinds": ["echo"] })).await;
    let page = buzzer.get("/v1/webhooks?limit=1").await.json();
    let next = format!("/v1/webhooks?limit=1&cursor={}", page["next"].as_str().unwrap());
    let rest = buzzer.get(&next).await.json();
    let ids = [&page, &rest].map(|page| page["items"][0]["id"].clone());
    assert_eq!((ids, &rest["next"]), ([first["id"].clone(), second["id"].clone()], &Value::Null));
    assert!(!page.to_string().contains("whsec_"));

    let patch = async |body: Value| buzzer.send(buzzer.request(Method::PATCH, this(&first)).json(&body)).await;
    let changed = patch(json!({ "url": sink.url("/c"), "description": null, "tags": { "a": "b" } })).await.json();
    assert_eq!((&changed["url"], &changed["description"]), (&json!(sink.url("/c")), &Value::Null));
    assert_eq!(
        (&changed["tags"], &changed["events"]),
        (&json!({ "a": "b" }), &first["events"]),
        "what is not named stays"
    );
    assert_eq!(patch(json!({})).await.json(), changed);
    assert_eq!(buzzer.get(this(&first)).await.json(), changed);
    for (body, pointer) in [(json!({ "url": "https://10.0.0.1/" }), "/url"), (json!({ "events": [] }), "/events")] {
        let refused = patch(body).await;
        assert_eq!(
            (refused.status, refused.json()["errors"][0]["pointer"].clone()),
            (StatusCode::UNPROCESSABLE_ENTITY, json!(pointer))
        );
    }
    patch(json!({ "tags": {}, "enabled": false })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    patch(json!({ "enabled": true })).await;
    buzzer.run("echo", r#"{"input": 2}"#).await;
    let told = sink.hears("/c", 1, SOON).await;
    assert_eq!(told[0].json()["data"]["data"]["input"], 2);

    let deleted = buzzer.send(buzzer.request(Method::DELETE, this(&first))).await;
    assert_eq!((deleted.status, &deleted.json()["id"]), (StatusCode::OK, &first["id"]));
    for (method, path) in
        [(Method::GET, ""), (Method::DELETE, ""), (Method::POST, "/test"), (Method::GET, "/deliveries")]
    {
        let gone = buzzer.send(buzzer.request(method, &format!("{}{path}", this(&first)))).await;
        assert_eq!(
            (gone.status, gone.json()["type"].clone()),
            (StatusCode::NOT_FOUND, json!("/problems/unknown-webhook")),
            "{path}"
        );
    }
    buzzer.run("echo", r#"{"input": 3}"#).await;
    buzzer.run("demo.fail", r#"{"input": {"type": "t", "detail": "d"}, "retry": {"max_attempts": 1}}"#).await;
    assert_eq!(buzzer.get("/v1/webhooks").await.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(sink.everything().len(), 1, "nobody was told of what came then");
    let bad = buzzer.get("/v1/webhooks/x").await;
    assert_eq!((bad.status, bad.json()["type"].clone()), (StatusCode::BAD_REQUEST, json!("/problems/bad-id")));
}

#[tokio::test]
async fn a_url_that_leads_to_where_it_must_not_is_refused_when_it_is_named() {
    let buzzer = Inside::start().await;
    for (url, part) in [
        ("http://127.0.0.1/", "BUZZER_EGRESS_ALLOW"),
        ("https://127.0.0.1/", "BUZZER_EGRESS_ALLOW"),
        ("https://localhost:8443/", "BUZZER_EGRESS_ALLOW"),
        ("https://0x7f.1/", "BUZZER_EGRESS_ALLOW"),
        ("https://2130706433/", "BUZZER_EGRESS_ALLOW"),
        ("https://0177.0.0.1/", "BUZZER_EGRESS_ALLOW"),
        ("https://[::1]/", "BUZZER_EGRESS_ALLOW"),
        ("https://[::ffff:10.0.0.1]/", "BUZZER_EGRESS_ALLOW"),
        ("https://[64:ff9b::7f00:1]/", "BUZZER_EGRESS_ALLOW"),
        ("https://169.254.169.254/latest", "BUZZER_EGRESS_ALLOW"),
        ("http://example.com/", "https"),
        ("https://user:s3cret@example.com/", "password"),
        ("ftp://example.com/", "only https"),
        ("javascript:alert(1)", "only https"),
        ("example.com", "whole URL"),
        (&format!("https://example.com/{}", "x".repeat(2048)), "characters"),
    ] {
        let registered = post(&buzzer, "/v1/webhooks", json!({ "url": url })).await;
        let submitted = buzzer.submit("echo", &json!({ "input": 1, "webhook": { "url": url } }).to_string()).await;
        for (answer, pointer) in [(registered, "/url"), (submitted, "/webhook/url")] {
            assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{url}: {}", answer.text);
            let error = answer.json()["errors"][0].clone();
            assert_eq!(error["pointer"], pointer, "{url}");
            assert!(
                error["detail"].as_str().unwrap().contains(part) && !answer.text.contains("s3cret"),
                "{url}: {error}"
            );
        }
    }
    for (body, pointer) in [
        (json!({}), ""),
        (json!({ "url": "https://example.com/", "event": ["job.failed"] }), "/event"),
        (json!({ "url": "https://example.com/", "events": ["job.done"] }), "/events/0"),
        (json!({ "url": "https://example.com/", "events": [] }), "/events"),
        (json!({ "url": "https://example.com/", "kinds": ["No Kind"] }), "/kinds/0"),
        (json!({ "url": "https://example.com/", "description": "x".repeat(1001) }), "/description"),
        (json!({ "url": "https://example.com/", "tags": { "a": "x".repeat(257) } }), "/tags"),
    ] {
        let refused = post(&buzzer, "/v1/webhooks", body).await;
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.text);
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{}", refused.text);
    }
    let body = json!({ "input": 1, "webhook": { "url": "https://example.com/", "evnts": [] } });
    let refused = buzzer.submit("echo", &body.to_string()).await;
    assert_eq!(refused.json()["errors"][0]["pointer"], "/webhook/evnts", "{}", refused.text);
    assert_eq!((buzzer.count().await, buzzer.get("/v1/webhooks").await.json()["items"].clone()), (0, json!([])));
}

/// The API takes what its own setting names; the worker calls what its own does, whatever a name resolves to.
#[tokio::test]
async fn p9_what_the_worker_may_not_call_is_not_called() {
    let (sink, mut buzzer) = (Sink::start().await, Inside::without_worker().await);
    let allow = "127.0.0.0/8".parse().unwrap();
    drop(std::mem::replace(&mut buzzer, Inside::with(|config| config.webhooks.egress_allow = allow).await));
    let [literal, name] = [sink.url("/literal"), sink.url("/name").replace("127.0.0.1", "localhost")];
    for url in [literal, name] {
        let webhook = register(&buzzer, json!({ "url": url })).await;
        post(&buzzer, &format!("{}/test", this(&webhook)), json!({})).await;
        let refused = delivery(&buzzer, &webhook, "an attempt", |delivery| !attempts(delivery).is_empty()).await;
        let error = attempts(&refused)[0]["error"].as_str().unwrap().to_owned();
        assert!(error.contains("not allowed"), "{error}");
    }
    assert!(sink.everything().is_empty());
}

#[tokio::test]
async fn the_jobs_that_deliver_are_seen_by_nobody_and_cannot_be_submitted() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let every = ["job.accepted", "job.started", "job.succeeded"];
    register(&buzzer, json!({ "url": sink.url("/hook"), "events": every })).await;
    buzzer.run("echo", r#"{"input": 1}"#).await;
    sink.hears("/hook", 3, SOON).await;
    let input =
        json!({ "url": sink.url("/forged"), "signed": { "id": "a", "timestamp": 1, "signature": "v1,a" }, "body": {} });
    let refused = buzzer.submit("webhook.deliver", &json!({ "input": input }).to_string()).await;
    assert_eq!(
        (refused.status, refused.json()["type"].clone()),
        (StatusCode::FORBIDDEN, json!("/problems/reserved-kind"))
    );
    for (path, items) in [("/v1/jobs", 1), ("/v1/jobs?kind=webhook.deliver", 0)] {
        assert_eq!(buzzer.get(path).await.json()["items"].as_array().unwrap().len(), items, "{path}");
    }
    let kinds = buzzer.get("/v1/kinds").await;
    assert!(!kinds.text.contains("webhook.deliver"), "{}", kinds.text);
    assert_eq!(buzzer.get("/v1/kinds/webhook.deliver").await.status, StatusCode::NOT_FOUND);
    assert!(buzzer.get("/openapi.json").await.json()["paths"].get("/v1/jobs/webhook.deliver").is_none());
    let heard = sink.everything();
    assert_eq!(heard.len(), 3, "what is told is not told of: {heard:?}");
}

#[tokio::test]
async fn nobody_waits_in_the_dark() {
    let sink = Sink::start().await;
    let mut buzzer = buzzer("5s").await;
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    buzzer.stop_workers().await;
    post(&buzzer, &format!("{}/test", this(&webhook)), json!({})).await;
    let waits = deliveries(&buzzer, &webhook).await.remove(0);
    assert_eq!((&waits["state"], &waits["waiting"]), (&json!("pending"), &json!("no worker runs webhook.deliver now")));
    assert!(sink.everything().is_empty());
}

#[tokio::test]
async fn deliveries_are_listed_page_by_page_by_state_and_job_and_go_with_their_job() {
    let (buzzer, sink) = (buzzer("1h").await, Sink::start().await);
    sink.behaves("/hook", Manner::Status(500));
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let first = buzzer.run("echo", r#"{"input": 1}"#).await;
    sink.hears("/hook", 1, SOON).await;
    sink.behaves("/hook", Manner::Status(200));
    let second = buzzer.run("echo", r#"{"input": 2}"#).await;
    let list = async |query: &str| {
        let page = buzzer.get(&format!("{}/deliveries?{query}", this(&webhook))).await.json();
        let jobs =
            page["items"].as_array().unwrap().iter().map(|one| one["event"]["job_id"].clone()).collect::<Vec<_>>();
        (jobs, page["next"].clone())
    };
    let (one, two) = (first["id"].clone(), second["id"].clone());
    eventually("the second to be delivered", SOON, async || {
        (list("state=delivered").await.0 == [two.clone()]).then_some(())
    })
    .await;
    assert_eq!(list("").await, (vec![two.clone(), one.clone()], Value::Null));
    let (newest, next) = list("limit=1").await;
    assert_eq!(
        (newest, list(&format!("limit=1&cursor={}", next.as_str().unwrap())).await.0),
        (vec![two.clone()], vec![one.clone()])
    );
    assert_eq!(list("state=pending").await.0, std::slice::from_ref(&one));
    assert_eq!(list("state=failed").await.0, Vec::<Value>::new());
    assert_eq!(list(&format!("job={}", two.as_str().unwrap())).await.0, std::slice::from_ref(&two));
    for bad in ["limit=0", "cursor=j1", "state=done", "job=x"] {
        let refused = buzzer.get(&format!("{}/deliveries?{bad}", this(&webhook))).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{bad}: {}", refused.text);
    }
    buzzer.send(buzzer.request(Method::DELETE, first["links"]["self"].as_str().unwrap())).await;
    assert_eq!(list("").await.0, [two]);
}

#[tokio::test]
async fn events_of_a_time_are_replayed_with_those_that_were_missed() {
    let (buzzer, sink) = (buzzer("5s").await, Sink::start().await);
    let run = async |n: u32| buzzer.run("echo", &json!({ "input": n }).to_string()).await;
    let before = run(0).await;
    let missed = run(1).await;
    let webhook = register(&buzzer, json!({ "url": sink.url("/hook") })).await;
    let told = run(2).await;
    sink.hears("/hook", 1, SOON).await;
    delivered(&buzzer, &webhook).await;
    let after = run(3).await;
    sink.hears("/hook", 2, SOON).await;
    let replay = async |body: Value| post(&buzzer, &format!("{}/replay", this(&webhook)), body).await;
    let (from, to) = (missed["finished_at"].clone(), after["created_at"].clone());
    assert_eq!(replay(json!({ "from": from, "to": to, "undelivered": true })).await.json()["replayed"], 1);
    let heard = sink.hears("/hook", 3, SOON).await;
    assert_eq!(heard[2].json()["data"]["job_id"], missed["id"]);
    assert_ne!(heard[2].json()["data"]["job_id"], before["id"]);
    eventually("both to be delivered", SOON, async || {
        let all = deliveries(&buzzer, &webhook).await;
        all.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    assert_eq!(replay(json!({ "from": from, "to": to })).await.json(), json!({ "replayed": 2, "next": null }));
    let heard = sink.hears("/hook", 5, SOON).await;
    let ids = |job: &Value| -> BTreeSet<String> {
        heard.iter().filter(|one| one.json()["data"]["job_id"] == job["id"]).map(|one| one.id().to_owned()).collect()
    };
    assert_eq!((ids(&told).len(), ids(&missed).len(), ids(&after).len()), (1, 1, 1), "each under its own id");
    for (body, status) in [
        (json!({}), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": to, "to": from }), StatusCode::UNPROCESSABLE_ENTITY),
        (json!({ "from": from, "cursor": "d1" }), StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(replay(body.clone()).await.status, status, "{body}");
    }
}

/// An API that asks for keys, and a client for each of two tenants.
async fn two_tenants() -> (Api, Service, Client, Client) {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(&[("BUZZER_AUTH", "keys"), ("BUZZER_EGRESS_ALLOW", SINK)]).await;
    let worker = outside.worker(&[("BUZZER_EGRESS_ALLOW", SINK)]);
    api.knows("echo").await;
    let [shop, bank] = ["shop", "bank"].map(|tenant| (tenant, api.client()));
    let shop = shop.1.with_key(&api.key(&["--tenant", shop.0]).await);
    let bank = bank.1.with_key(&api.key(&["--tenant", bank.0]).await);
    (api, worker, shop, bank)
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_tenant_can_neither_see_nor_touch_anothers_webhooks() {
    let (_api, _worker, shop, bank) = two_tenants().await;
    let sink = Sink::start().await;
    let created =
        shop.send(shop.request(Method::POST, "/v1/webhooks").json(&json!({ "url": sink.url("/shop") }))).await;
    let webhook = created.unwrap().json();
    for (client, input) in [(&shop, 1), (&bank, 2)] {
        let id = client.accepted("echo", &json!(input)).await;
        client.done(&id, SOON).await;
    }
    let heard = sink.hears("/shop", 1, SOON).await;
    assert_eq!(heard[0].json()["data"]["data"]["input"], 1);
    let path = this(&webhook);
    let delivery = heard[0].id();
    for (method, path, body) in [
        (Method::GET, path.to_owned(), None),
        (Method::PATCH, path.to_owned(), Some(json!({ "enabled": false }))),
        (Method::DELETE, path.to_owned(), None),
        (Method::POST, format!("{path}/rotate"), None),
        (Method::POST, format!("{path}/test"), None),
        (Method::GET, format!("{path}/deliveries"), None),
        (Method::POST, format!("{path}/deliveries/{delivery}/replay"), None),
        (Method::POST, format!("{path}/replay"), Some(json!({ "from": "2026-01-01T00:00:00Z" }))),
        (Method::POST, format!("/v1/webhooks/jobs/deliveries/{delivery}/replay"), None),
    ] {
        let request = bank.request(method.clone(), &path);
        let request = if let Some(body) = body { request.json(&body) } else { request };
        let answer = bank.send(request).await.unwrap();
        assert_eq!(answer.status.as_u16(), 404, "{method} {path}: {}", answer.text);
    }
    assert_eq!(bank.get("/v1/webhooks").await.unwrap().json()["items"], json!([]));
    assert_ne!(
        bank.get("/v1/webhooks/jobs/secret").await.unwrap().json(),
        shop.get("/v1/webhooks/jobs/secret").await.unwrap().json()
    );
    assert_eq!(shop.get(path).await.unwrap().json()["enabled"], true);
    assert_eq!(sink.everything().len(), 1);
}

/// What was told, and what the logs have, as texts.
struct Told {
    /// By their ids: one event for each id.
    by_id: BTreeMap<String, String>,
}

impl Told {
    fn of(heard: &[Heard], secret: &str) -> Self {
        let mut by_id = BTreeMap::new();
        for one in heard {
            let body = one.json();
            assert_eq!((&body["type"], &body["timestamp"]), (&body["data"]["type"], &body["data"]["at"]));
            assert!(one.is_signed_with(secret), "{one:?}");
            let known = by_id.entry(one.id().to_owned()).or_insert_with(|| body["data"].to_string());
            assert_eq!(*known, body["data"].to_string(), "one id, one event");
        }
        Self { by_id }
    }

    fn events(&self) -> BTreeSet<&str> {
        let events: BTreeSet<_> = self.by_id.values().map(String::as_str).collect();
        assert_eq!(events.len(), self.by_id.len(), "one event, one id");
        events
    }
}

async fn logs(client: &Client, ids: impl Iterator<Item = &String>) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for id in ids {
        let request = client.request(Method::GET, &format!("/v1/jobs/{id}/events?limit=500"));
        let page = client.send(request.header("accept", "application/json")).await.unwrap().json();
        all.extend(page["items"].as_array().unwrap().iter().map(Value::to_string));
    }
    all
}

const EVERY: [&str; 11] = [
    "job.accepted",
    "job.started",
    "job.progress",
    "job.log",
    "job.output",
    "job.truncated",
    "job.retrying",
    "job.succeeded",
    "job.failed",
    "job.canceled",
    "job.expired",
];

/// What webhooks tell are the events of the logs, whatever is killed: none is missing, and none is made up.
#[tokio::test(flavor = "multi_thread")]
async fn p3_what_is_told_is_what_the_logs_have_whatever_is_killed() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut settings = API.to_vec();
    settings
        .extend([("BUZZER_EGRESS_ALLOW", SINK), ("BUZZER_WEBHOOK_SCHEDULE", "200ms,400ms,800ms,2s,2s,2s,2s,2s,2s")]);
    let mut api = outside.api(&settings).await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        workers.push(outside.worker(&[WORKER, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat()));
    }
    api.knows("demo.progress").await;
    let (client, sink) = (api.client(), Sink::start().await);
    let body = json!({ "url": sink.url("/every"), "events": EVERY });
    let webhook = client.send(client.request(Method::POST, "/v1/webhooks").json(&body)).await.unwrap().json();
    let mut ledger = Ledger::default();
    for round in 0..3 {
        ledger.submit(&client, "demo.progress", 20, |_| json!({ "steps": 4, "seconds": 1.0 })).await;
        ledger.submit(&client, "demo.flaky", 10, |_| json!({ "fail_times": 1 })).await;
        // Somebody who answers now well, now not.
        sink.behaves("/every", Manner::Status([500, 200, 503][round]));
        sink.hears("/every", 20 * (round + 1), SOON).await;
        workers[round % 2].kill();
        workers[round % 2].start();
        if round > 0 {
            api.process().kill();
            api.start_again().await;
        }
    }
    sink.behaves("/every", Manner::Status(200));
    for id in ledger.0.keys() {
        client.done(id, HEALED).await;
    }
    let expected = logs(&client, ledger.0.keys()).await;
    eventually("all to be told", HEALED, async || {
        let told: BTreeSet<String> = sink.heard("/every").iter().map(|one| one.json()["data"].to_string()).collect();
        expected.is_subset(&told).then_some(())
    })
    .await;
    let heard = sink.heard("/every");
    let told = Told::of(&heard, secret(&webhook));
    let all: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    // Jobs whose 202 was lost with the API are told of, too.
    let known = |event: &&&str| ledger.0.keys().any(|id| event.contains(id.as_str()));
    assert_eq!(told.events().iter().filter(known).copied().collect::<BTreeSet<_>>(), all);
    assert!(heard.len() > all.len(), "somebody had to be told twice");
}

/// A worker is killed when its POST has just been made, and so is the API: it is made again, under the same id.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_right_after_the_post_has_it_made_again_under_the_same_id() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[API, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat()).await;
    let mut worker = outside.worker(&[WORKER, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat());
    api.knows("echo").await;
    let (client, sink) = (api.client(), Sink::start().await);
    let post = async |path: &str, body: Value| {
        client.send(client.request(Method::POST, path).json(&body)).await.unwrap().json()
    };
    let webhook = post("/v1/webhooks", json!({ "url": sink.url("/hook") })).await;

    sink.behaves("/hook", Manner::Hangs);
    let id = client.accepted("echo", &json!(1)).await;
    sink.hears("/hook", 1, SOON).await;
    worker.kill();
    sink.behaves("/hook", Manner::Status(200));
    worker.start();
    let heard = sink.hears("/hook", 2, HEALED).await;
    assert_eq!((heard[0].id(), &heard[0].body), (heard[1].id(), &heard[1].body));
    assert!(heard.iter().all(|one| one.is_signed_with(secret(&webhook))));
    client.done(&id, SOON).await;

    // The API is away when the answer comes; the other secret signs then, too.
    sink.behaves("/hook", Manner::Hangs);
    client.accepted("echo", &json!(2)).await;
    sink.hears("/hook", 3, SOON).await;
    let rotated = post(&format!("{}/rotate", this(&webhook)), json!({})).await;
    api.process().kill();
    worker.kill();
    sink.behaves("/hook", Manner::Status(200));
    api.start_again().await;
    worker.start();
    let heard = sink.hears("/hook", 4, HEALED).await;
    assert_eq!(heard[2].id(), heard[3].id());
    assert!(heard[3].is_signed_with(secret(&webhook)));
    eventually("it to be delivered", HEALED, async || {
        let page = client.get(webhook["links"]["deliveries"].as_str().unwrap()).await.ok()?.json();
        page["items"].as_array()?.iter().all(|one| one["state"] == "delivered").then_some(())
    })
    .await;
    // Whatever goes out from now on.
    post(&format!("{}/test", this(&webhook)), json!({})).await;
    let last = sink.hears("/hook", 5, SOON).await.pop().unwrap();
    assert!(last.is_signed_with(secret(&webhook)) && last.is_signed_with(secret(&rotated)));
}

/// What one replica registers, the other tells of, from its next event on.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_tell_the_same_webhooks() {
    let outside = Outside::on(RabbitNode::shared().await);
    let store = PostgresServer::shared().await.database().await;
    let settings = [&[("BUZZER_STORE", store.as_str()), ("BUZZER_EGRESS_ALLOW", SINK)], API].concat();
    let (one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
    let _worker = outside.worker(&[WORKER, &[("BUZZER_EGRESS_ALLOW", SINK)]].concat());
    one.knows("echo").await;
    other.knows("echo").await;
    let (one, other, sink) = (one.client(), other.client(), Sink::start().await);
    let before = other.accepted("echo", &json!(0)).await;
    other.done(&before, SOON).await;
    let mut ids = BTreeSet::new();
    let mut secrets = Vec::new();
    for (registering, telling, path) in [(&one, &other, "/a"), (&other, &one, "/b")] {
        let body = json!({ "url": sink.url(path), "events": EVERY });
        let created = registering.send(registering.request(Method::POST, "/v1/webhooks").json(&body)).await.unwrap();
        secrets.push((path, secret(&created.json()).to_owned()));
        for n in 0..20 {
            ids.insert(telling.accepted("echo", &json!(n)).await);
        }
    }
    for id in &ids {
        one.done(id, HEALED).await;
    }
    let expected = logs(&one, ids.iter()).await;
    let heard = sink.hears("/a", expected.len(), HEALED).await;
    let told = Told::of(&heard, &secrets[0].1);
    assert_eq!(told.events(), expected.iter().map(String::as_str).collect());
    let second: BTreeSet<_> = expected.iter().filter(|event| !event.contains(&before)).cloned().collect();
    let heard = sink.hears("/b", second.len() / 2, HEALED).await;
    assert!(Told::of(&heard, &secrets[1].1).events().iter().all(|event| expected.contains(*event)));
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

/// The command does for people and scripts what the API does for programs.
#[tokio::test(flavor = "multi_thread")]
async fn buzzer_webhooks_registers_shows_changes_tests_and_replays() {
    let settings = [("BUZZER_EGRESS_ALLOW", SINK), ("BUZZER_WEBHOOK_SCHEDULE", "1h")];
    let (api, sink) = (Outside::up(&settings).await, Sink::start().await);
    let run = async |arguments: &[&str]| {
        let (status, printed) = api.command(arguments).await;
        (status, printed.trim_end().to_owned())
    };
    let ok = async |arguments: &[&str]| {
        let (status, printed) = run(arguments).await;
        assert_eq!(status, 0, "{arguments:?}: {printed}");
        printed
    };
    let words = |line: &str| line.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>();
    let url = sink.url("/hook");
    let created = ok(&["webhooks", "create", &url, "--event", "job.succeeded", "-k", "echo", "-d", "the shop"]).await;
    let [id, secret] = words(&created).try_into().unwrap();
    let listed = ok(&["webhooks", "list"]).await;
    let row = words(listed.lines().nth(1).unwrap());
    assert_eq!(row, [id.as_str(), "enabled", "job.succeeded", "echo", &url, "the", "shop"]);
    let shown: Value = serde_json::from_str(&ok(&["webhooks", "show", &id]).await).unwrap();
    assert_eq!((&shown["kinds"], &shown["description"]), (&json!(["echo"]), &json!("the shop")));

    let tested = ok(&["webhooks", "test", &id]).await;
    let [test, state, status, ..] = &words(&tested)[..] else { panic!("{tested}") };
    assert_eq!((state.as_str(), status.as_str()), ("delivered", "200"));
    let heard = sink.heard("/hook").remove(0);
    assert!(heard.id() == test && heard.is_signed_with(&secret), "{heard:?}");

    let rotated = ok(&["webhooks", "rotate", &id, "--overlap", "1h"]).await;
    sink.behaves("/hook", Manner::Status(500));
    assert_eq!(run(&["webhooks", "test", &id]).await.0, 1, "it was not delivered");
    let heard = sink.heard("/hook").pop().unwrap();
    assert!(heard.is_signed_with(&secret) && heard.is_signed_with(&rotated), "{heard:?}");
    assert!(ok(&["webhooks", "list"]).await.contains("failing"));
    let pending = ok(&["webhooks", "deliveries", &id, "--state", "pending"]).await;
    let row = words(pending.lines().nth(1).unwrap());
    assert_eq!((row[1].as_str(), row[4].as_str(), row[5].as_str()), ("webhook.test", "pending", "1"));
    assert!(pending.contains("500 in") && pending.contains("not due"), "{pending}");
    sink.behaves("/hook", Manner::Status(200));
    assert_eq!(ok(&["webhooks", "replay", &id, &row[0]]).await, format!("{}  pending", row[0]));
    sink.hears("/hook", 3, SOON).await;

    ok(&["submit", "echo", "--input", "1", "--wait"]).await;
    sink.hears("/hook", 4, SOON).await;
    let from = shown["created_at"].as_str().unwrap();
    eventually("it to be delivered", SOON, async || {
        ok(&["webhooks", "deliveries", &id, "--state", "pending"]).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(ok(&["webhooks", "replay", &id, "--from", from, "--undelivered"]).await, "0 replayed");
    assert_eq!(ok(&["webhooks", "replay", &id, "--from", from]).await, "1 replayed");
    assert_eq!(sink.hears("/hook", 5, SOON).await[4].id(), sink.heard("/hook")[3].id());

    assert_eq!(ok(&["webhooks", "update", &id, "--disable"]).await, format!("{id}  disabled:owner"));
    assert_eq!(run(&["webhooks", "test", &id]).await.0, 2);
    assert_eq!(ok(&["webhooks", "update", &id, "--enable", "--every-kind"]).await, format!("{id}  enabled"));
    assert_eq!(ok(&["webhooks", "delete", &id]).await, format!("{id}  deleted"));
    assert_eq!(run(&["webhooks", "show", &id]).await.0, 2);
    assert_eq!(run(&["webhooks", "create", "http://8.8.8.8/"]).await.0, 2, "without TLS");

    ok(&["submit", "echo", "--input", "2", "--webhook", &sink.url("/own"), "--wait"]).await;
    let own = sink.hears("/own", 1, SOON).await.remove(0);
    assert!(own.is_signed_with(&ok(&["webhooks", "secret"]).await));
    let named = ok(&["webhooks", "deliveries", "jobs"]).await;
    assert!(named.contains("job.succeeded") && named.contains(own.id()), "{named}");
    let anew = ok(&["webhooks", "rotate", "jobs"]).await;
    assert_eq!(ok(&["webhooks", "secret"]).await, anew);
}
