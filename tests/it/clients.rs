//! Clients that public generators make from `/openapi.json`, and the programs of `examples/clients` with them: the document
//! is good enough for strangers.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::outside::{Api, Outside};
use buzzer_tests::python;
use buzzer_tests::wait::within;
use tokio::process::Command;

/// To fetch a generator, and to let it work.
const LIMIT: Duration = Duration::from_secs(300);

/// The example in a folder of its own, so that nothing is made in the source tree.
fn example() -> tempfile::TempDir {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/clients");
    let folder = tempfile::tempdir().unwrap();
    for file in ["submit.py", "submit.ts", "package.json", "tsconfig.json"] {
        std::fs::copy(source.join(file), folder.path().join(file)).unwrap();
    }
    folder
}

/// What a program prints that must end well.
async fn run(api: &Api, folder: &Path, program: impl AsRef<OsStr>, arguments: &[&str]) -> String {
    let (status, printed) = try_to_run(api, folder, program.as_ref(), arguments).await;
    assert!(status, "{:?} {arguments:?}: {printed}", program.as_ref());
    printed
}

async fn try_to_run(api: &Api, folder: &Path, program: &OsStr, arguments: &[&str]) -> (bool, String) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).env("BUZZER_SERVER", format!("http://{}", api.address()));
    command.stdin(Stdio::null()).kill_on_drop(true);
    let ran = within("a program", LIMIT, command.output()).await.unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let printed = [ran.stdout, ran.stderr].concat();
    (ran.status.success(), String::from_utf8_lossy(&printed).into_owned())
}

async fn system() -> (Api, String) {
    let api = Outside::up(&[("BUZZER_DEMO", "1")]).await;
    api.knows("demo.sleep").await;
    let document = format!("http://{}/openapi.json", api.address());
    (api, document)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_python_client_is_made_from_the_document_and_hands_a_job_in() {
    let (api, document) = system().await;
    let python = python::with(&["openapi-python-client", "httpx", "attrs", "python-dateutil"]).await;
    let folder = example();
    let generate = ["generate", "--url", &document, "--meta", "none", "--output-path", "buzzer_client", "--overwrite"];
    let said = run(&api, folder.path(), python.with_file_name("openapi-python-client"), &generate).await;
    assert!(!said.contains("WARNING") && !said.contains("Unable"), "it left something out: {said}");
    let printed = run(&api, folder.path(), &python, &["submit.py"]).await;
    assert!(printed.starts_with("succeeded") && printed.contains("slept_seconds"), "{printed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typescript_client_is_made_from_the_document_and_knows_the_kinds() {
    let (api, document) = system().await;
    let folder = example();
    run(&api, folder.path(), "npm", &["install", "--no-audit", "--no-fund"]).await;
    let programs: PathBuf = folder.path().join("node_modules/.bin");
    let generate = [&document, "--default-non-nullable=false", "--output", "buzzer.d.ts"];
    run(&api, folder.path(), programs.join("openapi-typescript"), &generate).await;
    run(&api, folder.path(), programs.join("tsc"), &[]).await;
    assert_eq!(run(&api, folder.path(), "node", &["out/submit.js"]).await, "succeeded {\"slept_seconds\":0.5}\n");

    // What does not fit is found before anything runs.
    let source = folder.path().join("submit.ts");
    let right = std::fs::read_to_string(&source).unwrap();
    let reads =
        "if (typeof first.data === \"object\" && first.data.output) first.data.output.slept_seconds satisfies string;";
    let reading = format!(
        "const first = await buzzer.POST(\"/v1/jobs/demo.sleep\", {{ body: {{ input: {{ seconds: 1 }} }} }});\n{reads}"
    );
    for (wrong, complaint) in [
        (right.replace("seconds: 0.5", "seconds: \"long\""), "Type 'string' is not assignable to type 'number'"),
        (right.replace("{ seconds: 0.5 }", "undefined"), "Type 'undefined' is not assignable to type"),
        (format!("{right}\n{reading}\n"), "Type 'number' does not satisfy the expected type 'string'"),
    ] {
        std::fs::write(&source, wrong).unwrap();
        let (passed, said) = try_to_run(&api, folder.path(), programs.join("tsc").as_os_str(), &["--noEmit"]).await;
        assert!(!passed && said.contains(complaint), "{said}");
    }
}
