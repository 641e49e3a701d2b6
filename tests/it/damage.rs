//! What an operator, or a disk, may do to RabbitMQ while all runs: it is seen, said and healed, and nobody restarts
//! anything. Real processes, a real RabbitMQ.

use buzzer_tests::client::Client;
use buzzer_tests::ledger::{HEALED, Ledger};
use buzzer_tests::outside::{Api, Outside, Service};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use lapin::options::{ExchangeDeleteOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use serde_json::json;

use super::faults::{API, WORKER};

/// An API and a worker, and what the client was promised.
struct Running {
    api: Api,
    worker: Service,
    client: Client,
    ledger: Ledger,
}

impl Running {
    async fn on(outside: &Outside) -> Self {
        let api = outside.api(API).await;
        let worker = outside.worker(WORKER);
        api.knows("echo").await;
        let client = api.client();
        let mut running = Self { api, worker, client, ledger: Ledger::default() };
        running.submit(20).await;
        running
    }

    async fn submit(&mut self, count: usize) {
        self.ledger.submit(&self.client, "echo", count, |n| json!(n)).await;
    }

    /// Waits until the API has said this.
    async fn says(&mut self, words: &str) {
        let api = self.api.process();
        eventually(&format!("the API to say {words:?}"), HEALED, async || api.log().contains(words).then_some(()))
            .await;
    }

    async fn worker_says(&self, words: &str) {
        let worker = &self.worker;
        let said = async || worker.log().contains(words).then_some(());
        eventually(&format!("the worker to say {words:?}"), HEALED, said).await;
    }

    /// So many were accepted, and every one of them has succeeded.
    async fn audit(&self, count: usize) {
        assert_eq!(self.ledger.0.len(), count, "the API accepts whatever is the matter with the broker");
        self.ledger.audit_echo(&self.client).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_changed_password_is_told_and_changed_back() {
    let node = RabbitNode::to_damage().await;
    let mut running = Running::on(&Outside::on(&node)).await;
    let url = node.url();
    let (user, password) = (url.username(), url.password().expect("a password"));
    node.ctl(&["change_password", user, "another"]).await;
    node.close_all_connections().await;
    running.submit(20).await;
    running.says("wrong name or password").await;
    running.worker_says("wrong name or password").await;
    assert!(running.api.process().log().contains("BUZZER_BROKER") && !running.api.process().log().contains(password));
    eventually("/readyz to say what is wrong", HEALED, async || {
        let ready = running.client.get("/readyz").await.ok()?;
        ready.text.contains("wrong name or password").then_some(())
    })
    .await;
    node.ctl(&["change_password", user, password]).await;
    running.says("RabbitMQ is back").await;
    running.submit(20).await;
    running.audit(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_deleted_vhost_is_told_and_made_again() {
    let node = RabbitNode::to_damage().await;
    let mut running = Running::on(&Outside::on(&node)).await;
    node.ctl(&["delete_vhost", "/"]).await;
    running.submit(20).await;
    running.says("there is no such vhost").await;
    node.ctl(&["add_vhost", "/"]).await;
    running.says("the user may not use this vhost").await;
    node.ctl(&["set_permissions", "-p", "/", node.url().username(), ".*", ".*", ".*"]).await;
    running.says("RabbitMQ is back").await;
    running.submit(20).await;
    running.audit(60).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_exchanges_and_bindings_that_were_deleted_come_back() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let mut running = Running::on(&outside).await;
    running.audit(20).await;
    let name = |rest: &str| format!("{}.{rest}", outside.prefix);
    let connection = node.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    for exchange in ["requests", "replies", "control", "parking"] {
        let deleted = channel.exchange_delete(name(exchange).as_str().into(), ExchangeDeleteOptions::default()).await;
        deleted.expect("an exchange to delete");
        running.submit(20).await;
    }
    running.audit(100).await;
    // Nobody publishes to these here, and nobody would miss them.
    let control = format!("{}\texchange\t{}", name("control"), name("control."));
    let parking = format!("{}\texchange\t{}", name("parking"), name("parking.v1"));
    eventually("every binding to be back", HEALED, async || {
        let bindings = node.ctl(&["list_bindings"]).await;
        (bindings.contains(&control) && bindings.contains(&parking)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_queue_of_ours_that_somebody_else_made_is_told_and_taken_back() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let mut running = Running::on(&outside).await;
    running.audit(20).await;
    let queue = format!("{}.replies.v1", outside.prefix);
    let connection = node.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("a queue to delete");
    let classic = channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default());
    classic.await.expect("a queue");
    running.submit(20).await;
    running.says("it exists with other arguments").await;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("a queue to delete");
    running.submit(20).await;
    running.audit(60).await;
    running.says("RabbitMQ has declared what it refused before").await;
}

/// 3.10 may lose queues that it crashes with right after they were made, or bring them back stuck. Whether it does is
/// chance; that all is done in the end is not.
#[tokio::test(flavor = "multi_thread")]
async fn p1_rabbitmq_is_killed_right_after_the_queues_were_made() {
    let node = RabbitNode::start().await;
    let mut running = Running::on(&Outside::on(&node)).await;
    node.kill();
    running.submit(20).await;
    node.start_again().await;
    running.submit(20).await;
    running.audit(60).await;
    let log = running.api.process().log();
    println!(
        "stuck: {}",
        log.lines().filter(|line| line.contains("neither takes nor gives")).collect::<Vec<_>>().join("\n")
    );
    // The parking queue was made in that moment, too.
    eventually("the parking queue to be whole", HEALED, async || {
        running.client.get("/v1/parked").await.ok().filter(|answer| answer.status.is_success())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_job_whose_kind_is_refused_a_queue_says_so() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let queue = format!("{}.requests.echo.v1", outside.prefix);
    let connection = node.connect().await;
    let channel = connection.create_channel().await.expect("a channel");
    let classic = channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), FieldTable::default());
    classic.await.expect("a queue");
    let api = outside.api(API).await;
    let _worker = outside.worker(WORKER);
    api.knows("echo").await;
    let client = api.client();
    let id = client.accepted("echo", &json!(1)).await;
    eventually("it to say what it waits for", HEALED, async || {
        let waiting = client.job(&id).await.ok()?["waiting"].clone();
        let detail = waiting["detail"].as_str()?;
        (waiting["for"] == "broker" && detail.contains("other arguments") && detail.contains(&queue)).then_some(())
    })
    .await;
    channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await.expect("a queue to delete");
    assert_eq!(client.done(&id, HEALED).await["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn p12_a_full_disk_of_rabbitmq_is_waited_for() {
    let node = RabbitNode::to_damage().await;
    let mut running = Running::on(&Outside::on(&node)).await;
    running.audit(20).await;
    node.ctl(&["set_disk_free_limit", "1000GB"]).await;
    running.submit(20).await;
    running.says("RabbitMQ takes no messages for now").await;
    let ready = running.client.get("/readyz").await.expect("an answer");
    assert_eq!((ready.status.as_u16(), &ready.json()["status"]), (200, &json!("degraded")), "{}", ready.text);
    assert!(ready.text.contains("disk"), "{}", ready.text);
    running.submit(20).await;
    node.ctl(&["set_disk_free_limit", "50MB"]).await;
    running.says("RabbitMQ takes messages again").await;
    running.submit(20).await;
    running.audit(80).await;
}
