//! `buzzer prove --compose` on a project that others use, too: what was promised holds, and the project is left as it was.

use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::compose::{Project, docker};
use buzzer_tests::wait::{eventually, within};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::project;

/// Some ninety seconds, and something for a busy machine.
const LIMIT: Duration = Duration::from_secs(400);
const SERVICES: [&str; 5] = ["api", "worker", "rabbitmq", "postgres", "proxy"];

/// The command, as somebody calls it who has the project's key.
fn prove(project: &Project) -> Command {
    let this = std::env::current_exe().expect("this program");
    let mut command = Command::new(this.ancestors().nth(2).expect("target's folder").join("buzzer"));
    command.args(["prove", "--quick", "--slack", "8", "--compose", project.name()]).env("BUZZER_KEY", project.key());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// What must be as it was: which containers there are, whether they run, and where they are found.
async fn look(project: &Project) -> Vec<Value> {
    let mut seen = Vec::new();
    for service in SERVICES {
        for id in project.containers(&["--all", service]).await {
            let inspected: Value = serde_json::from_str(&docker(&["inspect", &id]).await).expect("JSON");
            let container = &inspected[0];
            let networks = container["NetworkSettings"]["Networks"].as_object().expect("a map");
            let aliases: serde_json::Map<_, _> = networks
                .iter()
                .map(|(name, place)| {
                    let mut aliases: Vec<_> = place["Aliases"].as_array().into_iter().flatten().cloned().collect();
                    aliases.sort_by_key(ToString::to_string);
                    (name.clone(), aliases.into())
                })
                .collect();
            let state = &container["State"];
            seen.push(json!({ "id": id, "running": state["Running"], "paused": state["Paused"], "on": aliases }));
        }
    }
    seen
}

/// Every job that there is.
async fn jobs(client: &Client) -> Vec<Value> {
    let (mut ids, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/jobs?limit=500{cursor}")).await.expect("an answer").json();
        ids.extend(page["items"].as_array().expect("a list").iter().map(|job| job["id"].clone()));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return ids,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_p2_p3_p4_p5_p6_p8_p11_in_containers() {
    let Some(project) = project().await else { return };
    let client = project.client();
    project.heals(&client).await;
    let of_others = client.accepted("echo", &json!("of somebody else")).await;
    let (before, known) = (look(&project).await, jobs(&client).await);

    let mut command = prove(&project);
    let sorts = ["kill -9: ", "off the network", "frozen", "memory alarm", "scaled up"];
    command.args(["--faults", "6", "--jobs", "300", "--seed", "2", "--json"]);
    command.args(sorts.iter().flat_map(|sort| ["--only", sort]));
    let output = within("buzzer prove --compose", LIMIT, command.output()).await.expect("buzzer");
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
    assert!(output.status.success() && report["kept"] == true, "{said}\n{report:#}");
    assert!(report["faults"].as_u64() >= Some(6) && report["accepted"].as_u64() >= Some(200), "{report:#}");
    assert_eq!((&report["findings"], &report["left"]), (&json!({}), &Value::Null));
    println!("{} jobs, {} faults, {} s", report["accepted"], report["faults"], report["seconds"]);

    assert_eq!(look(&project).await, before);
    assert_eq!(client.done(&of_others, LIMIT).await["state"], "succeeded");
    assert!(jobs(&client).await == known, "its jobs are deleted, and no others");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_campaign_that_is_stopped_leaves_the_project_as_it_was() {
    let Some(project) = project().await else { return };
    let client = project.client();
    project.heals(&client).await;
    let before = look(&project).await;
    for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut command = prove(&project);
        // This seed strikes at once, and holds for nearly a minute.
        command
            .args(["--only", "off the network: RabbitMQ", "--hold", "1m", "--seed", "12"])
            .current_dir(folder.path());
        let mut campaign = command.spawn().expect("buzzer");
        eventually("RabbitMQ to be cut off", LIMIT, async || (look(&project).await != before).then_some(())).await;
        let id = campaign.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
        kill_process(id, signal).expect("a signal");
        let status = within("the campaign to end", LIMIT, campaign.wait()).await.expect("its end");
        assert_eq!(status.code(), code);
        if signal == Signal::KILL {
            // Nobody is left but a guardian.
            eventually("the project to be as it was", LIMIT, async || (look(&project).await == before).then_some(()))
                .await;
        }
        assert_eq!(look(&project).await, before, "{signal:?}");
    }
    project.heals(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_come_in_is_told_how() {
    let Some(project) = project().await else { return };
    let create = ["exec", "-T", "api", "buzzer", "keys", "create"];
    let key_of_nobody = format!("bz_{}", "A".repeat(43));
    for (key, words) in [
        (None, "asks for the key of an operator, in BUZZER_KEY"),
        (Some(key_of_nobody.as_str()), "does not take the key"),
        (Some(project.compose(&create).await.trim()), "not that of an operator"),
    ] {
        let mut command = prove(&project);
        match key {
            Some(key) => command.env("BUZZER_KEY", key),
            None => command.env_remove("BUZZER_KEY"),
        };
        let output = within("buzzer prove", LIMIT, command.output()).await.expect("buzzer");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.contains(words) && said.contains("buzzer keys create --tenant prove --scope operator"), "{said}");
    }
}
