//! A job that brings its workers down is stopped, and the jobs beside it are not.

use buzzer_tests::ledger::{HEALED, Ledger};
use buzzer_tests::outside::{Outside, Undying};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use serde_json::json;

const GOOD: usize = 1000;
const POISON: usize = 20;
/// A suspect is delivered to two workers in company, and run three times alone. Several may share a crash of the first
/// sort, and a request that RabbitMQ holds for a dead worker may be delivered once more.
const DEATHS_MAX: usize = POISON * 6;

#[tokio::test(flavor = "multi_thread")]
async fn p1_poison_ends_and_its_bystanders_succeed() {
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(&[("BUZZER_CLAIM_LEASE", "10s"), ("BUZZER_RUN_LEASE", "4s")]).await;
    let settings = [("BUZZER_BEAT", "500ms"), ("BUZZER_SLOTS", "32")];
    let workers = [0, 1].map(|_| Undying::keep(outside.worker(&settings)));
    let deaths = || workers.iter().map(Undying::deaths).sum::<usize>();
    api.knows("demo.crash").await;
    let client = api.client();

    let mut good = Ledger::default();
    let mut poison = Vec::new();
    for n in 0..POISON {
        poison.push(client.accepted("demo.crash", &json!({})).await);
        good.submit(
            &client,
            if n % 2 == 0 { "echo" } else { "demo.sleep" },
            GOOD / POISON,
            |_| json!({ "seconds": 0.02 }),
        )
        .await;
    }
    for id in &poison {
        let job = client.done(id, 4 * HEALED).await;
        assert_eq!((&job["state"], &job["error"]["type"]), (&json!("failed"), &json!("/problems/poison")), "{job}");
        assert_eq!(job["attempt"], 1, "a crash is no attempt: {job}");
    }
    good.audit(&client, |_, _| true).await;
    assert_eq!(good.0.len(), GOOD);

    let died = deaths();
    eprintln!("{POISON} poison jobs took {died} workers with them");
    assert!((5..=DEATHS_MAX).contains(&died), "{died} deaths");
    eventually("both workers to be back", HEALED, async || {
        let workers = client.get("/v1/workers").await.ok()?.json();
        (workers["items"].as_array()?.len() >= 2).then_some(())
    })
    .await;
    good.submit(&client, "echo", 200, |n| json!(n)).await;
    good.audit(&client, |_, _| true).await;
    assert_eq!(deaths(), died, "poison that has ended crashes nobody");
}
