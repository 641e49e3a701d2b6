//! Clients that are made of `/openapi.json`, by the generators that people use, and each does a job.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::inside::Inside;
use buzzer_tests::python;
use buzzer_tests::wait::within;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::Command;

/// For a generator, a compiler, or a library to be fetched.
const LIMIT: Duration = Duration::from_secs(300);

/// A server, its address, and a folder with its document, in which clients are made.
async fn workshop() -> (Inside, String, tempfile::TempDir) {
    let buzzer = Inside::start().await;
    let base = buzzer.request(Method::GET, "").build().unwrap().url().origin().ascii_serialization();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("openapi.json"), buzzer.get("/openapi.json").await.text).unwrap();
    (buzzer, base, folder)
}

fn client(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

async fn run(command: &mut Command) -> String {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ran = within("a program", LIMIT, command.output()).await.unwrap();
    let [said, complained] = [&ran.stdout, &ran.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    assert!(ran.status.success(), "{command:?}: {said}\n{complained}");
    // What a generator leaves out, it warns of.
    assert!(!complained.contains("WARNING") && !complained.contains("Unable"), "{command:?}: {complained}");
    said
}

/// Submitted, waited for, its result read, and refused what comes too late: each as the types of the client have it.
fn has_done_a_job(said: &str) {
    let said: Value = serde_json::from_str(said).unwrap();
    assert_eq!((&said["state"], &said["refused"]), (&json!("succeeded"), &json!("/problems/too-late")), "{said}");
    assert!(!said["result"].is_null(), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_client_does_a_job() {
    let (_buzzer, base, folder) = workshop().await;
    let libraries = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients-typescript");
    std::fs::create_dir_all(&libraries).unwrap();
    std::fs::write(libraries.join("package.json"), r#"{"type": "module", "private": true}"#).unwrap();
    let install = [
        "install",
        "--silent",
        "--no-audit",
        "--no-fund",
        "openapi-typescript@7",
        "openapi-fetch",
        "@types/node@20",
        "typescript@5",
    ];
    run(Command::new("npm").args(install).current_dir(&libraries)).await;
    let tool = |name: &str| Command::new(libraries.join("node_modules/.bin").join(name));
    let made = libraries.join("made");
    std::fs::create_dir_all(&made).unwrap();
    std::fs::copy(client("client.ts"), made.join("client.ts")).unwrap();
    let document = folder.path().join("openapi.json");
    // What has a default may be left out.
    let generate = ["--default-non-nullable", "false", "-o", "schema.ts"];
    run(tool("openapi-typescript").arg(document).args(generate).current_dir(&made)).await;
    let strict = ["--strict", "--target", "es2022", "--module", "nodenext", "--skipLibCheck", "client.ts"];
    run(tool("tsc").args(strict).current_dir(&made)).await;
    has_done_a_job(&run(Command::new("node").arg("client.js").arg(base).current_dir(&made)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_does_a_job() {
    let (_buzzer, base, folder) = workshop().await;
    let python = python::with(&["openapi-python-client"]).await;
    let mut generate = Command::new(python.with_file_name("openapi-python-client"));
    generate.args(["generate", "--path", "openapi.json", "--output-path", "buzzer", "--meta", "none"]);
    run(generate.current_dir(folder.path())).await;
    std::fs::copy(client("client.py"), folder.path().join("client.py")).unwrap();
    has_done_a_job(&run(Command::new(python).arg("client.py").arg(base).current_dir(folder.path())).await);
}
