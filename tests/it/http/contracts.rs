//! What workers say of one kind: several things at once, something new, something that is not taken.

use std::time::{Duration, Instant};

use buzzer_shared::broker::{Receipts, Subscription};
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::message::{Announce, Beat, Control};
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_tests::inside::{Inside, topology};
use buzzer_tests::wait::{eventually, within};
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

/// A worker that only speaks.
struct Speaker {
    id: WorkerId,
}

impl Speaker {
    fn new() -> Self {
        Self { id: WorkerId::new(SystemClock.now()) }
    }

    async fn announce(&self, buzzer: &Inside, kinds: Vec<Value>) {
        let started_at = SystemClock.now();
        let (host, version) = ("box".into(), "1".into());
        let announce = Announce { worker: self.id, host, version, started_at, kinds: vec![], refused: vec![] };
        let mut message = announce.to_message();
        let mut body: Value = serde_json::from_slice(&message.body).unwrap();
        body["kinds"] = kinds.into();
        message.body = body.to_string().into();
        buzzer.broker().publish(topology().pulse(), message).await.unwrap();
    }

    async fn beat(&self, buzzer: &Inside, leaving: bool) {
        let beat = Beat { worker: self.id, held: vec![], leaving };
        buzzer.broker().publish(topology().pulse(), beat.to_message()).await.unwrap();
    }
}

fn kind(name: &str, input_schema: Value) -> Value {
    let mut spec = serde_json::to_value(KindSpec::any("any".parse().unwrap())).unwrap();
    (spec["name"], spec["input_schema"]) = (name.into(), input_schema);
    spec
}

fn old() -> Value {
    kind("letter", json!({ "type": "object", "properties": { "to": { "type": "string" } } }))
}

fn new() -> Value {
    kind("letter", json!({ "type": "object", "properties": { "to": { "type": "string" } }, "required": ["to"] }))
}

/// The kind, once its contracts and who runs them are like this, the newest first.
async fn shows(buzzer: &Inside, expected: &[(u32, &Speaker)]) -> Value {
    eventually("the contracts are shown", LIMIT, async || {
        for (_, speaker) in expected {
            speaker.beat(buzzer, false).await;
        }
        let kind = buzzer.get("/v1/kinds/letter").await;
        let kind = kind.status.is_success().then(|| kind.json())?;
        let contracts = kind["contracts"].as_array().unwrap();
        let shown = contracts.iter().map(|contract| (contract["version"].clone(), contract["workers"].clone()));
        shown.eq(expected.iter().map(|(version, speaker)| (json!(version), json!([speaker.id])))).then_some(kind)
    })
    .await
}

#[tokio::test]
async fn p10_two_contracts_of_one_kind_live_side_by_side_and_the_newer_one_documents_and_validates() {
    let buzzer = Inside::without_worker().await;
    let (one, other) = (Speaker::new(), Speaker::new());
    one.announce(&buzzer, vec![old()]).await;
    let kind = shows(&buzzer, &[(1, &one)]).await;
    assert_eq!((&kind["version"], &kind["contracts"][0]["breaking"]), (&json!(1), &json!([])));
    assert_eq!(buzzer.submit("letter", r#"{"input": {}}"#).await.status, 202);

    other.announce(&buzzer, vec![new()]).await;
    let kind = shows(&buzzer, &[(2, &other), (1, &one)]).await;
    assert_eq!((&kind["version"], &kind["slots_live"]), (&json!(2), &json!(2)));
    assert_eq!(kind["input_schema"], new()["input_schema"]);
    let breaking = &kind["contracts"][0]["breaking"];
    assert_eq!([&breaking[0]["at"], &breaking[0]["change"]], ["/input/to", "required"], "{breaking}");
    let refused = buzzer.submit("letter", r#"{"input": {}}"#).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    let document = buzzer.get("/openapi.json").await.json();
    assert_eq!(document["components"]["schemas"]["letter_input"]["required"], json!(["to"]));

    // Both announce themselves now and then; nothing goes back and forth for that.
    one.announce(&buzzer, vec![old()]).await;
    other.announce(&buzzer, vec![new()]).await;
    shows(&buzzer, &[(2, &other), (1, &one)]).await;

    other.beat(&buzzer, true).await;
    let kind = shows(&buzzer, &[(1, &one)]).await;
    assert_eq!(kind["version"], 1, "taken back");
    assert_eq!(buzzer.submit("letter", r#"{"input": {}}"#).await.status, 202);
}

#[tokio::test]
async fn p10_contracts_and_what_is_refused_survive_a_restart_of_the_api() {
    let buzzer = Inside::without_worker().await;
    let (one, other) = (Speaker::new(), Speaker::new());
    one.announce(&buzzer, vec![old()]).await;
    other.announce(&buzzer, vec![new(), kind("No Kind", json!(true))]).await;
    shows(&buzzer, &[(2, &other), (1, &one)]).await;
    let refused = async |buzzer: &Inside| {
        let workers = buzzer.get("/v1/workers").await.json();
        workers["items"].as_array().unwrap().iter().map(|worker| worker["refused"].clone()).collect::<Vec<_>>()
    };
    let before = refused(&buzzer).await;
    assert_eq!(before[1][0]["kind"], "No Kind", "{before:?}");

    let buzzer = buzzer.restart_beside_workers().await;
    assert_eq!(refused(&buzzer).await, before);
    let kind = shows(&buzzer, &[(2, &other), (1, &one)]).await;
    assert_eq!(kind["contracts"][0]["breaking"][0]["change"], "required");
    assert_eq!((&kind["contracts"][0]["breaking_of"], &kind["contracts"][1]["breaking_of"]), (&json!(1), &json!(null)));
    assert_eq!(buzzer.submit("letter", r#"{"input": {}}"#).await.status, 422);
    let unknown = buzzer.get("/v1/kinds/No%20Kind").await;
    let detail = unknown.json()["detail"].as_str().unwrap_or_default().to_owned();
    assert!(unknown.status == 404 && detail.contains("What a worker says of it is not taken: "), "{detail}");
}

#[tokio::test]
async fn a_worker_that_has_left_stays_away_whatever_it_says_late() {
    let buzzer = Inside::without_worker().await;
    let (one, other) = (Speaker::new(), Speaker::new());
    one.announce(&buzzer, vec![old()]).await;
    shows(&buzzer, &[(1, &one)]).await;
    one.beat(&buzzer, true).await;
    one.announce(&buzzer, vec![]).await;
    // What is said later is heard later.
    other.announce(&buzzer, vec![new()]).await;
    shows(&buzzer, &[(2, &other)]).await;
    let workers = buzzer.get("/v1/workers").await.json();
    let ids: Vec<_> = workers["items"].as_array().unwrap().iter().map(|worker| worker["id"].clone()).collect();
    assert_eq!(ids, [json!(other.id)]);
}

#[tokio::test]
async fn what_is_not_taken_is_told_to_its_worker_and_shown_and_the_other_kinds_go_on() {
    let buzzer = Inside::without_worker().await;
    let speaker = Speaker::new();
    let mut ear = buzzer.broker().subscribe(Subscription {
        queue: topology().control_queue(speaker.id),
        declare: topology().control(speaker.id),
        receipts: Receipts::Automatic,
    });
    within("the ear", LIMIT, ear.attached().wait_for(|attached| *attached)).await.unwrap();
    let mut misfit = kind("bad.example", json!({ "type": "object" }));
    misfit["example"] = json!(7);
    let nested = (0..100).fold(json!(true), |inner, _| json!({ "not": inner }));
    let values: Vec<_> = (0..5000).collect();
    let bad = [
        (misfit, "example does not fit"),
        (kind("bad.remote", json!({ "$ref": "http://127.0.0.1:1/schema" })), "nothing is fetched"),
        (kind("bad.pattern", json!({ "pattern": "^(?=(a+)+$)" })), "look-around"),
        (kind("bad.depth", nested), "flatter"),
        (kind("bad.loop", json!({ "$ref": "#" })), "back to itself"),
        (kind("bad.enum", json!({ "enum": values })), "more than 2000"),
        (kind("bad.size", json!({ "description": "x".repeat(300_000) })), "smaller"),
        (
            kind("bad.contradiction", json!({ "minimum": 2, "maximum": 1 })),
            "nothing lies between its minimum 2 and its maximum 1",
        ),
        (kind("bad.schema", json!({ "type": "strin" })), "no schema"),
        (kind("Bad Name", json!(true)), "words of a-z"),
        (json!({ "name": "bad.shape" }), "missing field"),
    ];
    let kinds = [old()].into_iter().chain(bad.iter().map(|(kind, _)| kind.clone())).chain([kind("last", json!({}))]);
    speaker.announce(&buzzer, kinds.collect()).await;

    let told = loop {
        let word = within("a word", LIMIT, ear.next()).await.unwrap();
        if let Control::Refused { worker, kinds } = Control::read(&word.message).unwrap() {
            assert_eq!(worker, speaker.id);
            break kinds;
        }
    };
    assert_eq!(told.len(), bad.len(), "{told:?}");
    for (kind, part) in &bad {
        let name = kind["name"].as_str().unwrap();
        let refusal = told.iter().find(|refusal| refusal.kind == name).unwrap_or_else(|| panic!("{name} was taken"));
        assert!(refusal.reason.contains(part), "{name}: {}", refusal.reason);
    }
    let workers = buzzer.get("/v1/workers").await.json();
    assert_eq!(workers["items"][0]["refused"], json!(told));
    assert_eq!(workers["items"][0]["kinds"], json!({ "last": 1, "letter": 1 }));
    assert_eq!(buzzer.submit("last", r#"{"input": 1}"#).await.status, 202);
    assert_eq!(buzzer.submit("bad.remote", r#"{"input": 1}"#).await.status, 404);
}

/// The type cannot say all that its schema says: the handler can read the example, the schema refuses it.
#[derive(Debug, Deserialize, JsonSchema)]
struct Amount(#[schemars(range(min = 1))] u32);

#[tokio::test]
async fn a_worker_that_is_refused_one_kind_runs_the_others() {
    let mut buzzer = Inside::without_worker().await;
    let pay = async |_: JobContext, amount: Amount| -> Result<u32, JobError> { Ok(amount.0) };
    let bad = HandlerOptions::new().example(0);
    buzzer.work(Worker::builder().handler_with("pay.bad", bad, pay).handler("pay.good", pay)).await;
    let workers = buzzer.get("/v1/workers").await.json();
    let refused = &workers["items"][0]["refused"];
    assert_eq!([&refused[0]["kind"], &refused[1]], [&json!("pay.bad"), &Value::Null], "{workers}");
    assert!(refused[0]["reason"].as_str().unwrap().contains("example does not fit"), "{workers}");
    assert_eq!(buzzer.run("pay.good", r#"{"input": 3}"#).await["output"], 3);
    assert_eq!(buzzer.submit("pay.bad", r#"{"input": 3}"#).await.status, 404);
}

/// Alternatives that hold each other: each level of an input doubles the ways to it.
#[tokio::test]
async fn p8_an_input_that_is_made_to_take_long_is_answered_soon() {
    let buzzer = Inside::without_worker().await;
    let speaker = Speaker::new();
    let variant = |tag: &str| json!({ "type": "object", "properties": { "a": { "$ref": "#" }, "t": { "const": tag } }, "required": ["t"] });
    speaker
        .announce(&buzzer, vec![kind("letter", json!({ "oneOf": [variant("x"), variant("y"), { "type": "null" }] }))])
        .await;
    shows(&buzzer, &[(1, &speaker)]).await;
    let deep = |innermost: &str| format!("{}{innermost}{}", r#"{"t":"x","a":"#.repeat(100), "}".repeat(100));
    for (innermost, status) in [("null", 202), ("7", 422)] {
        let begun = Instant::now();
        let answer = buzzer.submit("letter", &format!(r#"{{"input": {}}}"#, deep(innermost))).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
