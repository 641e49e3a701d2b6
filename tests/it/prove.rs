//! `buzzer prove` as its users call it. That its checker finds what is wrong is told by the tests beside that.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

/// Some two minutes, and something for a busy machine.
const LIMIT: Duration = Duration::from_secs(400);

/// The command, beside which the programs are that it starts.
fn prove() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("buzzer"));
    command.arg("prove");
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_p3_p4_p5_p6_p8_p11_in_a_short_campaign() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prove();
    // Other tests run beside it: what is promised within seconds may take longer.
    command.args(["--quick", "--json", "--slack", "8", "--keep"]).arg(folder.path());
    if let Some(scripts) = std::env::var_os("BUZZER_TEST_RABBITMQ") {
        command.arg("--rabbitmq").arg(scripts);
    }
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = within("buzzer prove --quick", LIMIT, output).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    eprintln!("--seed {}", report["seed"]);
    assert!(output.status.success() && report["kept"] == true, "{said}\n{report:#}");
    assert!(report["faults"].as_u64() >= Some(6) && report["accepted"].as_u64() >= Some(500), "{report:#}");
    assert_eq!((&report["findings"], &report["quiet"]), (&json!({}), &json!(true)));
    assert!(folder.path().join("ledger.jsonl").exists() && folder.path().join("logs/api-1.log").exists());
}

/// Here a bound that no API can keep.
#[tokio::test(flavor = "multi_thread")]
async fn p8_a_promise_that_is_broken_is_said_in_the_last_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = prove();
    command.args(["--faults", "1", "--only", "scaled up", "--jobs", "20", "--hold", "300ms", "--slack", "8"]);
    command.args(["--memory", "1MiB", "--seed", "7", "--keep"]).arg(folder.path()).kill_on_drop(true);
    let output = within("buzzer prove", LIMIT, command.output()).await.unwrap();
    let (table, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{table}{said}");
    let verdict = format!("broken: memory 1; seed 7, kept in {}", folder.path().display());
    assert_eq!(table.lines().last(), Some(verdict.as_str()), "{said}");
    assert!(said.contains("P8 memory: an API held ") && said.contains("the bound is 1 MiB"), "{said}");
    assert!(folder.path().join("ledger.jsonl").exists());
}

/// What nobody can use is found again where it was parked, with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn p6_garbage_and_forgeries_are_parked_each_of_them() {
    let mut command = prove();
    // One in four strikes is of two faults, but never of two about RabbitMQ.
    command.args(["--faults", "2", "--only", "garbage", "--only", "forged", "--jobs", "100", "--hold", "300ms"]);
    command.args(["--slack", "8", "--json"]).kill_on_drop(true);
    if let Some(scripts) = std::env::var_os("BUZZER_TEST_RABBITMQ") {
        command.arg("--rabbitmq").arg(scripts);
    }
    let output = within("buzzer prove", LIMIT, command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.lines().last(), Some("kept: every promise held"), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // Five for each of six queues, and at least one forgery.
    assert!(
        report["planted"].as_u64() > Some(30) && report["parked"].as_u64() >= report["planted"].as_u64(),
        "{report:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rabbitmq_that_is_given_is_left_as_it_was() {
    let node = RabbitNode::to_damage().await;
    let mut command = prove();
    command.args(["--quick", "--faults", "2", "--jobs", "100", "--hold", "1s", "--slack", "8", "--json"]);
    command.args(["--rabbitmq", node.url().as_str()]).kill_on_drop(true);
    let output = within("buzzer prove", LIMIT, command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["accepted"].as_u64() >= Some(50), "{report:#}");
    eventually("RabbitMQ to have nothing of it", LIMIT, async || {
        let queues = node.ctl(&["list_queues", "name"]).await;
        let exchanges = node.ctl(&["list_exchanges", "name"]).await;
        (!queues.contains("buzzer") && !exchanges.contains("buzzer")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_for_is_one_clear_line() {
    for (arguments, words) in [
        (&["--apis", "2"][..], "--store postgres"),
        (&["--rabbitmq", "/nowhere"], "no rabbitmq-server in /nowhere"),
        (&["--rabbitmq", "amqps://a"], "without TLS"),
        (&["--slack", "0.5"], "at least 1"),
        (&["--quick", "--full"], "cannot be used with"),
        (&["--compose", "--apis", "2"], "cannot be used with"),
        (&["--compose", "shop", "--rabbitmq", "/nowhere"], "cannot be used with"),
    ] {
        let mut command = prove();
        let folder = tempfile::tempdir().unwrap();
        command.args(arguments).current_dir(folder.path()).kill_on_drop(true);
        let output = within("buzzer prove", LIMIT, command.output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(words), "{arguments:?}: {said}");
    }
}

/// A folder with a `docker` that runs this, and nothing else.
fn docker(script: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let docker = folder.path().join("docker");
    std::fs::write(&docker, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&docker, std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// What Docker says when it does not help, and what is made of it. `tests/compose/prove.rs` has one that does.
#[tokio::test(flavor = "multi_thread")]
async fn a_project_that_cannot_be_proved_is_one_clear_line() {
    let refusing = |said: &str| docker(&format!("echo '{said}' >&2; exit 1"));
    let others = r#"case "$*" in *format*) echo blog; echo blog; echo site;; esac"#;
    for (path, words) in [
        (TempDir::new().unwrap(), "there is no docker on the path: install Docker"),
        (
            refusing(
                "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?",
            ),
            "no Docker engine answers: start it",
        ),
        (
            refusing(
                "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            ),
            "a member of the group docker",
        ),
        (docker(others), "there is no Compose project shop; there are: blog, site"),
        (docker(":"), "there is no Compose project shop; there is none at all: docker compose up starts one"),
    ] {
        let folder = TempDir::new().unwrap();
        let mut command = prove();
        command.args(["--compose", "shop", "--quick"]).env("PATH", path.path());
        command.current_dir(folder.path()).kill_on_drop(true);
        let output = within("buzzer prove", LIMIT, command.output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(words) && said.trim_end().lines().count() == 1, "{words}: {said}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "there is nothing to keep");
    }
}
