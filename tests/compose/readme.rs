//! The README's lines for Docker are run as they stand, by a new user: nothing is there before, nothing stays.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use buzzer_prove::ground::guardian::Guardian;
use buzzer_tests::compose::{docker, docker_answers, free_port};
use buzzer_tests::wait::within;
use tokio::process::Command;

/// The images may have to be built first.
const LIMIT: Duration = Duration::from_secs(45 * 60);
/// Where the README's system listens; the test's own takes a free port.
const ADDRESS: &str = "127.0.0.1:8080";

/// The commands of a section of the README, in their order.
fn commands(readme: &str, section: &str) -> Vec<String> {
    let lines = readme.lines().skip_while(|line| *line != format!("## {section}")).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    lines.filter_map(|line| line.strip_prefix("    ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_lines_work_from_nothing() {
    if !docker_answers().await {
        eprintln!(
            "SKIPPED: no Docker engine with Compose answers here, so the README's lines for Docker are not tried"
        );
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("the README");
    let commands = commands(&readme, "With Docker");
    assert!(commands.len() >= 5, "{commands:?}");
    let port = free_port();
    let script = commands.join("\necho\n").replace(ADDRESS, &format!("127.0.0.1:{port}"));

    let name = format!("buzzer-readme-{:08x}", fastrand::u32(..));
    let _guardian = Guardian::of_compose_project(&name).expect("a shell");
    let mut shell = Command::new("bash");
    shell.args(["-ec", &script]).current_dir(root).kill_on_drop(true).stdin(Stdio::null());
    shell.env("COMPOSE_PROJECT_NAME", &name).env("BUZZER_PORT", port.to_string());
    let ran = within("the README's lines", LIMIT, shell.output()).await.expect("bash");
    let (told, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{told}{errors}");
    for hello in ["docker", "replicas"] {
        let output = format!(r#""output":{{"hello": "{hello}"}}"#);
        assert!(told.contains(&output), "no {output}: {told}{errors}");
    }
    // The last line takes it down: nothing of it runs, and its port is free.
    let left = docker(&["ps", "--quiet", "--filter", &format!("label=com.docker.compose.project={name}")]).await;
    assert_eq!(left, "");
}
