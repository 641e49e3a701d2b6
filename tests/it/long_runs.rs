//! Runs that RabbitMQ has no patience for, and runs that must not be begun twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::ledger::HEALED;
use buzzer_tests::lone::Lone;
use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::{RabbitNode, Settings};
use buzzer_tests::wait::eventually;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// How long RabbitMQ lets a delivery be unacknowledged: a twelfth of a minute for the half hour that it is as a rule.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many of these a long run takes.
const PATIENCES: u32 = 5;
/// A fast job does not wait for a long one.
const FAST: Duration = Duration::from_secs(3);

/// How often handlers were called.
#[derive(Debug, Clone, Default)]
struct Calls(Arc<AtomicUsize>);

impl Calls {
    fn one_more(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_longer_than_rabbitmqs_patience_is_begun_once_and_holds_nobody_up() {
    let node = RabbitNode::start_with(&Settings { consumer_timeout: Some(PATIENCE), ..Settings::default() }).await;
    let outside = Outside::on(&node);
    let api = outside.api(&[("BUZZER_CLAIM_LEASE", "3s"), ("BUZZER_RUN_LEASE", "6s")]).await;
    let calls = Calls::default();
    let long = |calls: Calls| {
        move |_: JobContext, _: Value| {
            calls.one_more();
            async {
                tokio::time::sleep(PATIENCE * PATIENCES).await;
                Ok::<_, JobError>("done")
            }
        }
    };
    let options = || HandlerOptions::new().timeout(Duration::from_secs(25 * 60)).slots(1);
    let fast = async |_: JobContext, input: Value| -> Result<Value, JobError> { Ok(input) };
    let builder = Worker::builder()
        .handler_with("long.a", options(), long(calls.clone()))
        .handler_with("long.b", options(), long(calls.clone()))
        .handler("fast", fast);
    let _worker = Lone::start(builder, &node, &outside);
    for kind in ["long.a", "long.b", "fast"] {
        api.knows(kind).await;
    }
    let client = api.client();
    let long = [client.accepted("long.a", &Value::Null).await, client.accepted("long.b", &Value::Null).await];
    eventually("both to run", HEALED, async || (calls.count() == 2).then_some(())).await;
    // One more than there are slots: it waits its turn, and the turn comes.
    let next = client.accepted("long.a", &Value::Null).await;
    let mut fast_jobs = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(500));
    while client.job(&long[0]).await.unwrap()["done"] == false {
        pace.tick().await;
        let id = client.accepted("fast", &json!(fast_jobs)).await;
        assert_eq!(client.done(&id, FAST).await["state"], "succeeded");
        fast_jobs += 1;
    }
    assert!(fast_jobs > 20, "{fast_jobs}");
    for id in long.iter().chain([&next]) {
        let job = client.done(id, HEALED).await;
        assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
    }
    assert_eq!(calls.count(), 3, "each was begun once");
    let log = node.log();
    assert!(!log.contains("delivery acknowledgement on channel"), "RabbitMQ lost its patience: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_what_runs_at_most_once_is_lost_with_its_worker_and_run_again_only_by_hand() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let api = outside.api(&[("BUZZER_CLAIM_LEASE", "3s"), ("BUZZER_RUN_LEASE", "4s")]).await;
    let (calls, gate) = (Calls::default(), Arc::new(Semaphore::new(0)));
    let builder = || {
        let (calls, gate) = (calls.clone(), Arc::clone(&gate));
        let pay = move |_: JobContext, _: Value| {
            calls.one_more();
            let gate = Arc::clone(&gate);
            async move { gate.acquire().await.map(|_| "paid").map_err(JobError::fail) }
        };
        Worker::builder().handler_with("pay", HandlerOptions::new().at_most_once(), pay)
    };
    let worker = Lone::start(builder(), node, &outside);
    api.knows("pay").await;
    let client = api.client();
    let refused = client.request(reqwest::Method::POST, "/v1/jobs/pay");
    let refused = client.send(refused.json(&json!({ "input": 1, "retry": { "max_attempts": 2 } }))).await.unwrap();
    assert_eq!((refused.status.as_u16(), &refused.json()["errors"][0]["pointer"]), (422, &json!("/retry")));

    let id = client.accepted("pay", &Value::Null).await;
    eventually("it to run", HEALED, async || (calls.count() == 1).then_some(())).await;
    drop(worker);
    let _heir = Lone::start(builder(), node, &outside);
    let lost = client.done(&id, HEALED).await;
    assert_eq!((&lost["state"], &lost["error"]["type"]), (&json!("failed"), &json!("/problems/lost")), "{lost}");
    assert_eq!(calls.count(), 1, "nobody else has begun it");

    gate.add_permits(1);
    let again = client.request(reqwest::Method::POST, &format!("/v1/jobs/{id}/retry"));
    let again = client.send(again).await.unwrap().json();
    assert_eq!(again["retry_of"], json!(id));
    let paid = run_of(&client, &again).await;
    assert_eq!((&paid["state"], &paid["output"]), (&json!("succeeded"), &json!("paid")), "{paid}");
    assert_eq!(calls.count(), 2);
}

async fn run_of(client: &Client, job: &Value) -> Value {
    client.done(job["id"].as_str().unwrap(), HEALED).await
}
