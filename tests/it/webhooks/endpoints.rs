//! Endpoints: made, changed, refused, and whose they are.

use buzzer_shared::time::{Clock, SystemClock};
use buzzer_tests::client::Client;
use buzzer_tests::inside::Inside;
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::sink::{Manner, Sink};
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{SINK, SOON, attempts, buzzer, delivery, post, register, secret, this};

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
