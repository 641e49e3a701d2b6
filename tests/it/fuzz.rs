//! Whatever somebody may send: schemathesis makes it up from the document, and looks whether the answers are in it.

use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::inside::Inside;
use buzzer_tests::python;
use buzzer_tests::wait::within;
use reqwest::Method;
use tokio::process::Command;

/// What it has for the whole run.
const BUDGET: &str = "30";
/// It finishes what it has begun, on a busy machine.
const LIMIT: Duration = Duration::from_secs(180);

/// What must hold of every answer.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance";
/// Streams do not end by themselves, and a socket is no HTTP.
const ENDLESS: &str = "getEvents,getJobEvents,openSocket";
/// Calls whoever the fuzzer makes up.
const CALLS_OUT: &str = "submit_http_request";

/// With `SCHEMATHESIS_SEED` it is the same run again.
#[tokio::test(flavor = "multi_thread")]
async fn p10_no_answer_is_undocumented_and_none_is_a_server_error() {
    let buzzer = Inside::start().await;
    let base = buzzer.request(Method::GET, "").build().unwrap().url().origin().ascii_serialization();
    let python = python::with(&["schemathesis"]).await;
    let mut command = Command::new(python.with_file_name("st"));
    command.args(["run", &format!("{base}/openapi.json"), "--no-color", "--checks", CHECKS]);
    command.args(["--phases", "examples,fuzzing,stateful", "--max-time", BUDGET, "--request-timeout", "70"]);
    command.args(["--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off"]);
    for id in ENDLESS.split(',').chain([CALLS_OUT]) {
        command.args(["--exclude-operation-id", id]);
    }
    if let Ok(seed) = std::env::var("SCHEMATHESIS_SEED") {
        command.args(["--seed", &seed]);
    }
    let folder = tempfile::tempdir().unwrap();
    command.current_dir(folder.path()).stdin(Stdio::null()).kill_on_drop(true);
    let ran = within("schemathesis", LIMIT, command.output()).await.unwrap();
    let said = String::from_utf8_lossy(&ran.stdout);
    println!("{said}");
    assert!(ran.status.success(), "{said}\n{}", String::from_utf8_lossy(&ran.stderr));
    assert!(buzzer.count().await > 0, "it has handed no job in: {said}");
}
