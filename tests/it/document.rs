//! The OpenAPI document: whether it is whole, and whether it tells the truth.

use std::collections::{BTreeMap, BTreeSet};

use buzzer_shared::retry::RetryPolicy;
use buzzer_tests::inside::Inside;
use buzzer_worker::{HandlerOptions, JobContext, JobError, Worker};
use reqwest::Method;
use serde_json::{Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "patch", "head", "options"];

/// Beside the demo kinds, three whose names differ in a separator alone, with schemas that refer to themselves.
async fn buzzer() -> Inside {
    let mut buzzer = Inside::start().await;
    let copies = async |_: JobContext, input: RetryPolicy| -> Result<RetryPolicy, JobError> { Ok(input) };
    let mut worker = Worker::builder();
    for kind in ["a.b", "a-b", "a_b"] {
        let example = json!({ "max_attempts": 3, "backoff": "1s", "max_backoff": "1m" });
        worker = worker.handler_with(kind, HandlerOptions::new().example(example), copies);
    }
    buzzer.work(worker).await;
    buzzer
}

async fn document(buzzer: &Inside) -> Value {
    buzzer.get("/openapi.json").await.json()
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = document(&buzzer().await).await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."), "{}", document["openapi"]);
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    // The schemas of the three kinds have definitions of their own.
    assert!(references.iter().any(|to| to.contains("_input.")), "{references:?}");
    for to in references {
        let pointer = to.strip_prefix('#').unwrap_or_else(|| panic!("{to} leads out of the document"));
        assert!(document.pointer(pointer).is_some(), "{to} leads nowhere");
    }
}

#[tokio::test]
async fn every_operation_has_an_id_of_its_own_and_its_parameters() {
    let document = document(&buzzer().await).await;
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let at = format!("{method} {path}");
        let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{at} has no id"));
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{at}: {id}");
        assert!(ids.insert(id.to_lowercase().replace('_', "")), "{at}: {id} twice");
        assert_eq!(parameters(operation, "path"), named(path), "{at}");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let fits = parameter["schema"].get("default").is_none_or(|default| !default.is_null());
            assert!(fits, "{at}: null is no default of {}", parameter["name"]);
        }
        assert!(operation["tags"].is_array() && operation["summary"].is_string(), "{at}");
    }
    for kind in ["echo", "a.b", "a-b", "a_b"] {
        assert!(document["paths"][format!("/v1/jobs/{kind}")]["post"].is_object(), "{kind}");
    }
}

#[tokio::test]
async fn every_refusal_is_a_problem_with_a_page() {
    let buzzer = buzzer().await;
    let document = document(&buzzer).await;
    let mut types = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let responses = operation["responses"].as_object().unwrap();
        // With one answer for all that is not named, no answer would ever be undocumented.
        assert!(!responses.contains_key("default") && responses.contains_key("500"), "{method} {path}");
        for (status, response) in responses.iter().filter(|(status, _)| status.as_str() >= "400") {
            let at = format!("{method} {path}: {status}");
            let problem = &response["content"]["application/problem+json"]["schema"]["$ref"];
            assert_eq!(problem, "#/components/schemas/Problem", "{at}");
            assert!(!problem_types(operation, status).is_empty(), "{at}");
            assert!(!response["description"].as_str().unwrap().is_empty(), "{at}");
            types.extend(problem_types(operation, status));
        }
    }
    assert!(types.len() > 30, "{types:?}");
    for r#type in types {
        assert!(buzzer.get(&r#type).await.status.is_success(), "{type}");
    }
}

#[tokio::test]
async fn what_is_posted_to_webhooks_is_in_the_document() {
    let document = document(&buzzer().await).await;
    let callback = &document["paths"]["/v1/jobs/echo"]["post"]["callbacks"]["jobEvent"];
    let posts = [
        &document["webhooks"]["jobEvent"]["post"],
        &document["webhooks"]["webhookTest"]["post"],
        &callback["{$request.body#/webhook/url}"]["post"],
    ];
    for post in posts {
        let headers = ["webhook-id", "webhook-timestamp", "webhook-signature"].map(ToOwned::to_owned);
        assert_eq!(parameters(post, "header"), headers.into(), "{post}");
        assert!(post["parameters"].as_array().unwrap().iter().all(|header| header["required"] == true), "{post}");
        let answers: Vec<_> = post["responses"].as_object().unwrap().keys().collect();
        assert_eq!(answers, ["2XX", "410", "429", "503", "default"], "{post}");
        let body = &post["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        assert!(document.pointer(body.as_str().unwrap().strip_prefix('#').unwrap()).is_some(), "{post}");
    }
}

#[tokio::test]
async fn a_job_leads_to_what_can_be_asked_of_it() {
    let document = document(&buzzer().await).await;
    let ids: BTreeSet<_> =
        operations(&document).filter_map(|(.., operation)| operation["operationId"].as_str()).collect();
    let links = document["paths"]["/v1/jobs/echo"]["post"]["responses"]["202"]["links"].as_object().unwrap();
    assert!(links.contains_key("cancelJob"), "{links:?}");
    for link in links.values() {
        assert!(ids.contains(link["operationId"].as_str().unwrap()), "{link}");
        assert_eq!(link["parameters"]["job"], "$response.body#/id");
    }
}

#[tokio::test]
async fn who_is_let_in_is_in_the_document() {
    let document = document(&buzzer().await).await;
    let scheme = &document["components"]["securitySchemes"]["key"];
    assert_eq!((&scheme["type"], &scheme["scheme"]), (&json!("http"), &json!("bearer")));
    let scheme = &document["components"]["securitySchemes"]["ticket"];
    assert_eq!([&scheme["type"], &scheme["in"], &scheme["name"]], ["apiKey", "query", "ticket"]);
    for (path, method, operation) in operations(&document) {
        let at = format!("{method} {path}");
        let for_operators = ["/v1/parked", "/v1/workers", "/v1/stats"].iter().any(|begin| path.starts_with(begin));
        let scopes = if for_operators { json!(["operator"]) } else { json!([]) };
        let guarded = path.starts_with("/v1/");
        let looked_at = ["/v1/events", "/v1/jobs/{job}", "/v1/jobs/{job}/events", "/v1/socket"];
        let to_look_at = looked_at.contains(&path) && method == "get";
        let ways = match (guarded, to_look_at) {
            (false, _) => Value::Null,
            (true, false) => json!([{ "key": scopes }]),
            (true, true) => json!([{ "key": [] }, { "ticket": [] }]),
        };
        assert_eq!(operation["security"], ways, "{at}");
        let socket = path == "/v1/socket" || path == "/v1/jobs/{job}/events";
        for (status, slug, there) in [
            ("401", "unauthorized", guarded),
            ("403", "host-not-allowed", true),
            ("403", "forbidden", for_operators),
            ("403", "ticket-for-one-job", to_look_at),
            ("403", "origin-not-allowed", socket),
            ("426", "upgrade-required", socket),
        ] {
            let types = problem_types(operation, status);
            assert_eq!(types.contains(&format!("/problems/{slug}")), there, "{at}: {status} {slug}");
        }
        let challenge = &operation["responses"]["401"]["headers"]["WWW-Authenticate"];
        assert_eq!(challenge.is_object(), guarded, "{at}");
    }
}

#[tokio::test]
async fn headers_are_in_the_document() {
    let document = document(&buzzer().await).await;
    let submit = &document["paths"]["/v1/jobs/echo"]["post"];
    let look = &document["paths"]["/v1/jobs/{job}"]["get"];
    assert_eq!(parameters(submit, "header"), ["Idempotency-Key".into(), "Prefer".into()].into());
    assert_eq!(parameters(look, "header"), ["If-None-Match".into()].into());
    for status in ["200", "202"] {
        for header in ["Location", "ETag", "Retry-After", "Preference-Applied"] {
            assert!(submit["responses"][status]["headers"][header].is_object(), "{status} {header}");
        }
    }
    assert!(look["responses"]["304"]["headers"]["ETag"].is_object());
}

#[tokio::test]
async fn streams_are_in_the_document() {
    let document = document(&buzzer().await).await;
    for (path, method) in [("/v1/jobs/echo", "post"), ("/v1/jobs/{job}/events", "get"), ("/v1/events", "get")] {
        let content = &document["paths"][path][method]["responses"]["200"]["content"];
        let stream = &content["text/event-stream"]["schema"];
        assert_eq!(stream["type"], "string", "{path}: {content}");
        assert_eq!(content["application/json"].is_null(), path == "/v1/events", "{path}: {content}");
        // A stream has no schema for its parts: the text names that of an event.
        assert!(stream["description"].as_str().unwrap().contains("#/components/schemas/EventView"), "{stream}");
    }
    assert!(document["components"]["schemas"]["EventView"]["properties"]["seq"].is_object());
    let last = ["Last-Event-ID".to_owned()].into();
    assert_eq!(parameters(&document["paths"]["/v1/events"]["get"], "header"), last);
    assert_eq!(parameters(&document["paths"]["/v1/jobs/{job}/events"]["get"], "header"), last);
}

#[tokio::test]
async fn p10_the_paths_of_kinds_take_what_the_kinds_take() {
    let buzzer = buzzer().await;
    let document = document(&buzzer).await;
    for kind in buzzer.get("/v1/kinds").await.json()["items"].as_array().unwrap() {
        let name = kind["name"].as_str().unwrap();
        let submit = &document["paths"][format!("/v1/jobs/{name}")]["post"];
        assert_eq!(submit["summary"], kind["title"], "{name}");
        let body = &submit["requestBody"]["content"]["application/json"];
        let example = &body["example"];
        assert_eq!(example["input"], kind["example"], "{name}");
        let body = validator(&document, &body["schema"]);
        if !kind["example"].is_null() {
            assert!(body.is_valid(example), "{name}: {example}: {:?}", body.validate(example));
            assert!(jsonschema::is_valid(&kind["input_schema"], &kind["example"]), "{name}");
        }
        assert!(!body.is_valid(&json!({ "input": example["input"], "inptu": 1 })), "{name}");
        if kind["input_schema"]["type"] == "object" {
            assert!(!body.is_valid(&json!({ "input": "not an object" })), "{name}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_as_its_kind_has_it_in_the_document() {
    let buzzer = buzzer().await;
    let document = document(&buzzer).await;
    let done = |kind: &str| {
        let answer = &document["paths"][format!("/v1/jobs/{kind}")]["post"]["responses"]["200"];
        validator(&document, &answer["content"]["application/json"]["schema"])
    };
    let input = r#"{"input": {"max_attempts": 3, "backoff": "1s", "max_backoff": "1m"}}"#;
    let mut job = buzzer.run("a.b", input).await;
    let body = done("a.b");
    assert!(body.is_valid(&job), "{job}: {:?}", body.validate(&job));
    job["output"] = json!("not a policy");
    assert!(!body.is_valid(&job));
    let echoed = buzzer.run("echo", r#"{"input": 1}"#).await;
    assert!(done("echo").is_valid(&echoed), "{echoed}: {:?}", done("echo").validate(&echoed));
}

#[tokio::test]
async fn p10_what_the_router_serves_is_in_the_document_and_the_reverse() {
    let buzzer = buzzer().await;
    let document = document(&buzzer).await;
    let kind_or_id = ["echo", "019ab4a6-2c00-7000-8000-000000000000"];
    let mut served = BTreeMap::<String, BTreeSet<String>>::new();
    for path in document["paths"].as_object().unwrap().keys() {
        for value in kind_or_id {
            // `Allow` is what the router itself says of a path.
            let address = path.replace("{job}", value).replace("{kind}", value);
            let answer = buzzer.send(buzzer.request(Method::TRACE, &address)).await;
            assert_eq!(answer.status, 405, "{path}: {}", answer.text);
            let allowed = answer.header("allow").split(',').map(|method| method.trim().to_lowercase());
            // axum answers HEAD wherever there is GET; nobody documents that.
            served.entry(path.clone()).or_default().extend(allowed.filter(|method| method != "head"));
        }
    }
    for (path, methods) in served {
        let in_document: BTreeSet<_> =
            operations(&document).filter(|(at, ..)| *at == path).map(|(_, method, _)| method.to_owned()).collect();
        if path.contains('{') || !path.starts_with("/v1/jobs/") {
            assert_eq!(in_document, methods, "{path}");
        } else {
            // A kind's path is the POST of `/v1/jobs/{job}`.
            assert!(in_document.is_subset(&methods) && in_document.contains("post"), "{path}: {methods:?}");
        }
    }
}

fn operations(document: &Value) -> impl Iterator<Item = (&str, &str, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().unwrap().iter().filter(|(method, _)| METHODS.contains(&method.as_str()));
        methods.map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// The types of the problems that an operation may answer with this status.
fn problem_types(operation: &Value, status: &str) -> Vec<String> {
    let types = operation["responses"][status]["x-problem-types"].as_array();
    types.into_iter().flatten().map(|r#type| r#type.as_str().unwrap().to_owned()).collect()
}

fn parameters(operation: &Value, place: &str) -> BTreeSet<String> {
    let all = operation["parameters"].as_array().into_iter().flatten();
    all.filter(|parameter| parameter["in"] == place).map(|p| p["name"].as_str().unwrap().to_owned()).collect()
}

fn named(path: &str) -> BTreeSet<String> {
    let parts = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    parts.map(ToOwned::to_owned).collect()
}

fn collect_references(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                into.push(to.clone());
            }
            fields.values().for_each(|value| collect_references(value, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}

/// Checks values against a schema that stands in the document.
fn validator(document: &Value, schema: &Value) -> jsonschema::Validator {
    let schema = json!({ "components": document["components"], "allOf": [schema] });
    jsonschema::draft202012::new(&schema).unwrap()
}
