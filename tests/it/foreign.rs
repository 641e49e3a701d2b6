//! The workers of `examples/` that speak AMQP in other languages: what Buzzer promises holds for their kinds, too.

use std::path::Path;
use std::time::Duration;

use buzzer_tests::example_worker::{ExampleWorker, Language};
use buzzer_tests::outside::{Api, Outside};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::users::Users;

const LIMIT: Duration = Duration::from_secs(90);
/// A run that goes on for as long as a test looks at it.
const ENDLESS: f64 = 60.0;

/// An input of `lines` lines that takes so long for each.
fn lines(lines: usize, seconds_per_line: f64) -> Value {
    json!({ "text": vec!["soup of the day"; lines].join("\n"), "seconds_per_line": seconds_per_line })
}

/// What the example makes of some lines.
fn output(language: Language, lines: usize) -> Value {
    let text = vec!["soup of the day"; lines].join("\n");
    match language {
        Language::Python => json!({ "lines": lines, "words": 4 * lines, "characters": text.len() }),
        Language::Node => json!({ "text": text }),
    }
}

/// The job once it is in this state.
async fn reaches(api: &Api, id: &str, state: &str) -> Value {
    let client = api.client();
    eventually(&format!("job {id} to be {state}"), LIMIT, async || {
        client.job(id).await.ok().filter(|job| job["state"] == state)
    })
    .await
}

/// The types of a job's events.
async fn events(api: &Api, id: &str) -> Vec<String> {
    let client = api.client();
    let request = client.request(Method::GET, &format!("/v1/jobs/{id}/events?limit=500"));
    let log = client.send(request.header("accept", "application/json")).await.unwrap().json();
    log["items"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect()
}

/// As a user who may do what a worker needs and no more: runs, tells, tries again, stops, and is there for an API that
/// was killed.
async fn works(language: Language) {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let users = Users { node, prefix: &outside.prefix };
    let as_worker = users.worker().await;
    // It starts first: nothing is there yet, and it waits.
    let worker = ExampleWorker::start(language, &as_worker, &outside.prefix, &[]).await;
    let mut api = outside.api(&[("BUZZER_WORKER_USER", &users.name("worker"))]).await;
    api.knows(language.kind()).await;
    let client = api.client();

    let done = client.done(&client.accepted(language.kind(), &lines(3, 0.0)).await, LIMIT).await;
    assert_eq!((&done["state"], &done["output"]), (&json!("succeeded"), &output(language, 3)), "{done}");

    let busy = client.accepted(language.kind(), &json!({ "text": "soup", "fail_times": 2 })).await;
    let done = client.done(&busy, LIMIT).await;
    assert_eq!((&done["state"], &done["attempt"]), (&json!("succeeded"), &json!(3)), "{done}");

    let told = client.accepted(language.kind(), &lines(6, 0.5)).await;
    client.done(&told, LIMIT).await;
    let events = events(&api, &told).await;
    assert_eq!(events[..2], ["job.accepted", "job.started"], "{events:?}");
    assert!(events.iter().filter(|event| *event == "job.progress").count() >= 3, "{events:?}");

    let endless = client.accepted(language.kind(), &lines(2, ENDLESS)).await;
    let waiting = client.accepted(language.kind(), &lines(8, 1.0)).await;
    reaches(&api, &endless, "running").await;
    reaches(&api, &waiting, "running").await;
    let request = client.request(Method::POST, &format!("/v1/jobs/{endless}/cancel"));
    client.send(request).await.unwrap();
    assert_eq!(client.done(&endless, LIMIT).await["state"], "canceled");

    api.process().kill();
    api.start_again().await;
    let done = client.done(&waiting, LIMIT).await;
    assert_eq!((&done["state"], &done["attempt"]), (&json!("succeeded"), &json!(1)), "{done}");
    let parked = client.get("/v1/parked").await.unwrap().json();
    assert_eq!(parked["total"], 0, "{parked} {}", worker.log());
}

/// Whatever is lost, the job is not.
async fn survives(language: Language) {
    let node = RabbitNode::start().await;
    let outside = Outside::on(&node);
    let mut worker = ExampleWorker::start(language, &node.url(), &outside.prefix, &[]).await;
    let api = outside.api(&[("BUZZER_RUN_LEASE", "15s")]).await;
    api.knows(language.kind()).await;
    let client = api.client();

    let killed = client.accepted(language.kind(), &lines(3, 1.0)).await;
    reaches(&api, &killed, "running").await;
    worker.kill();
    worker.start_again();
    let done = client.done(&killed, LIMIT).await;
    assert_eq!((&done["output"], &done["attempt"]), (&output(language, 3), &json!(1)), "{done}");

    // Its run goes on, and its outcome waits for the next line.
    let cut = client.accepted(language.kind(), &lines(3, 1.0)).await;
    reaches(&api, &cut, "running").await;
    node.close_all_connections().await;
    let done = client.done(&cut, LIMIT).await;
    assert_eq!((&done["output"], &done["attempt"]), (&output(language, 3), &json!(1)), "{done}");

    let restarted = client.accepted(language.kind(), &lines(3, 1.0)).await;
    reaches(&api, &restarted, "running").await;
    node.kill();
    node.start_again().await;
    let done = client.done(&restarted, LIMIT).await;
    assert_eq!((&done["output"], &done["attempt"]), (&output(language, 3), &json!(1)), "{done}");
    let done = client.done(&client.accepted(language.kind(), &lines(1, 0.0)).await, LIMIT).await;
    assert_eq!(done["output"], output(language, 1), "{done}");
}

/// On SIGTERM it finishes what it can, and hands the rest back to the next.
async fn stops(language: Language) {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let start =
        async || ExampleWorker::start(language, &node.url(), &outside.prefix, &[("BUZZER_DRAIN", "4000ms")]).await;
    let mut worker = start().await;
    let api = outside.api(&[]).await;
    api.knows(language.kind()).await;
    let client = api.client();

    let short = client.accepted(language.kind(), &lines(2, 0.5)).await;
    let long = client.accepted(language.kind(), &lines(30, 0.5)).await;
    reaches(&api, &short, "running").await;
    reaches(&api, &long, "running").await;
    worker.ask_to_stop();
    let done = client.done(&short, LIMIT).await;
    assert_eq!(done["state"], "succeeded", "{done}");
    assert!(worker.ended().await.success(), "{}", worker.log());
    // It has said goodbye, so nobody waits for it.
    let job = reaches(&api, &long, "queued").await;
    assert_eq!(job["waiting"]["for"], "worker", "{job}");

    let _next = start().await;
    let done = client.done(&long, LIMIT).await;
    assert_eq!((&done["output"], &done["attempt"]), (&output(language, 30), &json!(1)), "{done}");
}

/// One line says what is wrong; it does not guess, and does not begin.
async fn wants_a_time(language: Language) {
    let nowhere = "amqp://127.0.0.1:1/%2f".parse().unwrap();
    for drain in ["soon", "30", "5m!", ""] {
        let mut worker = ExampleWorker::start(language, &nowhere, "buzzer", &[("BUZZER_DRAIN", drain)]).await;
        assert_eq!(worker.ended().await.code(), Some(2), "{}", worker.log());
        assert_eq!(worker.log(), format!("BUZZER_DRAIN: {drain:?} is not a time, like 30s or 5m\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn python_is_canceled_in_the_tick_in_which_it_takes_a_request() {
    let [python, worker] = &Language::Python.command_line().await[..] else { panic!("a program and its argument") };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/foreign_cancel.py");
    let example = Path::new(worker).parent().expect("a folder");
    let mut command = Command::new(python);
    command.arg("-B").arg(script).arg(example).kill_on_drop(true);
    let ran = within("the script", LIMIT, command.output()).await.unwrap();
    let (out, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert_eq!(out.trim(), "canceled", "{said}");
}

macro_rules! in_each_language {
    ($($name:ident: $language:ident, $what:ident;)*) => { $(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            $what(Language::$language).await;
        }
    )* };
}

in_each_language! {
    python_works: Python, works;
    python_survives: Python, survives;
    python_stops: Python, stops;
    python_wants_a_time: Python, wants_a_time;
    node_works: Node, works;
    node_survives: Node, survives;
    node_stops: Node, stops;
    node_wants_a_time: Node, wants_a_time;
}
