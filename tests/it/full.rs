//! A disk that is full: refused with a clear answer, nothing lost, and well again by itself once there is room.

use std::sync::Arc;

use buzzer_prove::ground::disk::SmallDisk;
use buzzer_tests::ledger::{HEALED, Ledger};
use buzzer_tests::lone::Lone;
use buzzer_tests::outside::Outside;
use buzzer_tests::postgres::PostgresServer;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use buzzer_worker::{JobContext, JobError, Worker};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Semaphore;

#[tokio::test(flavor = "multi_thread")]
async fn p8_a_full_disk_refuses_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let disk = SmallDisk::mount(folder.path(), 16).unwrap();
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let store = format!("sqlite:{}", disk.path().join("buzzer.db").display());
    let leases = [("BUZZER_CLAIM_LEASE", "4s"), ("BUZZER_RUN_LEASE", "6s")];
    let mut api = outside.api(&[leases[0], leases[1], ("BUZZER_STORE", &store)]).await;
    let _worker = outside.worker(&[("BUZZER_BEAT", "1s")]);
    // Gives something large, but not before it may.
    let gate = Arc::new(Semaphore::new(0));
    let bear = {
        let gate = Arc::clone(&gate);
        move |_: JobContext, _: Value| {
            let gate = Arc::clone(&gate);
            async move { gate.acquire().await.map(|_| "x".repeat(100 * 1024)).map_err(JobError::fail) }
        }
    };
    let _bearer = Lone::start(Worker::builder().handler("bear", bear), node, &outside);
    api.knows("echo").await;
    api.knows("bear").await;
    let client = api.client();

    let mut ledger = Ledger::default();
    ledger.submit(&client, "echo", 50, |n| json!(n)).await;
    let mut large = Ledger::default();
    large.submit(&client, "bear", 20, |_| Value::Null).await;
    eventually("all of them to run", HEALED, async || {
        let running = client.get("/v1/jobs?state=running&kind=bear").await.ok()?.json();
        (running["items"].as_array()?.len() == 20).then_some(())
    })
    .await;
    disk.fill().unwrap();
    let refused = eventually("a submission to be refused", HEALED, async || {
        let answer = client.submit("echo", &json!("x".repeat(64 * 1024)), None).await.ok()?;
        (answer.status.as_u16() != 202).then_some(answer)
    })
    .await;
    assert_eq!(refused.status.as_u16(), 503, "{}", refused.text);
    assert_eq!(refused.json()["type"], "/problems/store-unavailable");
    let ready = client.get("/readyz").await.unwrap();
    assert_eq!(ready.status.as_u16(), 503, "{}", ready.text);
    gate.add_permits(20);
    eventually("outcomes to be held", HEALED, async || {
        api.process().log().contains("replies cannot be stored; they are held").then_some(())
    })
    .await;

    disk.make_room().unwrap();
    eventually("submissions to be accepted again", HEALED, async || {
        let answer = client.submit("echo", &json!(1), None).await.ok()?;
        (answer.status.as_u16() == 202).then_some(())
    })
    .await;
    ledger.submit(&client, "echo", 20, |n| json!(n)).await;
    ledger.audit_echo(&client).await;
    large.audit(&client, |_, output| output.as_str().is_some_and(|output| output.len() == 100 * 1024)).await;
    assert_eq!((ledger.0.len(), large.0.len()), (70, 20));
}

/// What takes room however well it is packed.
fn unpackable(length: usize) -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(length).collect()
}

/// PostgreSQL goes on with what fits into the pages and the log that it has, and ends where it needs more log. It is
/// started again as a service manager would.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_full_disk_of_postgresql_refuses_and_loses_nothing() {
    let folder = TempDir::new().unwrap();
    let disk = SmallDisk::mount(folder.path(), 256).unwrap();
    let server = PostgresServer::in_folder(disk.path()).await;
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let store = server.database().await;
    let leases = [("BUZZER_CLAIM_LEASE", "4s"), ("BUZZER_RUN_LEASE", "6s")];
    let api = outside.api(&[leases[0], leases[1], ("BUZZER_STORE", &store)]).await;
    let _worker = outside.worker(&[("BUZZER_BEAT", "1s")]);
    api.knows("echo").await;
    let client = api.client();

    let mut ledger = Ledger::default();
    ledger.submit(&client, "echo", 50, |n| json!(n)).await;
    disk.fill().unwrap();
    let mut accepted = Vec::new();
    let refused = eventually("a submission to be refused", HEALED, async || {
        let input = json!(unpackable(64 * 1024));
        let answer = client.submit("echo", &input, None).await.ok()?;
        if answer.status.as_u16() != 202 {
            return Some(answer);
        }
        accepted.push((answer.json()["id"].as_str()?.to_owned(), input));
        None
    })
    .await;
    assert_eq!(refused.status.as_u16(), 503, "{}", refused.text);
    assert_eq!(refused.json()["type"], "/problems/store-unavailable");

    disk.make_room().unwrap();
    server.start_again().await;
    eventually("submissions to be accepted again", HEALED, async || {
        let answer = client.submit("echo", &json!(1), None).await.ok()?;
        (answer.status.as_u16() == 202).then_some(())
    })
    .await;
    ledger.submit(&client, "echo", 20, |n| json!(n)).await;
    ledger.audit_echo(&client).await;
    for (id, input) in accepted {
        let job = client.done(&id, HEALED).await;
        assert_eq!((&job["state"], &job["output"]), (&json!("succeeded"), &input), "{id}");
    }
}
