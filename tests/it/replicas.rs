//! Several APIs on one PostgreSQL and one RabbitMQ.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buzzer_api::lifecycle::{self, Event, Job, Transition};
use buzzer_api::store::postgres::PostgresStore;
use buzzer_api::store::{Store, Submission};
use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::topology::Topology;
use buzzer_tests::client::Client;
use buzzer_tests::ledger::Ledger;
use buzzer_tests::outside::{Api, Outside};
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use buzzer_worker::{JobContext, JobError, Worker, WorkerBuilder};
use reqwest::Method;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

const JOB_LIMIT: Duration = Duration::from_secs(60);
/// Short enough that a test sees them end.
const LEASE: &str = "3s";

/// Two APIs with one database. A worker may come beside them.
struct Two {
    outside: Outside,
    one: Api,
    other: Api,
}

impl Two {
    async fn on(server: &PostgresServer) -> Self {
        let outside = Outside::on(RabbitNode::shared().await);
        let store = server.database().await;
        let leases = [("BUZZER_CLAIM_LEASE", LEASE), ("BUZZER_RUN_LEASE", "6s")];
        let settings = [("BUZZER_STORE", store.as_str()), leases[0], leases[1]];
        // At the same time: they make the tables, and only one of them may.
        let (one, other) = tokio::join!(outside.api(&settings), outside.api(&settings));
        Self { outside, one, other }
    }

    /// Waits until both know this kind.
    async fn know(&self, kind: &str) {
        self.one.knows(kind).await;
        self.other.knows(kind).await;
    }
}

async fn job(client: &Client, path: &str) -> Value {
    client.get(path).await.unwrap().json()
}

#[tokio::test(flavor = "multi_thread")]
async fn any_replica_answers_for_any_job() {
    let two = Two::on(PostgresServer::shared().await).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("echo").await;
    let (one, other) = (two.one.client(), two.other.client());
    for (from, to) in [(&one, &other), (&other, &one)] {
        let id = from.accepted("echo", &json!({"text": "hello \u{0}"})).await;
        let done = to.done(&id, JOB_LIMIT).await;
        assert_eq!((&done["state"], &done["output"]), (&json!("succeeded"), &json!({"text": "hello \u{0}"})));
        assert_eq!(job(from, &format!("/v1/jobs/{id}")).await, done);
    }
}

/// The poll hangs on one replica, and the outcome is stored by whichever gets it from the broker: with several jobs, by
/// both.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_poll_ends_when_another_replica_stores_the_result() {
    let two = Two::on(PostgresServer::shared().await).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("demo.sleep").await;
    let (one, other) = (two.one.client(), two.other.client());
    for round in 0..10 {
        let id = one.accepted("demo.sleep", &json!({"seconds": 0.3})).await;
        let path = format!("/v1/jobs/{id}?wait=30");
        let poll = async |client: &Client| {
            let job = job(client, &path).await;
            (job, Instant::now())
        };
        let (here, there) = within("both polls", JOB_LIMIT, async { tokio::join!(poll(&one), poll(&other)) }).await;
        assert_eq!((&here.0["state"], &there.0["state"]), (&json!("succeeded"), &json!("succeeded")));
        let apart = here.1.max(there.1) - here.1.min(there.1);
        // A word that was lost would be found after a second at the earliest.
        assert!(apart < Duration::from_millis(500), "round {round}: {apart:?} apart");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_jobs_of_a_replica_that_dies_are_done_with_the_other() {
    let mut two = Two::on(PostgresServer::shared().await).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("echo").await;
    let (one, other) = (two.one.client(), two.other.client());
    let mut ledger = Ledger::default();
    let at_once = async {
        // Under way: some are stored and not sent, some sent and not answered.
        eventually("the first to be accepted", JOB_LIMIT, async || {
            let list = job(&other, "/v1/jobs?limit=10").await;
            (list["items"].as_array().unwrap().len() == 10).then_some(())
        })
        .await;
        two.one.process().kill();
    };
    tokio::join!(ledger.submit(&one, "echo", 300, |n| json!({ "n": n })), at_once);
    ledger.audit_echo(&other).await;
}

/// What a replica leaves behind that dies between its commit and its publish: a claim, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn p1_a_claim_of_a_replica_that_never_sent_it_is_sent_by_another() {
    let two = Two::on(PostgresServer::shared().await).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("echo").await;
    let dead = PostgresStore::open(&two.one.store().parse().unwrap()).await.unwrap();
    let now = dead.clock().now();
    let known = dead.kinds().await.unwrap().into_iter().find(|known| known.name.as_str() == "echo").unwrap();
    let spec = &known.contracts[0].spec;
    let draft = Job::new(JobId::new(now), Tenant::default(), spec, now);
    let Transition { job, mut effects } = lifecycle::accept(draft);
    let claimed = lifecycle::step(&job, &Event::Claimed { until: now + Duration::from_secs(3) }, now).unwrap();
    effects.extend(claimed.effects);
    let accepted = Transition { job: claimed.job, effects };
    dead.submit(Submission { accepted, input: "[1]".into(), key: None }).await.unwrap();
    drop(dead);
    let done = two.other.client().done(&job.id.to_string(), JOB_LIMIT).await;
    assert_eq!((&done["state"], &done["attempt"], &done["output"]), (&json!("succeeded"), &json!(1), &json!([1])));
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_one_key_on_two_replicas_at_once_makes_one_job() {
    let two = Two::on(PostgresServer::shared().await).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("echo").await;
    let clients = [two.one.client(), two.other.client()];
    for round in 0..10 {
        let key = format!("key {round}");
        let submit = |n: usize| {
            let client = &clients[n % 2];
            let request = client.request(Method::POST, "/v1/jobs/echo").header("content-type", "application/json");
            let request = request.header("idempotency-key", &key).body(json!({ "input": round }).to_string());
            async move {
                let answer = client.send(request).await.unwrap();
                assert_eq!(answer.status.as_u16(), 202, "{}", answer.text);
                answer.json()["id"].as_str().unwrap().to_owned()
            }
        };
        let ids = futures_util::future::join_all((0..32).map(submit)).await;
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
    let list = job(&clients[0], "/v1/jobs?limit=100").await;
    assert_eq!(list["items"].as_array().unwrap().len(), 10);
}

/// Clients are answered 503 meanwhile; what was answered 202 ends, once, and nobody starts anything again.
#[tokio::test(flavor = "multi_thread")]
async fn p1_what_was_accepted_outlives_restarts_of_the_database() {
    let server = PostgresServer::start().await;
    let two = Two::on(&server).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("echo").await;
    let (one, other) = (two.one.client(), two.other.client());
    let mut ledger = Ledger::default();
    for kill in [false, true, false, true] {
        let down = async {
            if kill {
                server.kill();
            } else {
                server.stop().await;
            }
            server.start_again().await;
        };
        let mut more = Ledger::default();
        tokio::join!(
            ledger.submit(&one, "echo", 400, |n| json!({ "n": n })),
            more.submit(&other, "echo", 400, |n| { json!([n]) }),
            down
        );
        ledger.0.extend(more.0);
        for client in [&one, &other] {
            eventually("the store to be used again", JOB_LIMIT, async || {
                client.get("/readyz").await.ok().filter(|answer| answer.status.is_success())
            })
            .await;
        }
    }
    assert!(ledger.0.len() > 100, "only {} were accepted", ledger.0.len());
    ledger.audit_echo(&one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_on_one_replica_reaches_a_run_that_the_other_has_sent() {
    let two = Two::on(PostgresServer::shared().await).await;
    let _worker = two.outside.worker(&[("BUZZER_BEAT", "1s")]);
    two.know("demo.sleep").await;
    let (one, other) = (two.one.client(), two.other.client());
    let id = one.accepted("demo.sleep", &json!({"seconds": 60})).await;
    eventually("the job to run", JOB_LIMIT, async || other.job(&id).await.ok().filter(|job| job["state"] == "running"))
        .await;
    other.send(other.request(Method::POST, &format!("/v1/jobs/{id}/cancel"))).await.unwrap();
    assert_eq!(one.done(&id, JOB_LIMIT).await["state"], "canceled");
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Old {
    #[serde(rename = "to")]
    _to: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct New {
    #[serde(rename = "to")]
    _to: String,
}

/// A worker in this process. Ends when it is asked to.
async fn start(worker: WorkerBuilder, outside: &Outside) -> (Shutdown, JoinHandle<()>) {
    let broker: Arc<dyn Broker> = AmqpBroker::connect(RabbitNode::shared().await.url(), "buzzer-worker");
    let (shutdown, topology) = (Shutdown::default(), Topology::new(&outside.prefix));
    let running = worker.build().unwrap().run(Arc::clone(&broker), topology, shutdown.clone());
    let running = tokio::spawn(async move {
        running.await.unwrap();
        broker.close().await;
    });
    (shutdown, running)
}

/// An upgrade, taken back: whichever replica hears of it, both say the same.
#[tokio::test(flavor = "multi_thread")]
async fn p10_replicas_agree_on_what_a_kind_is() {
    let two = Two::on(PostgresServer::shared().await).await;
    let old = async |_: JobContext, _: Old| -> Result<(), JobError> { Ok(()) };
    let new = async |_: JobContext, _: New| -> Result<(), JobError> { Ok(()) };
    let shown = async |versions: &[u32]| {
        eventually("both to show the same", JOB_LIMIT, async || {
            let path = "/v1/kinds/letter";
            let (one, other) = (job(&two.one.client(), path).await, job(&two.other.client(), path).await);
            let of = |kind: &Value| {
                kind["contracts"].as_array().map(|all| all.iter().map(|it| it["version"].clone()).collect())
            };
            (one["contracts"] == other["contracts"] && of(&one) == Some(json!(versions).as_array().unwrap().clone()))
                .then_some(one)
        })
        .await
    };
    let _old = start(Worker::builder().handler("letter", old), &two.outside).await;
    shown(&[1]).await;
    let (stop, stopped) = start(Worker::builder().handler("letter", new), &two.outside).await;
    let kind = shown(&[2, 1]).await;
    assert_eq!(kind["contracts"][0]["breaking"][0]["change"], "required", "{kind}");
    for client in [two.one.client(), two.other.client()] {
        assert_eq!(client.submit("letter", &json!({}), None).await.unwrap().status, 422);
    }
    stop.request();
    within("the new worker", JOB_LIMIT, stopped).await.unwrap();
    shown(&[1]).await;
    for client in [two.one.client(), two.other.client()] {
        assert_eq!(client.submit("letter", &json!({}), None).await.unwrap().status, 202);
    }
}
