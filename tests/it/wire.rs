//! What comes over the wire that nobody should have sent.

use std::time::Duration;

use buzzer_shared::broker::{Delivery, Receipts, Subscriber, Subscription};
use buzzer_shared::id::{JobId, RunId, WorkerId};
use buzzer_shared::message::{Header, Message, Outcome, RunResult};
use buzzer_shared::time::Time;
use buzzer_tests::inside::{Inside, topology};
use buzzer_tests::wait::within;
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);

fn parking(buzzer: &Inside) -> Subscriber {
    buzzer.broker().subscribe(Subscription {
        queue: topology().parking_queue(),
        declare: Vec::new(),
        receipts: Receipts::Manual { prefetch: 100 },
    })
}

fn outcome(job: JobId, dispatch: u32) -> Message {
    let run = RunId { job, dispatch };
    let worker = WorkerId::new(Time::from_millis(1));
    let result = RunResult::Succeeded(bytes::Bytes::from_static(b"\"forged\""));
    Outcome { run, worker, started_at: None, told: Vec::new(), result }.to_message()
}

#[tokio::test]
async fn p6_an_outcome_that_cannot_be_read_is_parked_and_its_neighbours_are_kept() {
    let buzzer = Inside::start().await;
    let mut parked = parking(&buzzer);
    let good = outcome(JobId::new(Time::from_millis(1)), 1);
    let garbage = [
        (Message { r#type: "buzzer.outcome.v9".into(), ..good.clone() }, "buzzer.outcome.v9"),
        (Message { message_id: Some("not-a-run".into()), ..good.clone() }, "message_id"),
        (Message { body: "{".into(), ..good.clone() }, "body"),
        (Message { headers: Vec::new(), ..good.clone() }, "result"),
        (Message::default(), "type"),
    ];
    for (message, reason) in garbage {
        buzzer.broker().publish(topology().outcome(), message.clone()).await.unwrap();
        let job = buzzer.run("echo", r#"{"input": 1}"#).await;
        assert_eq!(job["state"], "succeeded");
        let Delivery { message: found, receipt, .. } =
            within("the message to be parked", SOON, parked.next()).await.unwrap();
        receipt.acknowledge();
        let header = |name: &str| found.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone());
        let Some(Header::Text(said)) = header("parked-reason") else { panic!("{:?}", found.headers) };
        assert!(said.contains(reason), "{said}");
        assert_eq!(header("parked-from"), Some("buzzer.replies.v1".into()));
        assert_eq!((found.r#type, found.body), (message.r#type, message.body));
    }
}

#[tokio::test]
async fn p2_outcomes_of_unknown_jobs_and_dispatches_change_nothing() {
    let buzzer = Inside::start().await;
    let job = buzzer.run("echo", r#"{"input": 1}"#).await;
    let id: JobId = job["id"].as_str().unwrap().parse().unwrap();
    let late = buzzer.submit("echo", r#"{"input": 1, "delay": "1h"}"#).await.json();
    let scheduled: JobId = late["id"].as_str().unwrap().parse().unwrap();
    for message in [outcome(id, 1), outcome(id, 7), outcome(scheduled, 1), outcome(JobId::new(Time::from_millis(9)), 1)]
    {
        buzzer.broker().publish(topology().outcome(), message).await.unwrap();
    }
    // Outcomes are taken in order: once this one is stored, those before it have been dealt with.
    buzzer.run("echo", r#"{"input": 2}"#).await;
    let now = buzzer.get(job["links"]["self"].as_str().unwrap()).await.json();
    assert_eq!(now, job);
    let now = buzzer.get(late["links"]["self"].as_str().unwrap()).await.json();
    assert_eq!(now["state"], json!("scheduled"), "{now}");
}
