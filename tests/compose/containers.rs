//! What the containers may do, and what they show.

use buzzer_tests::compose::{Project, docker};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::project;

const SERVICES: [&str; 5] = ["api", "worker", "rabbitmq", "postgres", "proxy"];

/// All that Docker knows of the first container of a service.
async fn inspect(project: &Project, service: &str) -> Value {
    let containers = project.containers(&["--all", service]).await;
    let inspected: Value = serde_json::from_str(&docker(&["inspect", &containers[0]]).await).expect("JSON");
    inspected[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_may_do_no_more_than_they_must() {
    let Some(project) = project().await else { return };
    for service in SERVICES.into_iter().chain(["secrets"]) {
        let host = &inspect(&project, service).await["HostConfig"];
        assert_eq!(host["ReadonlyRootfs"], true, "{service}");
        assert_eq!(host["CapDrop"], json!(["ALL"]), "{service}");
        let added = match service {
            "postgres" => json!(["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"]),
            "proxy" => json!(["NET_BIND_SERVICE"]),
            _ => Value::Null,
        };
        assert_eq!(host["CapAdd"], added, "{service}");
        assert_eq!(host["Privileged"], false, "{service}");
        assert_eq!(host["SecurityOpt"], json!(["no-new-privileges:true"]), "{service}");
        assert!(host["Memory"].as_u64().expect("a number") > 0, "{service} may take all memory");
        assert!(host["PidsLimit"].as_u64().expect("a number") > 0, "{service} may start any number of processes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_service_runs_as_root() {
    let Some(project) = project().await else { return };
    for service in SERVICES {
        let inspected = inspect(&project, service).await;
        let (container, main) = (inspected["Id"].as_str().expect("an id"), inspected["State"]["Pid"].to_string());
        let processes = docker(&["top", container, "-eo", "pid,ppid,uid,args"]).await;
        // The service and what it started; health checks come from outside.
        let mut ours = vec![main.as_str()];
        for process in processes.lines().skip(1) {
            let [pid, parent, user] = process.split_whitespace().collect::<Vec<_>>()[..3] else { panic!("{process}") };
            if pid == main || ours.contains(&parent) {
                assert_ne!(user, "0", "{service}: {process}");
                ours.push(pid);
            }
        }
        assert!(ours.len() > 1, "{service}: {processes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_way_in_is_published_and_on_loopback_alone() {
    let Some(project) = project().await else { return };
    for service in SERVICES {
        let ports = inspect(&project, service).await["NetworkSettings"]["Ports"].clone();
        let published: Vec<_> =
            ports.as_object().expect("a map").values().filter_map(Value::as_array).flatten().collect();
        assert_eq!(published.is_empty(), !matches!(service, "api" | "proxy"), "{service}: {ports}");
        assert!(published.iter().all(|port| port["HostIp"] == "127.0.0.1"), "{service}: {ports}");
    }
    for name in ["broker", "store"] {
        let network: Value =
            serde_json::from_str(&docker(&["network", "inspect", &project.network(name)]).await).expect("JSON");
        assert_eq!(network[0]["Internal"], true, "{name}");
    }
    let worker = inspect(&project, "worker").await["NetworkSettings"]["Networks"].clone();
    assert!(worker.get(project.network("store")).is_none(), "{worker}");
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_are_made_at_the_first_start_and_shown_nowhere() {
    let Some(project) = project().await else { return };
    let read = async |service: &str, file: &str| {
        project.compose(&["exec", "-T", service, "cat", &format!("/run/buzzer/{file}")]).await
    };
    let api = read("api", "broker").await;
    let worker = read("worker", "broker").await;
    let postgres = read("postgres", "password").await;
    let password = |url: &str| url::Url::parse(url).expect("a URL").password().expect("a password").to_owned();
    let passwords = [password(&api), password(&worker), postgres];
    for password in &passwords {
        assert_eq!(password.len(), 48, "24 bytes of chance");
    }
    assert!(passwords[0] != passwords[1] && passwords[1] != passwords[2]);
    for service in SERVICES {
        let shown = inspect(&project, service).await.to_string();
        let said = project.compose(&["logs", service]).await;
        assert!(!passwords.iter().any(|password| shown.contains(password) || said.contains(password)), "{service}");
    }
    // What a worker is given opens nothing but the broker.
    assert_eq!(project.compose(&["exec", "-T", "worker", "ls", "/run/buzzer"]).await.trim(), "broker");
    let users = project.compose(&["exec", "-T", "rabbitmq", "rabbitmqctl", "-q", "list_users"]).await;
    assert!(!users.contains("guest"), "{users}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_comes_in_without_a_key() {
    let Some(project) = project().await else { return };
    let stranger = project.client().with_key("bz_nobody");
    let answer = stranger.submit("echo", &json!(1), None).await.expect("an answer");
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_nothing_wrong() {
    let Some(project) = project().await else { return };
    let said = project.compose(&["exec", "-T", "api", "buzzer", "doctor"]).await;
    let lines: Vec<_> = said.lines().filter(|line| !line.starts_with("ok")).collect();
    assert!(said.contains("ok") && lines.iter().all(|line| line.starts_with("skip")), "{said}");
}
