//! The client of `examples/socket`, while the API is killed and comes back.

use std::path::Path;
use std::process::Stdio;

use buzzer_tests::outside::Outside;
use buzzer_tests::python;
use buzzer_tests::wait::{eventually, within};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

use super::LIMIT;

#[tokio::test(flavor = "multi_thread")]
async fn the_example_shows_each_event_once_across_a_kill_of_the_api() {
    let mut system = Outside::up(&[("BUZZER_DEMO", "1")]).await;
    system.knows("demo.progress").await;
    let client = system.client();
    let submit = |key: &str, kind: &str, job: Value| {
        let submit = json!({ "type": "submit", "kind": kind, "job": job, "follow": true, "idempotency_key": key });
        submit.to_string()
    };
    let unknown = json!({ "type": "cancel", "request": "c", "job_id": "ffffffff-ffff-7fff-bfff-ffffffffffff" });
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/socket/talk.py");
    let mut command = Command::new(python::with(&["websockets"]).await);
    command.arg(program).env("BUZZER_SERVER", client.base()).kill_on_drop(true);
    command.arg(submit("1", "demo.progress", json!({ "input": { "steps": 30, "seconds": 6 } })));
    command.arg(submit("2", "echo", json!({ "input": 2, "delay": "2s" }))).arg(unknown.to_string());
    let talking = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();

    eventually("a job to be half done", LIMIT, async || {
        let jobs = client.get("/v1/jobs?kind=demo.progress").await.ok()?.json();
        (jobs["items"][0]["progress"]["percent"].as_f64()? >= 30.0).then_some(())
    })
    .await;
    system.process().kill();
    system.start_again().await;
    let output = within("the client", LIMIT, talking.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).unwrap();
    let frames: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(frames.iter().any(|frame| frame["type"] == "problem" && frame["request"] == "c"), "{printed}");
    let jobs = client.get("/v1/jobs").await.unwrap().json()["items"].as_array().unwrap().clone();
    assert_eq!(jobs.len(), 2, "{jobs:?}");
    for job in jobs {
        let path = format!("{}?limit=500", job["links"]["events"].as_str().unwrap());
        let request = client.request(Method::GET, &path).header("accept", "application/json");
        let log = client.send(request).await.unwrap().json()["items"].clone();
        let of_job = frames.iter().map(|frame| &frame["event"]).filter(|event| event["job_id"] == job["id"]);
        assert_eq!(json!(of_job.collect::<Vec<_>>()), log);
    }
}
