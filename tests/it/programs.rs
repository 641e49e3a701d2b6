//! Kinds that a program runs (`exec` in `worker.toml`), on real processes.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use buzzer_tests::client::Client;
use buzzer_tests::outside::{Api, Outside};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

const LIMIT: Duration = Duration::from_secs(60);
/// Where the programs of these tests are found, and the programs that they call.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Each kind runs the shell script that is its input, under limits of its own.
const KINDS: &str = r#"
[[kind]]
name = "script"
title = "Run a script"
retry = { max_attempts = 1 }
[kind.exec]
program = "bash"
args = ["-c", 'eval "$(jq -r .)"']
env = { COLOUR = "blue" }
pass_env = ["PASSED"]
stdout = "64KiB"
line = "4KiB"
grace = "500ms"

[[kind]]
name = "script.narrow"
retry = { max_attempts = 1 }
[kind.exec]
program = "bash"
args = ["-c", 'eval "$(jq -r .)"']
memory = "300MiB"
cpu = "1s"
files = 32

[[kind]]
name = "script.short"
timeout = "1500ms"
retry = { max_attempts = 1 }
[kind.exec]
program = "bash"
args = ["-c", 'eval "$(jq -r .)"']
grace = "200ms"

[[kind]]
name = "script.typed"
output = { type = "object", required = ["n"] }
retry = { max_attempts = 1 }
[kind.exec]
program = "bash"
args = ["-c", 'eval "$(jq -r .)"']

[[kind]]
name = "script.again"
retry = { max_attempts = 3, backoff = "10ms", max_backoff = "10ms" }
[kind.exec]
program = "bash"
args = ["-c", 'eval "$(jq -r .)"']

[[kind]]
name = "deaf"
[kind.exec]
program = "sh"
args = ["-c", """exec <&-; sleep 0.2; echo '{"result": null}'"""]

[[kind]]
name = "gone"
retry = { max_attempts = 1 }
[kind.exec]
program = "./gone.sh"
"#;

/// Where the file is, and where runs get their directories.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let home = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(home.runs()).unwrap();
        fs::write(home.path("worker.toml"), KINDS).unwrap();
        fs::write(home.path("gone.sh"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(home.path("gone.sh"), fs::Permissions::from_mode(0o755)).unwrap();
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn runs(&self) -> PathBuf {
        self.path("runs")
    }

    fn is_tidy(&self) -> bool {
        fs::read_dir(self.runs()).unwrap().next().is_none()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let text = |path: PathBuf| path.to_str().unwrap().to_owned();
        vec![
            ("BUZZER_WORKER_CONFIG", text(self.path("worker.toml"))),
            ("TMPDIR", text(self.runs())),
            ("PATH", PATH.into()),
            ("PASSED", "passed on".into()),
            ("BUZZER_BEAT", "500ms".into()),
            ("S3CRET", "not for programs".into()),
        ]
    }

    /// A whole Buzzer in one process, with these kinds.
    async fn up(&self) -> Api {
        let settings = self.settings();
        let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let system = Outside::up(&settings).await;
        system.knows("script").await;
        system
    }
}

/// A number of seconds that nobody else sleeps: by it the processes of a test are known.
fn mark() -> String {
    format!("{}.{}", fastrand::u32(100_000..), fastrand::u32(1_000_000..))
}

/// How many processes have been given this mark.
fn processes(mark: &str) -> usize {
    let all = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).split('\0').any(|word| word == mark)).count()
}

async fn run(client: &Client, kind: &str, script: &str) -> Value {
    let id = client.accepted(kind, &json!(script)).await;
    client.done(&id, LIMIT).await
}

/// The detail of the problem that a job ended with. Its page has the same title.
async fn failed(client: &Client, kind: &str, script: &str, slug: &str) -> String {
    let job = run(client, kind, script).await;
    assert_eq!(job["state"], "failed", "{script}: {job}");
    let problem = &job["error"];
    assert_eq!(problem["type"], format!("/problems/{slug}"), "{script}: {problem}");
    let page = client.get(problem["type"].as_str().unwrap()).await.unwrap();
    let title = format!("<h1>{}</h1>", problem["title"].as_str().unwrap());
    assert!(page.status == StatusCode::OK && page.text.contains(&title), "{title}: {}", page.text);
    problem["detail"].as_str().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_job_and_tells_its_events_and_its_output() {
    let home = Home::new();
    let system = home.up().await;
    let client = system.client();
    let script = r#"
        echo '{"progress": {"percent": 50, "message": "half"}}'
        echo '{"log": "a line"}'
        echo '{"output": "a piece"}'
        echo 'for people' >&2
        touch here
        names=$(tr '\0' '\n' </proc/$$/environ | cut -d= -f1 | sort | jq -R . | jq -sc .)
        printf '{"result": {"n": 1.50, "names": %s, "dir": "%s", "id": "%s", ' "$names" "$PWD" "$BUZZER_JOB_ID"
        printf '"attempt": "%s", "kind": "%s", "colour": "%s"}}\n' "$BUZZER_ATTEMPT" "$BUZZER_KIND" "$COLOUR $PASSED"
    "#;
    let job = run(&client, "script", script).await;
    assert_eq!(job["state"], "succeeded", "{job}");
    let output = &job["output"];
    let names = json!(["BUZZER_ATTEMPT", "BUZZER_JOB_ID", "BUZZER_KIND", "COLOUR", "PASSED"]);
    assert_eq!(output["names"], names, "{output}");
    assert_eq!((&output["id"], &output["attempt"], &output["kind"]), (&job["id"], &json!("1"), &json!("script")));
    assert_eq!(output["colour"], "blue passed on");
    let directory = PathBuf::from(output["dir"].as_str().unwrap());
    assert!(directory.starts_with(home.runs().canonicalize().unwrap()) && !directory.exists(), "{directory:?}");
    assert!(home.is_tidy());

    let result = client.get(&format!("/v1/jobs/{}/result", job["id"].as_str().unwrap())).await.unwrap();
    assert!(result.text.contains("1.50"), "an output is kept byte for byte: {}", result.text);
    let path = format!("/v1/jobs/{}/events?limit=100", job["id"].as_str().unwrap());
    let request = client.request(Method::GET, &path).header("accept", "application/json");
    let log = client.send(request).await.unwrap().text;
    for told in [r#"{"message":"half","percent":50.0}"#, "a line", "a piece", "for people"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    let kind = client.get("/v1/kinds/script").await.unwrap().json();
    assert_eq!(kind["title"], "Run a script", "{kind}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_wrong_is_told_for_what_it_is() {
    let home = Home::new();
    let system = home.up().await;
    let client = system.client();
    for (kind, script, slug, part) in [
        (
            "script",
            "echo 'cannot open x' >&2; exit 3",
            "program-failed",
            "exit code 3. Its last words on stderr:\ncannot open x",
        ),
        ("script", "kill -SEGV $$", "program-failed", "was ended by a signal (signal: 11"),
        (
            "script",
            r#"echo '{"result": 1}'; exit 1"#,
            "program-failed",
            "gave a result, and then ended with exit code 1",
        ),
        ("script", "no-such-command", "program-failed", "no-such-command: command not found"),
        ("script", r#"echo '{"error": {"detail": "no such page"}}'; exit 1"#, "program-failed", "no such page"),
        ("script", "true", "program-output", "ended without a result"),
        ("script", "echo hello; sleep 1000", "program-output", "line 1 of its stdout is none of `progress`"),
        ("script", "printf '{\"log\": \"\\xff\"}\\n'", "program-output", "line 1 of its stdout"),
        (
            "script",
            "head -c 100000 /dev/zero | tr '\\0' x",
            "program-output",
            "line 1 of its stdout has more than 4096 bytes",
        ),
        ("script", "yes '{\"log\": \"again\"}'", "program-output", "more than 65536 bytes to its stdout"),
        (
            "script",
            r#"echo '{"result": 1}'; echo '{"result": 2}'"#,
            "program-output",
            "line 2 of its stdout tells a second end",
        ),
        ("script.typed", r#"echo '{"result": {"m": 1}}'"#, "program-output", "\"n\" is a required property"),
        ("script.narrow", "python3 -c 'bytearray(1 << 30)'", "program-failed", "MemoryError"),
        ("script.narrow", "while :; do :; done", "program-failed", "had used up its 1 s of a processor"),
        (
            "script.narrow",
            "python3 -c 'import os; [os.dup(1) for _ in range(40)]'",
            "program-failed",
            "Too many open files",
        ),
    ] {
        let detail = failed(&client, kind, script, slug).await;
        assert!(detail.contains(part), "{script}: {detail}");
    }
    let job =
        run(&client, "script", r#"echo '{"error": {"type": "https://example.com/sold-out", "detail": "x"}}'"#).await;
    assert_eq!(job["error"]["type"], "https://example.com/sold-out", "{job}");

    fs::remove_file(home.path("gone.sh")).unwrap();
    let detail = failed(&client, "gone", "", "program-not-started").await;
    assert!(detail.contains("gone.sh: No such file or directory"), "{detail}");
    assert!(home.is_tidy());
}

/// It says neither that it was not started, nor does it hold its guard up.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_in_its_directory_is_nobodys_word() {
    let home = Home::new();
    let system = home.up().await;
    let client = system.client();
    for leave in ["mkfifo", "ln -s /dev/zero", "echo no >"] {
        let script = format!("{leave} .buzzer-not-started; ls -A .. | jq -Rsc '{{result: split(\"\\n\")[:-1]}}'");
        let job = run(&client, "script", &script).await;
        assert_eq!(job["state"], "succeeded", "{leave}: {}", job["error"]);
        let beside = job["output"].as_array().unwrap();
        assert_eq!(beside.len(), 1, "a program finds its own directory alone: {beside:?}");
        assert!(home.is_tidy(), "{leave}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_may_leave_its_input_unread_and_is_tried_again_as_it_says() {
    let home = Home::new();
    let system = home.up().await;
    let client = system.client();
    let job = run(&client, "deaf", &"x".repeat(500_000)).await;
    assert_eq!(job["state"], "succeeded", "{}", job["error"]);
    for (script, attempts, state) in [
        ("exit 1", 3, "failed"),
        (r#"echo '{"error": {"detail": "x"}}'"#, 1, "failed"),
        (r#"echo '{"error": {"detail": "x", "retry": true}}'"#, 3, "failed"),
        (
            r#"[ $BUZZER_ATTEMPT = 1 ] && echo '{"error": {"detail": "x", "retry_after": 1}}' || echo '{"result": 2}'"#,
            2,
            "succeeded",
        ),
    ] {
        let job = run(&client, "script.again", script).await;
        assert_eq!((&job["attempt"], &job["state"]), (&json!(attempts), &json!(state)), "{script}: {job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_program_started_outlives_its_run() {
    let home = Home::new();
    let system = home.up().await;
    let client = system.client();

    // It ends by itself, and leaves children, children without parents, and a daemon behind.
    let mark = mark();
    let tree =
        format!("grow() {{ [ $1 = 0 ] || {{ grow $(($1 - 1)) & grow $(($1 - 1)) & }}; sleep {mark}; }}; grow 4 &");
    let daemons = format!("(setsid sleep {mark} &) ; setsid sh -c 'sleep {mark} & sleep {mark}' &");
    let count = format!("cat /proc/[0-9]*/cmdline 2>&- | tr '\\0' '\\n' | grep -cx {mark}");
    let script = format!("{tree} {daemons} until [ $({count}) -ge 34 ]; do sleep 0.05; done; echo '{{\"result\": 1}}'");
    let job = run(&client, "script", &script).await;
    assert_eq!((&job["state"], processes(&mark)), (&json!("succeeded"), 0), "{job}");

    // It takes no notice of anything, and its time is up.
    let deaf = format!("trap '' TERM INT HUP; (trap '' TERM; setsid sleep {mark}) & sleep {mark}; sleep {mark}");
    let job = run(&client, "script.short", &deaf).await;
    assert_eq!(job["error"]["type"], "/problems/timeout", "{job}");
    gone(&mark).await;

    // Somebody cancels it.
    let id = client.accepted("script", &json!(deaf)).await;
    eventually("the program to run", LIMIT, async || (processes(&mark) > 0).then_some(())).await;
    let cancel = client.request(Method::POST, &format!("/v1/jobs/{id}/cancel"));
    assert_eq!(client.send(cancel).await.unwrap().status, StatusCode::ACCEPTED);
    assert_eq!(client.done(&id, LIMIT).await["state"], "canceled");
    gone(&mark).await;
    eventually("the directories to be gone", LIMIT, async || home.is_tidy().then_some(())).await;
}

async fn gone(mark: &str) {
    eventually("the processes to be gone", LIMIT, async || (processes(mark) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_asked_to_stop_may_clean_up() {
    let home = Home::new();
    let system = home.up().await;
    let client = system.client();
    let (begun, cleaned) = (home.path("begun"), home.path("cleaned"));
    let script = format!(
        "trap 'touch {}; exit 1' TERM; touch {}; while :; do sleep 0.05; done",
        cleaned.display(),
        begun.display()
    );
    let id = client.accepted("script", &json!(script)).await;
    eventually("the program to run", LIMIT, async || begun.exists().then_some(())).await;
    client.send(client.request(Method::POST, &format!("/v1/jobs/{id}/cancel"))).await.unwrap();
    assert_eq!(client.done(&id, LIMIT).await["state"], "canceled");
    assert!(cleaned.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_takes_its_programs_along_and_another_runs_the_job() {
    let (home, mark) = (Home::new(), mark());
    let outside = Outside::on(RabbitNode::shared().await);
    let api = outside.api(&[("BUZZER_CLAIM_LEASE", "3s"), ("BUZZER_RUN_LEASE", "3s")]).await;
    let settings = home.settings();
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut worker = outside.worker(&settings);
    api.knows("script").await;
    let client = api.client();
    let second = home.path("second");
    let script = format!(
        "[ -e {0} ] && echo '{{\"result\": 2}}' && exit
         touch {0}; trap '' TERM; setsid sleep {1} & sleep {1}; sleep {1}",
        second.display(),
        mark
    );
    let id = client.accepted("script", &json!(script)).await;
    eventually("the program to run", LIMIT, async || (processes(&mark) >= 2).then_some(())).await;
    worker.kill();
    gone(&mark).await;
    eventually("the directory to be gone", LIMIT, async || home.is_tidy().then_some(())).await;
    worker.start();
    let job = client.done(&id, LIMIT).await;
    assert_eq!((&job["state"], &job["output"]), (&json!("succeeded"), &json!(2)), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_without_its_guard_is_ended_and_tried_again() {
    let (home, mark) = (Home::new(), mark());
    let system = home.up().await;
    let client = system.client();
    let id =
        client.accepted("script", &json!(format!("trap '' TERM; sleep {mark} & kill -9 $PPID; sleep {mark}"))).await;
    let job = client.done(&id, LIMIT).await;
    assert_eq!(job["error"]["type"], "/problems/program-failed", "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("guard was killed"), "{job}");
    gone(&mark).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_room_for_its_runs_says_so() {
    let home = Home::new();
    let system = home.up().await;
    fs::remove_dir(home.runs()).unwrap();
    let detail = failed(&system.client(), "script", "true", "program-not-started").await;
    assert!(detail.contains("no directory could be made for the run") && detail.contains("TMPDIR"), "{detail}");
}
