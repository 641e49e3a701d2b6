//! The receivers of `examples/webhooks`, fed by `buzzer listen`: each believes what is signed, and nothing else.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::outside::Outside;
use buzzer_tests::python;
use buzzer_tests::wait::within;
use reqwest::{Client, StatusCode};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const LIMIT: Duration = Duration::from_secs(60);
/// To fetch a library.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// As many as an `echo` has from its acceptance to its end.
const EVENTS: [&str; 3] = ["job.accepted", "job.started", "job.succeeded"];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/webhooks")
}

/// A folder for the libraries of a language, which stays from run to run.
fn libraries(language: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("receivers-{language}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

async fn install(program: &str, arguments: &[&str], folder: &Path) {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let ran =
        within(program, INSTALL_LIMIT, command.output()).await.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(ran.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
}

/// A receiver that runs, and what it says.
struct Receiver {
    _process: Child,
    said: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Receiver {
    async fn start(mut command: Command) -> Self {
        command.env("BUZZER_WEBHOOK_SECRET", SECRET).env("PORT", "0");
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = within("the receiver", LIMIT, said.next_line()).await.unwrap().expect("it has ended");
        let address = first.strip_prefix("listening on ").expect("an address").to_owned();
        Self { _process: process, said, address }
    }

    async fn next(&mut self) -> String {
        within("a word of the receiver", LIMIT, self.said.next_line()).await.unwrap().expect("it has ended")
    }

    async fn believes_what_is_signed_and_nothing_else(mut self) {
        let system = Outside::up(&[]).await;
        system.knows("echo").await;
        let id = system.client().accepted("echo", &json!({ "text": "ä \u{0}", "n": 1.5 })).await;
        system.client().done(&id, LIMIT).await;
        let listen = ["listen", &self.address, "--secret", SECRET, "--after", "f0", "--count", "3"];
        let (code, told) = system.command(&listen).await;
        assert_eq!(code, 0, "{told}");
        for (at, r#type) in EVENTS.iter().enumerate() {
            assert_eq!(self.next().await, format!("{type} {id} {id}-{}", at + 1));
        }

        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let listen = ["listen", &self.address, "--secret", other, "--after", "f0", "--count", "1"];
        let (code, told, complaint) = system.command_with_complaints(&listen).await;
        assert!(code == 1 && told.contains("  400 in "), "{code} {told}");
        assert!(complaint.contains("--after f0 begins with it"), "{complaint}");
        let refused = self.next().await;
        assert!(refused.starts_with("refused: "), "{refused}");
        let unsigned = Client::new().post(&self.address).body("{}").send().await.unwrap();
        assert_eq!(unsigned.status(), StatusCode::BAD_REQUEST);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_python() {
    let mut command = Command::new(python::with(&["standardwebhooks"]).await);
    command.arg(examples().join("receive.py"));
    Receiver::start(command).await.believes_what_is_signed_and_nothing_else().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_javascript() {
    let folder = libraries("javascript");
    install("npm", &["install", "--silent", "--no-save", "standardwebhooks"], &folder).await;
    // It looks for its library beside itself.
    std::fs::copy(examples().join("receive.mjs"), folder.join("receive.mjs")).unwrap();
    let mut command = Command::new("node");
    command.arg(folder.join("receive.mjs"));
    Receiver::start(command).await.believes_what_is_signed_and_nothing_else().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_rust() {
    let command = Command::new(env!("CARGO_BIN_EXE_receive"));
    Receiver::start(command).await.believes_what_is_signed_and_nothing_else().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_is_told_with_where_to_begin_again() {
    let system = Outside::up(&[]).await;
    system.knows("echo").await;
    let id = system.client().accepted("echo", &json!(1)).await;
    system.client().done(&id, LIMIT).await;
    let only = ["--after", "f0", "--event", "job.succeeded", "--count", "1"];
    let nobody = [&["listen", "http://127.0.0.1:1/"][..], &only].concat();
    let (code, told, complaint) = system.command_with_complaints(&nobody).await;
    assert_eq!(code, 1, "{complaint}");
    assert!(told.contains("job.succeeded") && told.contains("Connection refused"), "{told}");
    assert!(complaint.contains("--after f2 begins with it"), "{complaint}");
    assert!(complaint.contains("1 of the posts were not taken"), "{complaint}");
    for (arguments, expected) in [
        (&["listen", "ftp://127.0.0.1/"][..], "expected a URL like"),
        (&["listen", "http://127.0.0.1:1/", "--secret", "s"], "the secret of a webhook is"),
        (&["listen", "http://127.0.0.1:1/", "--after", "12"], "a place in the feed is"),
        (&["listen", "http://127.0.0.1:1/", "--after", "f999"], "cursor"),
    ] {
        let (code, _, complaint) = system.command_with_complaints(arguments).await;
        assert!(code == 2 && complaint.contains(expected), "{code} {complaint}");
    }
}
