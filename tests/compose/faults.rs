//! Containers that are killed, stopped and cut off while clients hand in work: every accepted job ends, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::compose::Project;
use buzzer_tests::ledger::Ledger;
use buzzer_tests::wait::eventually;
use serde_json::{Value, json};

use crate::project;

const SOON: Duration = Duration::from_secs(120);
/// A client hands in so many jobs at a time, and rests between.
const ROUND: usize = 4;
const REST: Duration = Duration::from_millis(50);
const KILL_EVERY: Duration = Duration::from_secs(10);
/// So many in all at most.
const MOST: usize = 20_000;

/// Clients that hand in work until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    handing_in: tokio::task::JoinHandle<Ledger>,
}

impl Load {
    fn begin(client: Client) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let handing_in = tokio::spawn(async move {
            let mut ledger = Ledger::default();
            let mut pace = tokio::time::interval(REST);
            while !stopped.load(Ordering::Relaxed) && ledger.0.len() < MOST {
                pace.tick().await;
                ledger.submit(&client, "echo", ROUND, |n| json!({ "n": n })).await;
            }
            ledger
        });
        Self { stop, handing_in }
    }

    /// What was accepted.
    async fn end(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.handing_in.await.expect("the clients")
    }
}

/// Kills each container of a service in turn; the next once all is well again.
async fn kill_each(project: &Project, service: &str, client: &Client) {
    for container in project.containers(&[service]).await {
        project.kill(&container).await;
        project.start(&container).await;
        project.heals(client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_accepted_job_ends_once_whichever_container_is_killed() {
    let Some(project) = project().await else { return };
    let client = project.client();
    project.heals(&client).await;
    let load = Load::begin(client.clone());
    for service in ["api", "worker", "rabbitmq", "postgres", "proxy"] {
        kill_each(&project, service, &client).await;
    }
    let ledger = load.end().await;
    println!("{} jobs were accepted", ledger.0.len());
    ledger.audit_echo(&client).await;
}

/// `BUZZER_KILLS=12` makes two minutes of it.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_apis_one_may_die_every_ten_seconds() {
    let Some(project) = project().await else { return };
    let kills: usize =
        std::env::var("BUZZER_KILLS").map_or(3, |kills| kills.parse().expect("BUZZER_KILLS is a number"));
    let client = project.client();
    project.heals(&client).await;
    let apis = project.containers(&["api"]).await;
    assert_eq!(apis.len(), 2);
    let load = Load::begin(client.clone());
    let mut pace = tokio::time::interval(KILL_EVERY);
    for api in apis.iter().cycle().take(kills) {
        pace.tick().await;
        project.kill(api).await;
        project.start(api).await;
    }
    pace.tick().await;
    let ledger = load.end().await;
    println!("{kills} kills, {} jobs were accepted", ledger.0.len());
    ledger.audit_echo(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_cut_off_and_a_database_that_restarts_lose_nothing() {
    let Some(project) = project().await else { return };
    let client = project.client();
    project.heals(&client).await;
    let load = Load::begin(client.clone());

    let rabbitmq = project.containers(&["rabbitmq"]).await.remove(0);
    project.cut_off(&rabbitmq).await;
    eventually("the API to miss the broker", SOON, async || {
        let answer = client.get("/readyz").await.ok()?;
        (answer.status.as_u16() == 200 && answer.text.contains("degraded")).then_some(())
    })
    .await;
    // Submissions are taken all the same.
    let meanwhile = client.accepted("echo", &json!("while the broker is away")).await;
    project.put_back(&rabbitmq, "rabbitmq").await;
    assert_eq!(client.done(&meanwhile, SOON).await["state"], "succeeded");

    project.compose(&["restart", "postgres"]).await;
    project.heals(&client).await;
    load.end().await.audit_echo(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_scale_from_one_to_four_and_stop_in_mid_run() {
    let Some(project) = project().await else { return };
    let client = project.client();
    project.heals(&client).await;
    project.scale("worker", 4).await;
    eventually("four workers to announce themselves", SOON, async || {
        let workers = client.get("/v1/workers").await.ok()?.json();
        (workers["items"].as_array()?.len() == 4).then_some(())
    })
    .await;

    let mut ledger = Ledger::default();
    ledger.submit(&client, "demo.sleep", 64, |_| json!({ "seconds": 3 })).await;
    // 32 slots: one worker alone would take 24 seconds.
    eventually("all slots to be taken", SOON, async || {
        let stats = client.get("/v1/stats").await.ok()?.json();
        (stats["kinds"]["demo.sleep"]["out"].as_u64()? >= 32).then_some(())
    })
    .await;
    for worker in project.containers(&["worker"]).await.iter().skip(1) {
        project.stop(worker).await;
    }
    let slept = |input: &Value, output: &Value| input["seconds"].as_f64() == output["slept_seconds"].as_f64();
    ledger.audit(&client, slept).await;
    project.scale("worker", 1).await;
}
