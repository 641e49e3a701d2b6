//! What a process says that cannot start, or waits for something: one line, with the setting and what to do.

use std::net::TcpListener;
use std::process::ExitStatus;
use std::time::Duration;

use buzzer_tests::outside::{Outside, Service};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;

const SOON: Duration = Duration::from_secs(30);

/// The one line that says why it ended.
fn complaint((status, said): &(ExitStatus, String), code: i32) -> String {
    assert_eq!(status.code(), Some(code), "{said}");
    let is_log = |line: &&str| line.contains(" INFO ") || line.contains(" WARN ");
    let lines: Vec<_> = said.lines().filter(|line| !is_log(line)).collect();
    assert_eq!(lines.len(), 1, "{said}");
    lines[0].into()
}

fn says(line: &str, parts: &[&str]) {
    for part in parts {
        assert!(line.contains(part), "{part:?} is missing: {line}");
    }
}

/// Waits until it has said this.
async fn told(service: &Service, part: &str) -> String {
    eventually(part, SOON, async || service.log().lines().find(|line| line.contains(part)).map(str::to_owned)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_bad_value_is_one_line_that_names_the_setting() {
    let outside = Outside::on(RabbitNode::shared().await);
    let both = [
        ("BUZZER_LISTEN", "here", "an address and a port, like 127.0.0.1:8080"),
        ("BUZZER_BROKER", "http://me:s3cret@mq", "amqp://user:password@host:5672/%2f"),
        ("BUZZER_BROKER_FILE", "/nowhere/broker", "cannot read /nowhere/broker"),
        ("BUZZER_PREFIX", "Not so", "a prefix is"),
        ("BUZZER_MAX_BODY", "1MB", "not a size"),
        ("BUZZER_DRAIN", "soon", "a length of time"),
        ("BUZZER_LOG", "a=b=c", "a filter"),
        ("BUZZER_LOG_FORMAT", "xml", "text, json"),
    ];
    let api = [
        ("BUZZER_STORE", "mysql://me:s3cret@db", "sqlite:FILE"),
        ("BUZZER_STORE_FILE", "/", "cannot read /"),
        ("BUZZER_KEEP", "soon", "a length of time"),
        ("BUZZER_MAX_WAITING", "0", "is not in 1.."),
        ("BUZZER_MAX_STORED", "much", "not a size"),
        ("BUZZER_CLAIM_LEASE", "0s", "1s at least"),
        ("BUZZER_RUN_LEASE", "0s", "1s at least"),
    ];
    let worker = [
        ("BUZZER_SLOTS", "0", "is not in 1.."),
        ("BUZZER_BEAT", "1h", "100ms to 5s"),
        ("BUZZER_CANCEL_GRACE", "long", "a length of time"),
        ("BUZZER_DEMO", "maybe", "boolean"),
        ("BUZZER_EGRESS_ALLOW", "localhost", "CIDRs"),
        ("BUZZER_WORKER_CONFIG", "/nowhere/worker.toml", "cannot read /nowhere/worker.toml"),
    ];
    for (name, value, part) in both.iter().chain(&api) {
        // The broker may be named once only.
        let without = if *name == "BUZZER_BROKER_FILE" { outside.without_broker() } else { outside.clone() };
        let line = complaint(&without.api_that_fails(&[(name, value)]).await, 2);
        says(&line, &[&format!("({name}): "), part]);
        assert!(!line.contains("s3cret"), "{line}");
    }
    for (name, value, part) in both.iter().chain(&worker) {
        let without = if *name == "BUZZER_BROKER_FILE" { outside.without_broker() } else { outside.clone() };
        let line = complaint(&without.worker_that_fails(&[(name, value)]).await, 2);
        says(&line, &[&format!("({name}): "), part]);
        assert!(!line.contains("s3cret"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_in_files_are_used_and_not_told() {
    let node = RabbitNode::shared().await;
    let (outside, folder) = (Outside::on(node).without_broker(), tempfile::tempdir().unwrap());
    let (broker, store) = (folder.path().join("broker"), folder.path().join("store"));
    std::fs::write(&broker, format!("\n{}\n", node.url())).unwrap();
    std::fs::write(&store, format!("sqlite:{}\n", folder.path().join("b.db").display())).unwrap();
    let broker = ("BUZZER_BROKER_FILE", broker.to_str().unwrap());
    let mut api = outside.api(&[broker, ("BUZZER_STORE_FILE", store.to_str().unwrap())]).await;
    let worker = outside.worker(&[broker]);
    api.knows("echo").await;
    let password = node.url().password().unwrap().to_owned();
    for log in [api.process().log(), worker.log()] {
        assert!(!log.contains(&password), "{log}");
    }
    let twice = Outside::on(node).api_that_fails(&[broker]).await;
    says(&complaint(&twice, 2), &["(BUZZER_BROKER)", "(BUZZER_BROKER_FILE)", "give one of them"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_be_used_is_one_line() {
    let outside = Outside::on(RabbitNode::shared().await);
    let folder = tempfile::tempdir().unwrap();
    let (taken, file) = (TcpListener::bind("127.0.0.1:0").unwrap(), folder.path().join("text"));
    std::fs::write(&file, "not a database, but long enough to be looked at as one".repeat(100)).unwrap();
    let (taken, file) = (taken.local_addr().unwrap().to_string(), format!("sqlite:{}", file.display()));
    let directory = format!("sqlite:{}", folder.path().display());
    for (name, value, part) in [
        ("BUZZER_LISTEN", taken.as_str(), "another Buzzer"),
        ("BUZZER_STORE", "sqlite:/nowhere/at/all/buzzer.db", "create it"),
        // Nobody may write there, not even root.
        ("BUZZER_STORE", "sqlite:/sys/buzzer.db", "let this user write there"),
        ("BUZZER_STORE", &directory, "is a directory"),
        ("BUZZER_STORE", &file, "not an SQLite database"),
        ("BUZZER_STORE", "postgres://me:s3cret@db", "names no database"),
    ] {
        let line = complaint(&outside.api_that_fails(&[(name, value)]).await, 1);
        says(&line, &[name, part]);
        assert!(!line.contains("s3cret"), "{line}");
    }
    let line = complaint(&outside.worker_that_fails(&[("BUZZER_LISTEN", &taken)]).await, 1);
    says(&line, &["BUZZER_LISTEN"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_refuses_is_one_line_and_one_that_is_away_is_waited_for() {
    let outside = Outside::on(RabbitNode::shared().await);
    let server = PostgresServer::shared().await;
    let wrong = server.url("postgres").replacen("buzzer:", "buzzer:not", 1);
    for (store, part) in [(wrong.as_str(), "user and password"), (&server.url("missing"), "no such database")] {
        let line = complaint(&outside.api_that_fails(&[("BUZZER_STORE", store)]).await, 1);
        says(&line, &["BUZZER_STORE", part]);
        assert!(!line.contains(wrong.split(['@', ':']).nth(2).unwrap()), "{line}");
    }
    let mut api = outside.starting_api(&[("BUZZER_STORE", "postgres://me:s3cret@127.0.0.1:1/buzzer")]);
    let line = told(&api, "waiting for the store").await;
    says(&line, &["BUZZER_STORE", "Connection refused"]);
    assert!(api.terminate().await.code() == Some(1) && !api.log().contains("s3cret"), "{}", api.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_or_lets_nobody_in_is_waited_for_in_one_line() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let user = node.user(&format!("{}-nobody", outside.prefix), ["^$", "^$", "^$"]).await;
    let wrong = node.url().as_str().replacen("buzzer:", "buzzer:not", 1);
    let nowhere = node.url().as_str().replace("%2f", "nowhere");
    node.ctl(&["clear_permissions", "-p", "/", user.username()]).await;
    for (broker, said, part) in [
        ("amqp://me:s3cret@127.0.0.1:1/%2f", "RabbitMQ cannot be reached", "Connection refused"),
        (&wrong, "RabbitMQ does not let us in", "wrong name or password"),
        (&nowhere, "RabbitMQ does not let us in", "no such vhost"),
        (user.as_str(), "RabbitMQ does not let us in", "may not use this vhost"),
    ] {
        let api = outside.starting_api(&[("BUZZER_BROKER", broker)]);
        let worker = outside.worker(&[("BUZZER_BROKER", broker)]);
        told(&api, "listening").await;
        for log in [&api, &worker] {
            says(&told(log, said).await, &["BUZZER_BROKER", part]);
            // It has tried again several times by then.
            assert_eq!(log.log().matches(said).count(), 1, "{}", log.log());
            assert!(!log.log().contains("s3cret") && !log.log().contains(" is away"), "{}", log.log());
            assert!(!log.log().contains("The worker runs"), "nothing comes yet: {}", log.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_refuses_the_topology_is_one_line() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let user = node.user(&format!("{}-reads", outside.prefix), ["^$", "^$", ".*"]).await;
    let line = complaint(&outside.api_that_fails(&[("BUZZER_BROKER", user.as_str())]).await, 1);
    says(&line, &["BUZZER_BROKER", "ACCESS_REFUSED", "buzzer doctor"]);

    let connection = node.connect().await;
    let channel = connection.create_channel().await.unwrap();
    let queue = format!("{}.replies.v1", outside.prefix);
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default()).await.unwrap();
    let line = complaint(&outside.api_that_fails(&[]).await, 1);
    says(&line, &[&queue, "other arguments", "BUZZER_PREFIX"]);
    node.delete_queue(&queue).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_permissions_says_so_once() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let api = outside.api(&[]).await;
    let _other = outside.worker(&[]);
    api.knows("demo.crash").await;
    let user = node.user(&format!("{}-nobody", outside.prefix), ["^$", "^$", "^$"]).await;
    let worker = outside.worker(&[("BUZZER_BROKER", user.as_str()), ("BUZZER_LOG", "debug,lapin=off")]);
    told(&worker, "taking from this queue too is refused").await;
    let warned = told(&worker, "taking from the queue failed").await;
    says(&warned, &["ACCESS_REFUSED", "BUZZER_BROKER", "buzzer doctor"]);
    assert_eq!(worker.log().matches("taking from the queue failed").count(), 1, "{}", worker.log());
    node.ctl(&["set_permissions", "-p", "/", user.username(), ".*", ".*", ".*"]).await;
    told(&worker, "taking from the queue now").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_variable_is_told_with_what_was_meant() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[("BUZZER_MAX_BODI", "1MiB"), ("BUZZER_SERVICE_HOST", "10.0.0.1")]).await;
    let worker = outside.worker(&[("BUZZER_SLOT", "4")]);
    says(&told(api.process(), "BUZZER_MAX_BODI").await, &[" WARN ", "did you mean BUZZER_MAX_BODY?"]);
    says(&told(&worker, "BUZZER_SLOT ").await, &[" WARN ", "did you mean BUZZER_SLOTS?"]);
    assert!(!api.process().log().contains("BUZZER_SERVICE_HOST"), "that is Kubernetes'");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_start_tells_of_no_trouble() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(&[]).await;
    let worker = outside.worker(&[]);
    api.knows("demo.crash").await;
    let id = api.client().accepted("echo", &serde_json::json!(1)).await;
    api.client().done(&id, SOON).await;
    told(&worker, "The worker runs").await;
    for log in [api.process().log(), worker.log()] {
        assert!(!log.contains(" WARN ") && !log.contains(" ERROR ") && !log.contains("NOT_FOUND"), "{log}");
    }
}
