//! Users of RabbitMQ that may do what their part needs and no more: the permissions of docs/operate.md, and what comes
//! of a message that somebody else sends.

use std::time::Duration;

use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::broker::{Broker, DeclareError, Line};
use buzzer_shared::id::{JobId, RunId, WorkerId};
use buzzer_shared::message::{Beat, Outcome, RunResult};
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_shared::topology::Topology;
use buzzer_tests::outside::Outside;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use reqwest::Method;
use serde_json::json;

const SOON: Duration = Duration::from_secs(20);

/// The users of one Buzzer on a node: each has a name of its own, which begins with the prefix.
pub(crate) struct Users<'a> {
    pub(crate) node: &'a RabbitNode,
    pub(crate) prefix: &'a str,
}

impl Users<'_> {
    pub(crate) async fn api(&self) -> url::Url {
        let all = format!("^{}\\..*", self.prefix);
        self.add("api", [&all, &all, &all]).await
    }

    pub(crate) async fn worker(&self) -> url::Url {
        let p = self.prefix;
        let control = format!("^{p}\\.control\\..*");
        let write = format!("^{p}\\.(replies|parking|control\\..*)$");
        let read = format!("^{p}\\.(requests\\..*|control.*)$");
        self.add("worker", [&control, &write, &read]).await
    }

    /// One that may write to every exchange, and is no worker.
    async fn stranger(&self) -> url::Url {
        self.add("stranger", ["^$", ".*", "^$"]).await
    }

    pub(crate) fn name(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    /// Permissions to configure, write and read, as RabbitMQ takes them.
    async fn add(&self, role: &str, permissions: [&str; 3]) -> url::Url {
        let (name, password) = (self.name(role), format!("{:016x}", fastrand::u64(..)));
        self.node.ctl(&["add_user", &name, &password]).await;
        let [configure, write, read] = permissions;
        self.node.ctl(&["set_permissions", "-p", "/", &name, configure, write, read]).await;
        let mut url = self.node.url();
        url.set_username(&name).expect("an AMQP address takes a user");
        url.set_password(Some(&password)).expect("an AMQP address takes a password");
        url
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_part_needs_no_more_than_its_permissions_and_strangers_are_not_believed() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let users = Users { node, prefix: &outside.prefix };
    let (as_api, as_worker, as_stranger) = (users.api().await, users.worker().await, users.stranger().await);
    let api = outside.api(&[("BUZZER_BROKER", as_api.as_str()), ("BUZZER_WORKER_USER", &users.name("worker"))]).await;
    let worker = outside.worker(&[("BUZZER_BROKER", as_worker.as_str())]);
    api.knows("echo").await;
    let client = api.client();

    // All roads of a job: its run, its signals, a cancel, one that is acknowledged early.
    let echoed = client.accepted("echo", &json!("hello")).await;
    assert_eq!(client.done(&echoed, SOON).await["output"], "hello");
    let id = client.accepted("demo.sleep", &json!({ "seconds": 60 })).await;
    eventually("the run to start", SOON, async || {
        let job = client.get(&format!("/v1/jobs/{id}")).await.ok()?.json();
        (job["state"] == "running").then_some(())
    })
    .await;

    let line = AmqpBroker::connect(as_stranger, "stranger");
    let up = line.line().wait_for(|line| *line == Line::Up).await.map(|_| ());
    up.expect("the stranger is let in");
    let topology = Topology::new(&outside.prefix);
    let now = SystemClock.now();
    let run = RunId { job: id.parse::<JobId>().expect("an id"), dispatch: 1 };
    let stranger = WorkerId::new(now);
    let forged = Outcome {
        run,
        worker: stranger,
        started_at: Some(now),
        told: Vec::new(),
        result: RunResult::Succeeded(b"\"forged\"".as_slice().into()),
    };
    line.publish(topology.outcome(), forged.to_message()).await.expect("the stranger may write");
    line.publish(topology.pulse(), Beat { worker: stranger, held: vec![run], leaving: false }.to_message())
        .await
        .expect("the stranger may write");
    let parked = eventually("the forged outcome to be parked", SOON, async || {
        let list = client.get("/v1/parked").await.ok()?.json();
        list["items"].as_array()?.first().cloned()
    })
    .await;
    let reason = parked["reason"].as_str().expect("a reason");
    assert!(reason.contains("-stranger\", which BUZZER_WORKER_USER does not name"), "{reason}");
    let job = client.get(&format!("/v1/jobs/{id}")).await.expect("an answer").json();
    assert_eq!(job["state"], "running", "{job}");

    // Neither does it come true when it is sent back, nor when the stranger says that it came from there.
    line.publish(topology.parking(), forged.to_message().parked(&topology.replies_queue(), &"?"))
        .await
        .expect("the stranger may write");
    let both = eventually("both to be parked", SOON, async || {
        let list = client.get("/v1/parked").await.ok()?.json();
        list["items"].as_array().filter(|items| items.len() == 2).cloned()
    })
    .await;
    for parked in both {
        let path = format!("/v1/parked/{}/replay", parked["id"].as_str().expect("an id"));
        let refused = client.send(client.request(Method::POST, &path)).await.expect("an answer");
        assert_eq!(refused.json()["type"], "/problems/no-way-back", "{}", refused.text);
        assert!(refused.text.contains("which BUZZER_WORKER_USER does not name"), "{}", refused.text);
    }
    let list = client.get("/v1/parked").await.expect("an answer").json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2), "they stay: {list}");
    let job = client.get(&format!("/v1/jobs/{id}")).await.expect("an answer").json();
    assert_eq!(job["state"], "running", "{job}");
    eventually("the forged beat to be dropped", SOON, async || {
        let stats = client.get("/v1/stats").await.ok()?.json();
        (stats["ignored"]["unreadable"] == 1).then_some(())
    })
    .await;
    line.close().await;

    let cancel = client.request(Method::POST, &format!("/v1/jobs/{id}/cancel"));
    let canceled = client.send(cancel).await.expect("an answer");
    assert!(canceled.status.is_success(), "{}", canceled.text);
    assert_eq!(client.done(&id, SOON).await["state"], "canceled");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_make_nothing_but_its_own_ear() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let as_worker = Users { node, prefix: &outside.prefix }.worker().await;
    let line = AmqpBroker::connect(as_worker, "worker");
    let refused = line.declare(Topology::new(&outside.prefix).fixed()).await;
    assert!(matches!(&refused, Err(DeclareError::Refused { reason, .. }) if reason.contains("refused")), "{refused:?}");
    line.close().await;
}
