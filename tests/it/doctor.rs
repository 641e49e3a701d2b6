//! `buzzer doctor`, on what it is to find.

use buzzer_tests::foreign::{Foreign, Properties};
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use serde_json::Value;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);

/// The line of one check.
fn line<'a>(said: &'a str, check: &str) -> &'a str {
    let found = said.lines().find(|line| line.split_whitespace().nth(1) == Some(check));
    found.unwrap_or_else(|| panic!("{check} is missing:\n{said}"))
}

fn assert_line(said: &str, check: &str, verdict: &str, part: &str) {
    let line = line(said, check);
    assert!(line.starts_with(verdict) && line.contains(part), "expected {verdict} with {part:?}: {line}");
}

/// What is there of one Buzzer.
async fn belongings(node: &RabbitNode, prefix: &str) -> Vec<String> {
    let queues = node.ctl(&["list_queues", "name", "arguments", "messages"]).await;
    let exchanges = node.ctl(&["list_exchanges", "name", "type"]).await;
    let bindings = node.ctl(&["list_bindings", "source_name", "destination_name", "routing_key"]).await;
    let all = [queues, exchanges, bindings].concat();
    let mut own: Vec<_> = all.lines().filter(|line| line.contains(prefix)).map(str::to_owned).collect();
    own.sort();
    own
}

#[tokio::test(flavor = "multi_thread")]
async fn a_buzzer_that_runs_is_well_and_is_left_as_it_was() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let store = PostgresServer::shared().await.database().await;
    let store = [("BUZZER_STORE", store.as_str())];
    let (code, said) = outside.doctor(&[], &store).await;
    assert_eq!(code, 0, "{said}");
    assert_line(&said, "schema", "ok", "no tables yet");
    assert_line(&said, "topology", "ok", "nothing there yet");
    assert_line(&said, "workers", "skip", "");
    assert!(belongings(node, &outside.prefix).await.is_empty());

    let api = outside.api(&store).await;
    let _worker = outside.worker(&[]);
    api.knows("demo.crash").await;
    let before = belongings(node, &outside.prefix).await;
    let (code, said) = outside.doctor(&[], &store).await;
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("warn") && !said.contains("skip  w"), "{said}");
    assert_line(&said, "store", "ok", "PostgreSQL");
    assert_line(&said, "workers", "ok", "1 alive");
    assert_line(&said, "version", "ok", "RabbitMQ");
    assert_line(&said, "permissions", "ok", "configure");
    assert_line(&said, "topology", "ok", "with the arguments");
    let (code, json) = outside.doctor(&["--json"], &store).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["checks"][0]["verdict"]), (0, &Value::from("ok")));
    assert_eq!(belongings(node, &outside.prefix).await, before);
    for secret in [node.url().password().unwrap(), store[0].1.split(['@', ':']).nth(2).unwrap()] {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_away_or_lets_nobody_in_is_named() {
    let node = RabbitNode::shared().await;
    let server = PostgresServer::shared().await;
    let outside = Outside::on(node);
    let wrong = node.url().as_str().replacen("buzzer:", "buzzer:not", 1);
    let store = server.database().await;
    for (broker, part) in [(wrong.as_str(), "wrong name or password"), ("amqp://x@127.0.0.1:1", "cannot be reached")] {
        let (code, said) = outside.doctor(&[], &[("BUZZER_BROKER", broker), ("BUZZER_STORE", &store)]).await;
        assert_eq!(code, 1, "{said}");
        assert_line(&said, "broker", "fail", part);
        assert_line(&said, "permissions", "skip", "logged in");
        assert_line(&said, "store", "ok", "");
    }
    // RabbitMQ tells its version to everybody.
    let (_, said) = outside.doctor(&[], &[("BUZZER_BROKER", &wrong), ("BUZZER_STORE", &store)]).await;
    assert_line(&said, "version", "ok", "RabbitMQ");

    let wrong = store.replacen("buzzer:", "buzzer:not", 1);
    for (store, part) in [
        (wrong.as_str(), "user and password"),
        (&server.url("missing"), "no such database"),
        ("postgres://x@127.0.0.1:1/x", "cannot be reached"),
        ("sqlite:/nowhere/at/all/b.db", "create it"),
    ] {
        let (code, said) = outside.doctor(&[], &[("BUZZER_STORE", store)]).await;
        assert_eq!(code, 1, "{said}");
        assert_line(&said, "store", "fail", part);
        assert_line(&said, "schema", "skip", "");
        assert_line(&said, "broker", "ok", "logged in");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_is_told_with_the_command_that_gives_it() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("b.db").display());
    for role in ["api", "worker"] {
        let name = format!("{}-{role}", outside.prefix);
        let url = node.user(&name, ["^$", "^$", "^$"]).await;
        let settings = [("BUZZER_STORE", store.as_str()), ("BUZZER_BROKER", url.as_str())];
        let (code, said) = outside.doctor(&["--as", role], &settings).await;
        assert_eq!(code, 1, "{said}");
        assert_line(&said, "permissions", "fail", "configure and write and read");

        // As the command stands there, but for the quotes.
        let command = line(&said, "permissions").split("rabbitmqctl ").nth(1).unwrap().replace('\'', "");
        let words: Vec<_> = command.split_whitespace().collect();
        assert_eq!(words[..4], ["set_permissions", "-p", "/", &name]);
        node.ctl(&words).await;
        let (code, said) = outside.doctor(&["--as", role], &settings).await;
        assert_eq!(code, 0, "{said}");
        assert_line(&said, "permissions", "ok", "");

        // One after the other taken away.
        for (at, permission) in ["configure", "write", "read"].into_iter().enumerate() {
            let mut less = words.clone();
            less[4 + at] = "^$";
            node.ctl(&less).await;
            let (_, said) = outside.doctor(&["--as", role], &settings).await;
            assert_line(&said, "permissions", "fail", &format!("may not {permission} all"));
        }
    }
}

/// With exactly the permissions that the doctor asks for, everything runs.
#[tokio::test(flavor = "multi_thread")]
async fn the_permissions_that_it_asks_for_are_enough() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let folder = tempfile::tempdir().unwrap();
    let store = format!("sqlite:{}", folder.path().join("b.db").display());
    let mut users = Vec::new();
    for role in ["api", "worker"] {
        let url = node.user(&format!("{}-{role}", outside.prefix), ["^$", "^$", "^$"]).await;
        let settings = [("BUZZER_STORE", store.as_str()), ("BUZZER_BROKER", url.as_str())];
        let (_, said) = outside.doctor(&["--as", role], &settings).await;
        let command = line(&said, "permissions").split("rabbitmqctl ").nth(1).unwrap().replace('\'', "");
        node.ctl(&command.split_whitespace().collect::<Vec<_>>()).await;
        users.push(url.to_string());
    }
    let api = outside.api(&[("BUZZER_BROKER", &users[0])]).await;
    let worker = outside.worker(&[("BUZZER_BROKER", &users[1])]);
    api.knows("echo").await;
    let id = api.client().accepted("echo", &serde_json::json!({"a": 1})).await;
    assert_eq!(api.client().done(&id, SOON).await["state"], "succeeded");
    assert!(!worker.log().contains("ACCESS_REFUSED"), "{}", worker.log());
    // What a user may not look at is not taken for absent.
    let settings = [("BUZZER_STORE", store.as_str()), ("BUZZER_BROKER", &users[1])];
    let (code, said) = outside.doctor(&["--as", "worker"], &settings).await;
    assert_eq!(code, 0, "{said}");
    assert!(!line(&said, "topology").contains("not there"), "{said}");
    assert!(!line(&said, "topology").starts_with("warn"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_arguments_fail_and_parked_messages_are_a_warning() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let api = outside.api(&[]).await;
    let mut foreign = Foreign::connect(node).await;
    let replies = format!("{}.replies", outside.prefix);
    foreign.publish(&replies, b"outcome", &Properties::default(), b"nonsense").await;
    let sqlite = api.store();
    let store = [("BUZZER_STORE", sqlite.as_str())];
    let said = eventually("the message to be parked", SOON, async || {
        let (code, said) = outside.doctor(&[], &store).await;
        assert_eq!(code, 0, "{said}");
        line(&said, "parked").starts_with("warn").then_some(said)
    })
    .await;
    assert_line(&said, "parked", "warn", "1 parked");
    assert_line(&said, "workers", "warn", "buzzer-worker");
    assert_line(&said, "store", "ok", "SQLite");
    assert_line(&said, "space", "", "MiB left");

    let other = Outside::on(node);
    let connection = node.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("{}.replies.v1", other.prefix);
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let (code, said) = other.doctor(&[], &store).await;
    assert_eq!(code, 1, "{said}");
    assert_line(&said, "topology", "fail", &queue);
    assert_line(&said, "topology", "fail", "delete the queue");
    assert_eq!(belongings(node, &other.prefix).await.len(), 2, "the queue and its default binding");
    node.delete_queue(&queue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_a_newer_version_fails() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let server = PostgresServer::shared().await;
    let store = server.database().await;
    drop(outside.api(&[("BUZZER_STORE", &store)]).await);
    let database = store.rsplit('/').next().unwrap().split('?').next().unwrap();
    let future = "INSERT INTO refinery_schema_history (version, name, applied_on, checksum) \
                  SELECT 9999, 'future', applied_on, checksum FROM refinery_schema_history LIMIT 1";
    server.client(database).await.batch_execute(future).await.unwrap();
    let (code, said) = outside.doctor(&[], &[("BUZZER_STORE", &store)]).await;
    assert_eq!(code, 1, "{said}");
    assert_line(&said, "schema", "fail", "9999");
    assert_line(&said, "workers", "skip", "");
}
