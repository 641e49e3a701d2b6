//! `buzzer worker-test`: good workers pass in each language, and each row notices a flaw.

use std::path::Path;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use axum::{Json, Router};
use buzzer_tests::example_worker::Language;
use buzzer_tests::outside::{Outside, Tries};
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::eventually;
use futures_util::{StreamExt, stream};
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use rustix::process::Signal;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);

/// What the examples are given. Long enough for every try, with something to tell at each half second.
const SLOW: &str = r#"{"text": "a\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na\na", "seconds_per_line": 3}"#;
const FAILING: &str = r#"{"text": "a", "fail_times": 9}"#;
/// What a service is signed to with.
const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const ROWS: [&str; 14] = [
    "announce",
    "suspect",
    "run",
    "big-input",
    "retry",
    "unreadable",
    "progress",
    "beat",
    "cancel",
    "duplicate",
    "alone",
    "kill",
    "poison",
    "drain",
];

async fn tries(arguments: &[&str], worker: &[String]) -> Tries {
    let worker: Vec<_> = worker.iter().map(String::as_str).collect();
    let arguments = [arguments, &["--json", "--"], &worker].concat();
    Outside::on(RabbitNode::shared().await).worker_test(&arguments).await
}

/// All exchanges and queues that bear a prefix.
async fn names(node: &RabbitNode, prefix: &str) -> Vec<String> {
    let listed = [node.ctl(&["list_queues", "name"]).await, node.ctl(&["list_exchanges", "name"]).await].concat();
    listed.lines().filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
}

async fn example_passes(language: Language) {
    let arguments = ["--kind", language.kind(), "--slow-input", SLOW, "--failing-input", FAILING];
    let tries = tries(&arguments, &language.command_line().await).await;
    assert_eq!(tries.of("ok"), ROWS, "{tries:?}");
    assert_eq!(tries.status, 0, "{tries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_in_python_passes() {
    example_passes(Language::Python).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_in_javascript_passes() {
    example_passes(Language::Node).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_worker_in_rust_passes() {
    let worker = [Outside::worker_program().display().to_string()];
    let slow = r#"{"steps": 100, "seconds": 100}"#;
    let good = r#"{"steps": 1, "seconds": 0}"#;
    let arguments = ["--kind", "demo.progress", "--input", good, "--slow-input", slow, "--big-input", good];
    let progress = tries(&arguments, &worker).await;
    assert_eq!(progress.of("skip"), ["retry"], "{progress:?}");
    assert_eq!((progress.of("ok").len(), progress.status), (ROWS.len() - 1, 0), "{progress:?}");

    let arguments = ["--kind", "demo.flaky", "--failing-input", r#"{"fail_times": 9}"#, "--only", "retry"];
    let flaky = tries(&arguments, &worker).await;
    assert_eq!((flaky.of("ok"), flaky.status), (vec!["retry"], 0), "{flaky:?}");

    let echo = tries(&["--kind", "echo", "--only", "big-input"], &worker).await;
    assert_eq!((echo.of("ok"), echo.status), (vec!["big-input"], 0), "{echo:?}");
}

/// A kind of the stock worker, as a `worker.toml` with this in it declares it.
async fn declared_passes(how: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), SECRET).unwrap();
    let file = folder.path().join("worker.toml");
    std::fs::write(&file, format!("[[kind]]\nname = \"tried\"\nexample = {{ text = \"a\" }}\nslots = 8\n{how}\n"))
        .unwrap();
    let worker = [Outside::worker_program(), "--config".into(), file].map(|part| part.display().to_string());
    let arguments = ["--kind", "tried", "--slow-input", SLOW, "--failing-input", FAILING];
    let tries = tries(&arguments, &worker).await;
    assert_eq!((tries.of("ok"), tries.status), (ROWS.to_vec(), 0), "{tries:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_a_program_runs_passes() {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/worker_test/tried.py");
    let program = format!("program = 'python3'\nargs = ['-B', '{}']\npass_env = ['PATH']", program.display());
    declared_passes(&format!("[kind.exec]\n{program}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_a_service_runs_passes() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let service = Router::new().route("/", post(serve)).layer(DefaultBodyLimit::disable());
    tokio::spawn(async move { axum::serve(listener, service).await });
    declared_passes(&format!("[kind.push]\nurl = '{url}'\nsecret_file = 'secret'")).await;
}

/// The service: takes its time for each line, and fails as often as it is told to.
async fn serve(headers: HeaderMap, Json(given): Json<Value>) -> Result<Json<Value>, StatusCode> {
    let attempt: u64 = headers["buzzer-attempt"].to_str().unwrap().parse().unwrap();
    if attempt <= given["fail_times"].as_u64().unwrap_or_default() {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let lines = given["text"].as_str().unwrap_or_default().lines().count();
    let seconds = given["seconds_per_line"].as_f64().unwrap_or_default() * lines as f64;
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
    Ok(Json(json!({ "lines": lines })))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_notices_a_flaw() {
    let flawed = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/worker_test/flawed.py").display().to_string();
    let python = Language::Python.command_line().await[0].clone();
    let kind = Language::Python.kind();
    let of_its_own = ROWS.map(|row| (row, row, ""));
    let more = [
        ("output", "run", "does not fit its output_schema"),
        ("contradiction", "announce", "the API would refuse the kind: its input_schema contradicts itself"),
        ("untitled", "announce", "and the API would refuse it: missing field `title`"),
    ];
    let trials = of_its_own.into_iter().chain(more).map(|(flaw, row, reason)| {
        let worker = [python.clone(), "-B".into(), flawed.clone(), flaw.into()];
        async move {
            let arguments = ["--kind", kind, "--slow-input", SLOW, "--failing-input", FAILING, "--only", row];
            let tries = tries(&[&arguments[..], &["--patience", "12s"]].concat(), &worker).await;
            assert_eq!((tries.of("fail"), tries.status), (vec![row], 1), "{flaw}: {tries:?}");
            assert!(tries.text(row).contains(reason), "{flaw}: {tries:?}");
            eprintln!("{flaw}: {}", tries.text(row));
        }
    });
    // Most of a trial is waiting.
    stream::iter(trials).buffer_unordered(4).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_worker_is_told_what_to_do() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let soon = ["--kind", "echo", "--patience", "1s", "--json"];

    let nobody = outside.worker_test(&[&soon[..], &["--prefix", "nobody"]].concat()).await;
    assert_eq!((nobody.of("fail"), nobody.of("skip").len(), nobody.status), (vec!["announce"], 13, 1), "{nobody:?}");
    assert_eq!(nobody.text("announce"), "no worker announced echo within 1s");

    let other =
        tries(&["--kind", "ecko", "--patience", "5s"], &[Outside::worker_program().display().to_string()]).await;
    let text = other.text("announce");
    assert!(
        text.contains(", but ") && text.contains(" echo, ") && text.contains(": name one of these with --kind"),
        "{text}"
    );

    let dead = outside.worker_test(&[&soon[..], &["--", "false"]].concat()).await;
    assert!(dead.text("announce").contains("it ended, exit status: 1"), "{dead:?}");

    for (arguments, expected) in [
        (&["--prefix", "no-such-program", "--", "no-such-program"][..], "cannot start the worker, \"no-such-program\""),
        (&["--broker", "embedded", "--", "true"], "name a RabbitMQ with --broker"),
        (&["--input", "{", "--", "true"], "is not JSON"),
        (&[], "--prefix"),
    ] {
        let refused = outside.worker_test(&[&soon[..], arguments].concat()).await;
        assert!(refused.status == 2 && refused.complaint.contains(expected), "{expected}: {refused:?}");
    }
    assert_eq!(names(node, "no-such-program").await, Vec::<String>::new());
    let away = outside.worker_test(&[&soon[..], &["--broker", "amqp://127.0.0.1:1/%2f", "--", "true"]].concat()).await;
    assert_eq!(away.status, 3, "{away:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_somebody_else_has_started_is_tried_as_far_as_it_goes() {
    let outside = Outside::on(RabbitNode::shared().await);
    let _worker = outside.worker(&[]);
    let slow = r#"{"seconds": 100}"#;
    let arguments = ["--kind", "demo.sleep", "--input", r#"{"seconds": 0}"#, "--slow-input", slow];
    let tries = outside.worker_test(&[&arguments[..], &["--prefix", &outside.prefix, "--json"]].concat()).await;
    assert_eq!(tries.status, 0, "{tries:?}");
    for ends_it in ["kill", "poison", "drain"] {
        assert!(tries.text(ends_it).contains("behind --"), "{tries:?}");
    }
    for tried in ["announce", "run", "progress", "beat", "cancel", "duplicate", "alone"] {
        assert!(tries.of("ok").contains(&tried), "{tried}: {tries:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stopped_buzzer_has_on_the_broker_is_left_alone() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let mut api = outside.api(&[]).await;
    api.process().terminate().await;
    let (line, parking) = (node.connect().await, format!("{}.parking", outside.prefix));
    let channel = line.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    let parked = channel.basic_publish(parking.as_str().into(), "".into(), options, b"soup", properties).await.unwrap();
    assert!(parked.await.unwrap().is_ack());

    let arguments = ["--kind", "echo", "--patience", "1s", "--prefix", &outside.prefix, "--", "true"];
    let taken = outside.worker_test(&arguments).await;
    let queue = format!("{}.parking.v1", outside.prefix);
    assert!(taken.status == 2 && taken.complaint.contains(&format!("delete_queue {queue}")), "{taken:?}");
    let got = channel.basic_get(queue.as_str().into(), BasicGetOptions::default()).await.unwrap();
    assert_eq!(got.expect("the message is still there").delivery.data, b"soup");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_it_finds_nothing_left() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    for (signal, prefix) in [(Signal::INT, "interrupted"), (Signal::TERM, "terminated")] {
        let mut running = outside.start_worker_test(&["--kind", "echo", "--prefix", prefix, "--", "sleep", "1000"]);
        let declared = format!("{prefix}.requests.echo.v1");
        eventually("a stage", LIMIT, async || names(node, prefix).await.contains(&declared).then_some(())).await;
        running.signal(signal);
        let status = running.end(LIMIT).await.unwrap();
        assert_eq!((status.code(), names(node, prefix).await), (Some(130), Vec::new()), "{prefix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_declare_a_part_only_leaves_nothing() {
    let node = RabbitNode::shared().await;
    let exchanges = r"^a-part\.(requests|replies|control|parking)$";
    let url = node.user("a-part", [exchanges, ".*", ".*"]).await;
    let arguments = ["--kind", "echo", "--prefix", "a-part", "--broker", url.as_str(), "--", "true"];
    let tries = Outside::on(node).worker_test(&arguments).await;
    assert!(tries.status == 3 && tries.complaint.contains("refused to declare"), "{tries:?}");
    assert_eq!(names(node, "a-part").await, Vec::<String>::new());
}
