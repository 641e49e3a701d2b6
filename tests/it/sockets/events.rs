//! The events of one job on a socket.

use buzzer_tests::events::EventStream;
use buzzer_tests::inside::Inside;
use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::socket::{End, Socket};
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{KEY, LIMIT, is_problem, socket, upgrade};

/// A job that waits for its time, and where its events are.
async fn waiting(buzzer: &Inside) -> (String, String) {
    let job = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    (job["links"]["events"].as_str().unwrap().into(), job["links"]["cancel"].as_str().unwrap().into())
}

#[tokio::test]
async fn p3_a_socket_has_the_very_bytes_that_a_stream_has() {
    let buzzer = Inside::start().await;
    let body = "{\"input\": {\"steps\": 3, \"seconds\":\r\n 0.5}, \"tags\": {\"ä\": \"ö\"}}";
    let job = buzzer.submit("demo.progress", body).await.json();
    let path = job["links"]["events"].as_str().unwrap();
    let mut live = socket(&buzzer.client(), path).await;
    let mut seen = Vec::new();
    let end = loop {
        match live.text().await {
            Ok(text) => seen.push(text),
            Err(end) => break end,
        }
    };
    assert_eq!(end.code(), 1000, "{end:?}");
    assert!(seen.len() >= 5, "{seen:#?}");
    let stream = buzzer.send(buzzer.request(Method::GET, path).header("accept", "text/event-stream")).await.text;
    let data: Vec<_> = stream.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(seen, data);

    for after in 0..=data.len() {
        let mut again = socket(&buzzer.client(), &format!("{path}?after={after}")).await;
        for expected in &data[after..] {
            assert_eq!(again.text().await.as_deref(), Ok(*expected));
        }
        assert_eq!(again.text().await.unwrap_err().code(), 1000, "after {after}");
    }
}

#[tokio::test]
async fn what_is_refused_over_http_is_refused_before_a_socket_is_open() {
    let buzzer = Inside::with(|config| config.max_streams = 1).await;
    let client = buzzer.client();
    let (path, _) = waiting(&buzzer).await;
    let ask = async |path: &str| client.send(upgrade(&client, path)).await.unwrap();
    is_problem(&ask("/v1/jobs/x/events").await, 400, "bad-id");
    is_problem(&ask("/v1/jobs/019ab4a6-2c00-7000-8000-000000000000/events").await, 410, "job-gone");
    is_problem(&ask(&format!("{path}?after=2")).await, 400, "bad-cursor");
    is_problem(&ask(&format!("{path}?since=2")).await, 400, "bad-query");
    let open = socket(&client, &path).await;
    is_problem(&ask(&path).await, 503, "too-many-streams");
    assert_eq!(open.close().await.code(), 1000);
    eventually("its place to be free", LIMIT, async || Socket::open(&client, &path).await.ok()).await;
}

#[tokio::test]
async fn what_only_looks_like_a_socket_is_told_what_it_lacks() {
    let buzzer = Inside::start().await;
    let client = buzzer.client();
    let (path, _) = waiting(&buzzer).await;
    let ask = |version: &str, connection: &str| {
        let request =
            client.request(Method::GET, &path).header("connection", connection).header("upgrade", "websocket");
        request.header("sec-websocket-version", version)
    };
    for (version, connection) in [("8", "upgrade"), ("13", "keep-alive")] {
        let refused = buzzer.send(ask(version, connection).header("sec-websocket-key", KEY)).await;
        assert_eq!((refused.status.as_u16(), refused.header("sec-websocket-version")), (426, "13"));
        assert_eq!((refused.header("upgrade"), refused.header("connection")), ("websocket", "upgrade"));
        assert_eq!(refused.json()["type"], "/problems/upgrade-required");
    }
    is_problem(&client.send(ask("13", "upgrade")).await.unwrap(), 400, "bad-header");
    let other = client.request(Method::GET, &path).header("connection", "upgrade").header("upgrade", "h2c");
    let stream = EventStream::open(other).await.unwrap().expect("whoever asks for something else has the stream");
    drop(stream);
}

#[tokio::test]
async fn a_page_of_another_server_opens_no_socket_unless_it_is_named() {
    let origins = "https://app.example,http://127.0.0.1:1";
    let (strict, named, open) = tokio::join!(
        Inside::start(),
        Inside::with(|config| config.origins = origins.parse().unwrap()),
        Inside::with(|config| config.origins = "*".parse().unwrap()),
    );
    for (buzzer, allowed, refused) in [
        (&strict, &[][..], &["https://app.example", "null", "http://127.0.0.1:1"][..]),
        (&named, &["https://app.example", "http://127.0.0.1:1"], &["http://app.example", "null"]),
        (&open, &["https://app.example", "null"], &[]),
    ] {
        let client = buzzer.client();
        let (path, _) = waiting(buzzer).await;
        for origin in allowed.iter().copied().chain([client.base()]) {
            let mut page = Socket::open_from(&client, &path, Some(origin)).await.unwrap();
            assert_eq!(page.next().await.unwrap()["type"], "job.accepted", "{origin}");
        }
        for origin in refused {
            let answer = client.send(upgrade(&client, &path).header("origin", *origin)).await.unwrap();
            is_problem(&answer, 403, "origin-not-allowed");
            assert!(answer.json()["detail"].as_str().unwrap().contains(origin), "{}", answer.text);
        }
    }
}

#[tokio::test]
async fn nothing_is_taken_where_events_are_shown() {
    let buzzer = Inside::start().await;
    let (path, _) = waiting(&buzzer).await;
    for (message, code) in [
        (Message::text("{}"), 1003),
        (Message::binary("x"), 1003),
        (Message::text("x".repeat(4096 + 1)), 1009),
        (Message::text("x".repeat(4096)), 1003),
    ] {
        let mut socket = socket(&buzzer.client(), &path).await;
        assert_eq!(socket.next().await.unwrap()["type"], "job.accepted");
        socket.say(message).await;
        let (events, end) = socket.rest().await;
        assert_eq!((events.len(), end.code()), (0, code), "{end:?}");
    }
    // Whoever has gone without a word leaves nothing behind.
    let (path, cancel) = waiting(&buzzer).await;
    drop(socket(&buzzer.client(), &path).await);
    let mut stays = socket(&buzzer.client(), &path).await;
    stays.say(Message::Ping("x".into())).await;
    assert_eq!(stays.next().await.unwrap()["type"], "job.accepted");
    buzzer.send(buzzer.request(Method::POST, &cancel)).await;
    assert_eq!(stays.next().await.unwrap()["type"], "job.canceled");
}

#[tokio::test]
async fn p11_sockets_end_with_the_process_and_go_on_in_the_next() {
    let buzzer = Inside::start().await;
    let job = buzzer.submit("echo", r#"{"input": 1, "delay": "2s"}"#).await.json();
    let path = job["links"]["events"].as_str().unwrap();
    let mut open = socket(&buzzer.client(), path).await;
    let first = open.next().await.unwrap();
    let began = std::time::Instant::now();
    let (mut buzzer, end) = within("a clean stop", LIMIT, async { tokio::join!(buzzer.restart(), open.next()) }).await;
    assert_eq!(end.unwrap_err().code(), 1001);
    assert!(began.elapsed().as_secs() < 4, "it waited for sockets: {:?}", began.elapsed());
    buzzer.work(buzzer_worker::stock_worker(&buzzer_worker::StockConfig::default())).await;
    let rest = socket(&buzzer.client(), &format!("{path}?after={}", first["seq"])).await;
    let (events, end) = within("the rest", LIMIT, rest.rest()).await;
    let types: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!((types, end.code()), (vec!["job.started", "job.succeeded"], 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_socket_is_its_tenants_alone_and_ends_when_its_key_is_revoked() {
    let outside = Outside::on(RabbitNode::shared().await);
    let (api, _worker) = (outside.api(&[("BUZZER_AUTH", "keys")]).await, outside.worker(&[]));
    api.knows("echo").await;
    let shop = api.client().with_key(&api.key(&["--tenant", "shop"]).await);
    let bank = api.client().with_key(&api.key(&["--tenant", "bank"]).await);
    let order = json!({ "input": 1, "delay": "1h" });
    let job = shop.send(shop.request(Method::POST, "/v1/jobs/echo").json(&order)).await.unwrap().json();
    let path = job["links"]["events"].as_str().unwrap();
    is_problem(&bank.send(upgrade(&bank, path)).await.unwrap(), 404, "unknown-job");
    is_problem(&bank.send(upgrade(&api.client(), path)).await.unwrap(), 401, "unauthorized");
    let mut open = socket(&shop, path).await;
    let first: Value = open.next().await.unwrap();
    assert_eq!((&first["type"], &first["job_id"]), (&json!("job.accepted"), &job["id"]));

    let (_, list) = api.command(&["keys", "list"]).await;
    let id = list.lines().find(|line| line.contains("shop")).unwrap().split(' ').next().unwrap();
    assert_eq!(api.command(&["keys", "revoke", id]).await.0, 0);
    let end = within("the end of the socket", LIMIT, open.next()).await.unwrap_err();
    assert!(matches!(end, End::Closed { code: 1008, .. }), "{end:?}");
}
