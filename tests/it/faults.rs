//! What was accepted ends, once, whatever is killed, cut off or damaged. Real processes, a real RabbitMQ.

use std::time::Duration;

use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::config::ByteSize;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::topology::Topology;
use buzzer_tests::client::Client;
use buzzer_tests::ledger::{HEALED, Ledger};
use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::{RabbitNode, Settings};
use buzzer_tests::wait::{eventually, within};
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker, WorkerConfig};
use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};

/// Leases that end soon, so that healing is seen within the patience of a test.
pub(super) const API: &[(&str, &str)] = &[("BUZZER_CLAIM_LEASE", "4s"), ("BUZZER_RUN_LEASE", "6s")];
pub(super) const WORKER: &[(&str, &str)] = &[("BUZZER_BEAT", "1s"), ("BUZZER_DRAIN", "2s")];
/// Tenths of a second. RabbitMQ 3.10 damages quorum queues that were declared a second or two before it is killed.
const QUEUE_AGE: usize = 40;
/// To RabbitMQ: two of an API, and two of a worker.
const LINES: usize = 4;

async fn running(client: &Client) -> usize {
    count(client, "state=running").await
}

/// How many jobs fit a filter, 500 at most.
async fn count(client: &Client, filter: &str) -> usize {
    let jobs = client.get(&format!("/v1/jobs?limit=500&{filter}")).await.expect("a list").json();
    jobs["items"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_the_api_is_killed_right_after_its_202s() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("echo").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    for _ in 0..3 {
        ledger.submit(&client, "echo", 150, |n| json!({ "n": n })).await;
        api.process().kill();
        api.start_again().await;
    }
    ledger.audit_echo(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_worker_is_killed_in_mid_run() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(API).await;
    let mut doomed = outside.worker(WORKER);
    api.knows("demo.sleep").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    ledger.submit(&client, "demo.sleep", 30, |_| json!({ "seconds": 1.0 })).await;
    eventually("runs to have begun", HEALED, async || (running(&client).await > 0).then_some(())).await;
    doomed.kill();
    let _heir = outside.worker(WORKER);
    ledger.audit(&client, |_, _| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_rabbitmq_is_killed_with_a_full_window() {
    let node = RabbitNode::start().await;
    let outside = Outside::on(&node);
    let api = outside.api(API).await;
    let _worker = outside.worker(&[("BUZZER_BEAT", "1s"), ("BUZZER_SLOTS", "4")]);
    api.knows("demo.sleep").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    let mut age = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..QUEUE_AGE {
        age.tick().await;
        ledger.submit(&client, "echo", 1, |n| json!(n)).await;
    }
    ledger.submit(&client, "demo.sleep", 200, |_| json!({ "seconds": 0.05 })).await;
    ledger.submit(&client, "echo", 200, |n| json!(n)).await;
    node.kill();
    ledger.submit(&client, "demo.sleep", 20, |_| json!({ "seconds": 0.05 })).await;
    node.start_again().await;
    ledger.audit(&client, |_, output| !output.is_null()).await;
    assert_eq!(ledger.0.len(), 420 + QUEUE_AGE, "the API accepts whether the broker is there or not");
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_rabbitmq_is_away_for_a_minute_under_load() {
    let node = RabbitNode::start().await;
    let outside = Outside::on(&node);
    let api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("echo").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    ledger.submit(&client, "echo", 50, |n| json!(n)).await;
    node.stop().await;
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..60 {
        pace.tick().await;
        ledger.submit(&client, "echo", 20, |n| json!(n)).await;
    }
    let ready = client.get("/readyz").await.expect("an answer");
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (200, &json!("degraded")), "{}", ready.text);
    let waiting = client.job(ledger.0.keys().next_back().expect("a job")).await.expect("a job");
    assert_eq!(waiting["waiting"]["for"], "broker", "{waiting}");
    node.start_again().await;
    ledger.audit_echo(&client).await;
    assert_eq!(ledger.0.len(), 50 + 60 * 20, "every submission was accepted");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_queues_are_purged_and_deleted() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let api = outside.api(API).await;
    let mut worker = outside.worker(WORKER);
    api.knows("echo").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    let queue = |name: &str| format!("{}.{name}", outside.prefix);

    // Once one has gone through, the queue is there.
    ledger.submit(&client, "echo", 1, |n| json!(n)).await;
    ledger.audit_echo(&client).await;
    // Frozen, the worker leaves the requests beyond its prefetch in the queue.
    worker.pause();
    ledger.submit(&client, "echo", 100, |n| json!(n)).await;
    node.purge(&queue("requests.echo.v1")).await;
    worker.resume();
    ledger.audit_echo(&client).await;

    node.delete_queue(&queue("requests.echo.v1")).await;
    ledger.submit(&client, "echo", 100, |n| json!(n)).await;
    node.delete_queue(&queue("replies.v1")).await;
    ledger.submit(&client, "echo", 100, |n| json!(n)).await;
    ledger.audit_echo(&client).await;
    assert_eq!(ledger.0.len(), 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_every_connection_is_closed_by_the_operator() {
    let node = RabbitNode::start().await;
    let outside = Outside::on(&node);
    let api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("echo").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    for _ in 0..3 {
        ledger.submit(&client, "echo", 100, |n| json!(n)).await;
        node.close_all_connections().await;
    }
    ledger.audit_echo(&client).await;
    assert_eq!(ledger.0.len(), 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_worker_frozen_beyond_the_heartbeat_that_wakes_up_changes_nothing() {
    let node = RabbitNode::start().await;
    let outside = Outside::on(&node);
    let mut api = outside.api(API).await;
    let mut frozen = outside.worker(WORKER);
    api.knows("demo.sleep").await;
    let client = api.client();
    let connections = async || node.ctl(&["list_connections", "--no-table-headers", "pid"]).await.lines().count();
    eventually("all lines to be up", HEALED, async || (connections().await == LINES).then_some(())).await;
    let mut ledger = Ledger::default();
    ledger.submit(&client, "demo.sleep", 10, |_| json!({ "seconds": 4.0 })).await;
    eventually("runs to have begun", HEALED, async || (running(&client).await > 0).then_some(())).await;
    frozen.pause();
    let _other = outside.worker(WORKER);
    ledger.audit(&client, |_, _| true).await;
    // Its heartbeats are missed: RabbitMQ, too, has given it up. The other worker has as many connections.
    eventually("RabbitMQ to give the frozen worker up", HEALED, async || (connections().await <= LINES).then_some(()))
        .await;
    let before: Vec<_> = stream::iter(ledger.0.keys()).then(|id| client.job(id)).map(Result::unwrap).collect().await;
    frozen.resume();
    eventually("the late outcomes to be told in the log", HEALED, async || {
        api.process().log().contains("an outcome changes nothing").then_some(())
    })
    .await;
    // Once the woken worker has run something new, its late outcomes have been heard.
    ledger.submit(&client, "demo.sleep", 200, |_| json!({ "seconds": 0.01 })).await;
    ledger.audit(&client, |_, _| true).await;
    for job in before {
        assert_eq!(client.job(job["id"].as_str().unwrap()).await.unwrap(), job);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_an_api_that_was_frozen_takes_nothing_for_lost() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("demo.sleep").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    // Long enough that leases may be ended at all.
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    for _ in 0..12 {
        pace.tick().await;
        ledger.submit(&client, "demo.sleep", 1, |_| json!({ "seconds": 0.1 })).await;
    }
    ledger.submit(&client, "demo.sleep", 20, |_| json!({ "seconds": 2.0 })).await;
    api.process().pause();
    // Beyond both leases; the outcomes come meanwhile.
    for _ in 0..18 {
        pace.tick().await;
    }
    api.process().resume();
    ledger.audit(&client, |_, _| true).await;
    let log = api.process().log();
    assert!(!log.contains("leases ended"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_workers_are_asked_to_stop_in_mid_run() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(API).await;
    let mut worker = outside.worker(WORKER);
    api.knows("demo.sleep").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    // Some end within the grace period of two seconds, some cannot.
    ledger.submit(&client, "demo.sleep", 40, |n| json!({ "seconds": if n % 2 == 0 { 0.5 } else { 6.0 } })).await;
    eventually("runs to have begun", HEALED, async || (running(&client).await > 0).then_some(())).await;
    let status = worker.terminate().await;
    assert!(status.success(), "{status}");
    let _next = outside.worker(WORKER);
    ledger.audit(&client, |_, _| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_fifty_rolling_restarts_under_load_count_no_attempt() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(API).await;
    // Shorter than some of the runs: these are handed back.
    let settings = [("BUZZER_BEAT", "500ms"), ("BUZZER_DRAIN", "300ms"), ("BUZZER_SLOTS", "8")];
    let mut workers = [outside.worker(&settings), outside.worker(&settings)];
    api.knows("demo.sleep").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    for restart in 0..50 {
        let worker = &mut workers[restart % 2];
        let seconds = |n: usize| json!({ "seconds": if n.is_multiple_of(10) { 0.7 } else { 0.02 } });
        let (status, ()) = tokio::join!(worker.terminate(), ledger.submit(&client, "demo.sleep", 20, seconds));
        assert!(status.success(), "{status}");
        worker.start();
        // The other one goes next: there is always somebody.
        eventually("it to be back", HEALED, async || {
            let workers = client.get("/v1/workers").await.ok()?.json();
            let running = workers["items"].as_array()?.iter().filter(|worker| worker["kinds"]["demo.sleep"].is_u64());
            (running.count() == 2).then_some(())
        })
        .await;
    }
    ledger.audit(&client, |_, _| true).await;
    assert_eq!(ledger.0.len(), 1000, "none was refused, and each succeeded in its first attempt");
}

#[tokio::test(flavor = "multi_thread")]
async fn p11_the_api_is_asked_to_stop_under_load() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("echo").await;
    let client = api.client();
    let mut ledger = Ledger::default();
    let stop = async {
        eventually("some to be accepted", HEALED, async || (count(&client, "kind=echo").await > 50).then_some(()))
            .await;
        api.process().terminate().await
    };
    let (status, ()) = tokio::join!(stop, ledger.submit(&client, "echo", 2000, |n| json!(n)));
    assert!(ledger.0.len() < 2000, "it stopped after the load, not under it");
    assert!(status.success(), "{status}");
    api.start_again().await;
    ledger.audit_echo(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_will_not_carry_fails_its_own_job_alone() {
    let node = RabbitNode::start_with(&Settings { max_message_size: Some(256 * 1024), ..Settings::default() }).await;
    let outside = Outside::on(&node);
    let api = outside.api(API).await;
    let shutdown = Shutdown::default();
    let grows = async |_: JobContext, _: Value| -> Result<String, JobError> { Ok("x".repeat(512 * 1024)) };
    let same = async |_: JobContext, input: Value| -> Result<Value, JobError> { Ok(input) };
    let worker = Worker::builder()
        .handler_with("grow", HandlerOptions::new().retry(RetryPolicy::NEVER), grows)
        .handler("same", same)
        .config(WorkerConfig { max_body: ByteSize(4 << 20), ..WorkerConfig::default() })
        .build()
        .unwrap();
    let broker = AmqpBroker::connect(node.url(), "test-worker");
    let stop = shutdown.clone();
    let worker = tokio::spawn(worker.run(broker, Topology::new(&outside.prefix), stop));
    api.knows("same").await;

    let client = api.client();
    let mut ledger = Ledger::default();
    let grow = client.accepted("grow", &Value::Null).await;
    let huge = client.accepted("same", &json!("x".repeat(512 * 1024))).await;
    ledger.submit(&client, "same", 100, |n| json!(n)).await;
    for (id, slug) in [(grow, "output-too-large"), (huge, "rejected-input")] {
        let job = client.done(&id, HEALED).await;
        assert_eq!(job["error"]["type"], format!("/problems/{slug}"), "{job}");
    }
    ledger.audit_echo(&client).await;
    shutdown.request();
    within("the worker to stop", HEALED, worker).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_comes_later_takes_what_waits() {
    let outside = Outside::on(RabbitNode::shared().await);
    let mut api = outside.api(API).await;
    let mut first = outside.worker(WORKER);
    api.knows("echo").await;
    first.terminate().await;
    let client = api.client();
    let mut ledger = Ledger::default();
    ledger.submit(&client, "echo", 50, |n| json!(n)).await;
    api.process().terminate().await;
    api.start_again().await;
    let _second = outside.worker(WORKER);
    ledger.audit_echo(&client).await;
    assert_eq!(ledger.0.len(), 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_or_a_bad_setting_is_one_clear_line() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(API).await;
    let store = api.store();
    for (settings, part) in [
        (vec![("BUZZER_STORE", store.as_str())], "another process"),
        (vec![("BUZZER_STORE", "sqlite:/nowhere/at/all/buzzer.db")], "/nowhere/at/all"),
        (vec![("BUZZER_STORE", "mysql://x")], "sqlite:FILE"),
        (vec![("BUZZER_BROKER", "http://x")], "amqp://"),
        (vec![("BUZZER_BROKER", "embedded")], "buzzer up"),
        (vec![("BUZZER_KEEP", "soon")], "a length of time"),
    ] {
        let (status, log) = outside.api_that_fails(&settings).await;
        assert!(!status.success() && log.contains(part), "{settings:?}: {status}: {log}");
    }
    let client = api.client();
    let answer = client.submit("echo", &Value::Null, None).await.unwrap();
    assert!([202, 404].contains(&answer.status.as_u16()), "the first API goes on: {}", answer.text);
}
