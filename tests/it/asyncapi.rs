//! The AsyncAPI document: whether it is one, and whether what travels is as it says.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use buzzer_tests::inside::Inside;
use buzzer_tests::outside::Outside;
use buzzer_tests::python;
use buzzer_tests::rabbitmq::RabbitNode;
use buzzer_tests::wait::{eventually, within};
use buzzer_tests::wire::{Carried, Tap, WireDocument};
use serde_json::{Value, json};
use tokio::process::Command;

const LIMIT: Duration = Duration::from_secs(90);
/// To fetch a library.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);
/// Set, the documents in `docs/` are written anew.
const BLESS: &str = "BUZZER_BLESS";

const CHECK_OPENAPI: &str =
    "import json, sys; from openapi_spec_validator import validate; validate(json.load(sys.stdin))";
const CHECK_ASYNCAPI: &str = "
    import { readFileSync } from 'node:fs';
    import parser from '@asyncapi/parser';
    const { document, diagnostics } = await new parser.Parser().parse(readFileSync(0, 'utf8'));
    // Errors and warnings; but not that there are newer versions of the specification.
    const bad = diagnostics.filter(({ severity, code }) => severity <= 1 && code !== 'asyncapi-latest-version');
    for (const { code, message, path } of bad) console.error(code, message, path.join('/'));
    process.exitCode = bad.length === 0 && document !== undefined ? 0 : 1;
";

#[tokio::test(flavor = "multi_thread")]
async fn p10_the_documents_are_what_their_specifications_say() {
    let buzzer = Inside::start().await;
    let python = python::with(&["openapi-spec-validator"]).await;
    let openapi = buzzer.get("/openapi.json").await.text;
    takes(Command::new(python).args(["-c", CHECK_OPENAPI]), &openapi).await;

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("asyncapi");
    std::fs::create_dir_all(&folder).unwrap();
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-save", "--no-audit", "--no-fund", "@asyncapi/parser"]);
    install.current_dir(&folder).stdin(Stdio::null()).kill_on_drop(true);
    let installed = within("npm", INSTALL_LIMIT, install.output()).await.unwrap();
    assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
    std::fs::write(folder.join("check.mjs"), CHECK_ASYNCAPI).unwrap();
    let asyncapi = buzzer.get("/asyncapi.json").await.text;
    takes(Command::new("node").arg("check.mjs").current_dir(&folder), &asyncapi).await;
}

/// Asserts that a program takes this text.
async fn takes(program: &mut Command, text: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let input = std::fs::File::open(file.path()).unwrap();
    let ran = program.stdin(input).kill_on_drop(true).output();
    let ran = within("a validator", LIMIT, ran).await.unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[tokio::test]
async fn the_documents_in_docs_are_what_buzzer_serves_as_it_comes() {
    let buzzer = Inside::as_it_comes().await;
    for name in ["openapi.json", "asyncapi.json"] {
        let served = buzzer.get(&format!("/{name}")).await.json();
        let file = docs().join(name);
        if std::env::var_os(BLESS).is_some() {
            std::fs::write(&file, serde_json::to_string_pretty(&served).unwrap() + "\n").unwrap();
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let kept: Value = serde_json::from_str(&kept).unwrap_or_default();
        assert!(
            kept == served,
            "docs/{name} is not what Buzzer serves: write it anew with `{BLESS}=1 cargo test -p buzzer-tests --test it -- \
             the_documents_in_docs`, and look at the difference"
        );
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs")
}

/// A kind is in the document as soon as it is known.
#[tokio::test]
async fn each_kind_has_a_channel_with_its_own_schemas() {
    let buzzer = Inside::start().await;
    let document = buzzer.get("/asyncapi.json").await.json();
    for kind in buzzer.get("/v1/kinds").await.json()["items"].as_array().unwrap() {
        let name = kind["name"].as_str().unwrap();
        let channel = &document["channels"][format!("requests.{name}")];
        assert_eq!(channel["address"], format!("buzzer.requests.{name}.v1"));
        assert_eq!(channel["x-published-to"]["routingKey"], *name);
        let run = &document["operations"][format!("run.{name}")];
        assert_eq!(run["reply"]["channel"]["$ref"], "#/channels/replies", "{name}");
        for (message, schema) in [("request", "input"), ("outcome.succeeded", "output")] {
            let payload = document["components"]["messages"][format!("{message}.{name}")]["payload"]["$ref"].as_str();
            let at = payload.unwrap().strip_prefix('#').unwrap();
            let (own, announced) = (document.pointer(at).unwrap(), &kind[format!("{schema}_schema")]);
            assert_eq!(
                own["properties"].as_object().map(serde_json::Map::len),
                properties(announced),
                "{name} {schema}"
            );
        }
    }
    assert_eq!(document["channels"]["replies"]["x-arguments"]["x-queue-type"], "quorum");
    assert_eq!(document["channels"]["control"]["address"], "buzzer.control.{worker}");
}

fn properties(schema: &Value) -> Option<usize> {
    schema["properties"].as_object().map(serde_json::Map::len)
}

fn of_type(heard: &[Carried], r#type: &str) -> usize {
    heard.iter().filter(|carried| carried.r#type() == r#type).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn p10_all_that_travels_over_rabbitmq_is_as_the_document_has_it() {
    let node = RabbitNode::shared().await;
    let outside = Outside::on(node);
    let api = outside.api(&[]).await;
    let kinds = ["echo", "demo.progress", "demo.fail", "demo.flaky", "demo.sleep"];
    let tap = Tap::on(node, &outside.prefix, &kinds).await;
    let _worker = outside.worker(&[]);
    for kind in kinds {
        api.knows(kind).await;
    }
    let client = api.client();
    let mut jobs = Vec::new();
    for (kind, input) in [
        ("echo", json!({ "text": "ä \u{0}", "n": 1.5 })),
        ("demo.progress", json!({ "steps": 3, "seconds": 0.5 })),
        ("demo.fail", json!({ "type": "https://example.com/out-of-soup", "detail": "none left" })),
        ("demo.flaky", json!({ "fail_times": 1 })),
    ] {
        jobs.push((client.accepted(kind, &input).await, kind));
    }
    for (job, _) in &jobs {
        client.done(job, LIMIT).await;
    }
    let endless = client.accepted("demo.sleep", &json!({ "seconds": 60 })).await;
    eventually("a job to run", LIMIT, async || (client.job(&endless).await.ok()?["state"] == "running").then_some(()))
        .await;
    client.send(client.request(reqwest::Method::POST, &format!("/v1/jobs/{endless}/cancel"))).await.unwrap();
    assert_eq!(client.done(&endless, LIMIT).await["state"], "canceled");
    jobs.push((endless, "demo.sleep"));

    let expected = [
        ("buzzer.request.v1", 6),
        ("buzzer.outcome.v1", 6),
        ("buzzer.signal.v1", 4),
        ("buzzer.announce.v1", 1),
        ("buzzer.beat.v1", 1),
        ("buzzer.control.v1", 1),
    ];
    let heard = eventually("all to be heard", LIMIT, async || {
        let heard = tap.heard();
        expected.iter().all(|(r#type, count)| of_type(&heard, r#type) >= *count).then_some(heard)
    })
    .await;
    let document = WireDocument::of(client.base()).await.unwrap();
    for carried in &heard {
        let job = carried.properties["correlation_id"].as_str();
        let kind = jobs.iter().find(|(id, _)| Some(id.as_str()) == job).map(|(_, kind)| *kind);
        document.check_message(carried, kind).unwrap_or_else(|deviation| panic!("{deviation}"));
    }

    // The judge is not asleep.
    let changes: [fn(&mut Carried); 6] = [
        |carried| carried.properties["type"] = json!("buzzer.other.v1"),
        |carried| carried.properties["reply_to"] = json!("somewhere"),
        |carried| carried.properties["delivery_mode"] = json!(1),
        |carried| carried.headers["colour"] = json!("red"),
        |carried| carried.exchange += ".other",
        |carried| carried.body.insert(0, b'}'),
    ];
    for r#type in expected.map(|(r#type, _)| r#type) {
        for change in changes {
            let mut changed = heard.iter().find(|carried| carried.r#type() == r#type).unwrap().clone();
            change(&mut changed);
            assert!(document.check_message(&changed, None).is_err(), "{changed:?}");
        }
    }
}
