//! What travels between the API and the workers.

use std::sync::Arc;

use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::message::{
    Announce, Beat, Control, HeaderForm, HeaderSpec, JSON, Knock, MessageSpec, Outcome, Request, Signal, SignalBody,
    Started, Told,
};
use buzzer_shared::problem::Problem;
use buzzer_shared::topology::{Argument, Declaration, ExchangeType, Queue, QueueType, Route, Topology};
use serde_json::{Map, Value, json};

use super::Draft;
use crate::openapi::word;

pub(super) const SERVER: &str = "rabbitmq";
const VERSION: &str = "0.3.0";

pub(super) fn server() -> Value {
    json!({
        "host": "localhost:5672",
        "protocol": "amqp",
        "protocolVersion": "0.9.1",
        "description": "RabbitMQ, where `BUZZER_BROKER` says that it is. All names begin with `BUZZER_PREFIX`.",
    })
}

pub(super) fn add<'a>(draft: &mut Draft, topology: &Topology, kinds: impl Iterator<Item = &'a KindSpec>) {
    add_shared_messages(draft);
    add_replies(draft, topology);
    add_pulse_and_signals(draft, topology);
    add_control(draft, topology);
    add_any_kind(draft, topology);
    for spec in kinds {
        add_kind(draft, topology, spec);
    }
}

fn add_shared_messages(draft: &mut Draft) {
    let problem = json!(draft.schemas.read::<Problem>());
    let announce = json!(draft.schemas.read::<Announce>());
    let beat = json!(draft.schemas.read::<Beat>());
    let signal = json!(draft.schemas.read::<SignalBody>());
    let control = json!(draft.schemas.written::<Control>());
    // What the header `told` is an array of.
    let _ = draft.schemas.read::<Told>();
    let empty = || json!({ "type": "object", "maxProperties": 0 });
    let outcome = |results: &[&str], payload| message(&of_results(Outcome::SPEC, results), results, payload);
    let all = [
        ("request", message(&headers(Request::SPEC), &[], Some(json!({})))),
        ("outcome.succeeded", outcome(&["succeeded"], Some(json!({})))),
        ("outcome.failed", outcome(&["failed"], Some(problem))),
        // The body is empty.
        ("outcome.unfinished", outcome(&["canceled", "returned"], None)),
        ("started", message(&headers(Started::SPEC), &[], Some(empty()))),
        ("signal", message(&headers(Signal::SPEC), &[], Some(signal))),
        ("announce", message(&headers(Announce::SPEC), &[], Some(announce))),
        ("beat", message(&headers(Beat::SPEC), &[], Some(beat))),
        ("knock", message(&headers(Knock::SPEC), &[], Some(empty()))),
        ("control", message(&headers(Control::SPEC), &[], Some(control))),
    ];
    draft.messages.extend(all.map(|(name, message)| (name.into(), message)));
}

fn add_replies(draft: &mut Draft, topology: &Topology) {
    let messages = ["outcome.succeeded", "outcome.failed", "outcome.unfinished", "started"];
    let about = "How runs end, and which were acknowledged before they were run. Never dropped.";
    let channel = channel(&topology.fixed(), &topology.replies_queue(), &topology.outcome(), about);
    draft.channel("replies", channel, &messages);
    let operation = received("Take the end of a run", true);
    draft.operation("takeReply", "replies", operation, &messages);
}

fn add_pulse_and_signals(draft: &mut Draft, topology: &Topology) {
    let messages = ["announce", "beat", "knock"];
    let about = "Which workers are alive, what they run, and what they hold.";
    let pulse = channel(&topology.fixed(), &topology.pulse_queue(), &topology.pulse(), about);
    draft.channel("pulse", pulse, &messages);
    draft.operation("takePulse", "pulse", received("Hear of a worker", false), &messages);

    let about = "What runs tell while they run.";
    let signals = channel(&topology.fixed(), &topology.signals_queue(), &topology.signal(), about);
    draft.channel("signals", signals, &["signal"]);
    draft.operation("takeSignal", "signals", received("Hear of a run", false), &["signal"]);
}

fn add_control(draft: &mut Draft, topology: &Topology) {
    let worker = WorkerId::from(uuid::Uuid::nil());
    let declared = [topology.fixed(), topology.control(worker)].concat();
    let about = "What all workers are told. Each has a queue of its own, which it declares itself.";
    let mut channel = channel(&declared, &topology.control_queue(worker), &topology.to_workers(), about);
    parameter(&mut channel, &worker.to_string(), "worker", "The id of the worker: a UUID, new at each start.");
    draft.channel("control", channel, &["control"]);
    draft.operation("tellWorkers", "control", sent("Tell all workers", false), &["control"]);
}

/// What holds for every kind, also for one that nobody has announced yet.
fn add_any_kind(draft: &mut Draft, topology: &Topology) {
    let kind: Kind = "kind".parse().expect("a word is the name of a kind");
    let mut channel =
        requests(topology, &kind, "The requests of a kind, whichever it is. The body is the job's input.");
    parameter(&mut channel, kind.as_str(), "kind", "The name of the kind.");
    draft.channel("requests", channel, &["request"]);
    let mut operation = sent("Have a job run", true);
    operation["reply"] = reply(&["outcome.succeeded", "outcome.failed", "outcome.unfinished"]);
    draft.operation("run", "requests", operation, &["request"]);
}

fn add_kind(draft: &mut Draft, topology: &Topology, spec: &KindSpec) {
    let (name, word) = (&spec.name, word(&spec.name));
    let input = draft.schemas.announced(&format!("{word}_input"), &spec.input_schema);
    let output = draft.schemas.announced(&format!("{word}_output"), &spec.output_schema);
    let (request, succeeded) = (format!("request.{name}"), format!("outcome.succeeded.{name}"));
    let mut asked = message(&headers(Request::SPEC), &[], Some(input));
    asked["headers"]["properties"]["kind"] = json!({ "const": name });
    asked["title"] = json!(spec.title);
    if let Some(example) = &spec.example {
        asked["examples"] = json!([{ "payload": example }]);
    }
    let results = ["succeeded"];
    let done = message(&of_results(Outcome::SPEC, &results), &results, Some(output));
    draft.messages.insert(request.clone(), asked);
    draft.messages.insert(succeeded.clone(), done);

    let channel_name = format!("requests.{name}");
    draft.channel(&channel_name, requests(topology, name, &spec.description), &[&request]);
    draft.channel("replies", Value::Null, &[&succeeded]);
    let mut operation = sent(&spec.title, true);
    operation["reply"] = reply(&[&succeeded, "outcome.failed", "outcome.unfinished"]);
    draft.operation(&format!("run.{name}"), &channel_name, operation, &[&request]);
}

fn requests(topology: &Topology, kind: &Kind, about: &str) -> Value {
    let declared = [topology.fixed(), topology.requests(kind)].concat();
    channel(&declared, &topology.requests_queue(kind), &topology.request(kind), about)
}

/// A channel: a queue, and the way to it.
fn channel(declared: &[Declaration], queue: &Arc<str>, route: &Route, about: &str) -> Value {
    let mut channel = json!({
        "address": queue,
        "servers": [{ "$ref": format!("#/servers/{SERVER}") }],
        "x-published-to": {
            "exchange": route.exchange,
            "exchangeType": declared.iter().find_map(|own| exchange_type(own, &route.exchange)),
            "routingKey": route.key,
            "mandatory": route.mandatory,
        },
    });
    if !about.is_empty() {
        channel["description"] = json!(about);
    }
    if let Some(queue) = declared.iter().find_map(|own| named(own, queue)) {
        channel["bindings"] =
            json!({ "amqp": { "is": "queue", "queue": declaration(queue), "bindingVersion": VERSION } });
        channel["x-arguments"] = arguments(queue);
    }
    channel
}

/// Puts a parameter where an example of it stands in a channel's names.
fn parameter(channel: &mut Value, example: &str, name: &str, description: &str) {
    let put = |text: &mut Value| {
        if let Value::String(text) = text {
            *text = text.replace(&format!(".{example}"), &format!(".{{{name}}}"));
            if text == example {
                *text = format!("{{{name}}}");
            }
        }
    };
    put(&mut channel["address"]);
    put(&mut channel["x-published-to"]["routingKey"]);
    put(&mut channel["bindings"]["amqp"]["queue"]["name"]);
    channel["parameters"] = json!({ (name): { "description": description } });
}

fn exchange_type(declaration: &Declaration, exchange: &Arc<str>) -> Option<&'static str> {
    match declaration {
        Declaration::Exchange { name, r#type } if name == exchange => Some(match r#type {
            ExchangeType::Direct => "direct",
            ExchangeType::Fanout => "fanout",
        }),
        _ => None,
    }
}

fn named<'a>(declaration: &'a Declaration, queue: &Arc<str>) -> Option<&'a Queue> {
    match declaration {
        Declaration::Queue(own) if own.name == *queue => Some(own),
        _ => None,
    }
}

fn declaration(queue: &Queue) -> Value {
    let own = queue.r#type == QueueType::Exclusive;
    json!({ "name": queue.name, "durable": !own, "exclusive": own, "autoDelete": own })
}

fn arguments(queue: &Queue) -> Value {
    let r#type = match queue.r#type {
        QueueType::Quorum => "quorum",
        QueueType::Classic | QueueType::Exclusive => "classic",
    };
    let arguments = queue.arguments.iter().map(|(name, value)| {
        let value = match value {
            Argument::Int(number) => json!(number),
            Argument::Text(text) => json!(text),
        };
        ((*name).into(), value)
    });
    arguments.chain([("x-queue-type".into(), json!(r#type))]).collect::<Map<_, _>>().into()
}

fn sent(summary: &str, mandatory: bool) -> Value {
    let binding = json!({ "deliveryMode": 2, "mandatory": mandatory, "bindingVersion": VERSION });
    json!({ "action": "send", "summary": summary, "bindings": { "amqp": binding } })
}

fn received(summary: &str, acknowledged: bool) -> Value {
    let binding = json!({ "ack": acknowledged, "bindingVersion": VERSION });
    json!({ "action": "receive", "summary": summary, "bindings": { "amqp": binding } })
}

/// Where the end of a run is sent to.
fn reply(messages: &[&str]) -> Value {
    json!({ "channel": super::to_channel("replies"), "messages": super::to_messages("replies", messages) })
}

/// A sort of message, and those of its headers that are meant.
struct Shape {
    spec: MessageSpec,
    headers: Vec<HeaderSpec>,
}

fn headers(spec: MessageSpec) -> Shape {
    Shape { spec, headers: spec.headers.to_vec() }
}

/// An outcome that has one of these results, with the headers that it may have then.
fn of_results(spec: MessageSpec, results: &[&str]) -> Shape {
    let belongs = |header: &&HeaderSpec| match header.name {
        "reason" => results.contains(&"returned"),
        "retry" | "retry-after-ms" => results.contains(&"failed"),
        _ => true,
    };
    Shape { spec, headers: spec.headers.iter().filter(belongs).copied().collect() }
}

/// A message; without a payload, its body is empty.
fn message(shape: &Shape, results: &[&str], payload: Option<Value>) -> Value {
    let Shape { spec, headers } = shape;
    let properties: Map<_, _> =
        headers.iter().map(|header| (header.name.into(), header_schema(header, results))).collect();
    let required: Vec<_> = headers.iter().filter(|header| header.required).map(|header| header.name).collect();
    let mut message = json!({
        "name": spec.r#type,
        "summary": spec.summary,
        "contentType": JSON,
        "headers": { "type": "object", "properties": properties, "required": required },
        "bindings": { "amqp": { "messageType": spec.r#type, "bindingVersion": VERSION } },
        "x-properties": amqp_properties(spec),
    });
    if let Some(payload) = payload {
        message["payload"] = payload;
    }
    message
}

fn header_schema(header: &HeaderSpec, results: &[&str]) -> Value {
    let mut schema = match header.form {
        HeaderForm::Text => json!({ "type": "string" }),
        HeaderForm::OneOf(_) if header.name == "result" => json!({ "type": "string", "enum": results }),
        HeaderForm::OneOf(words) => json!({ "type": "string", "enum": words }),
        HeaderForm::Number => json!({ "type": "integer", "minimum": 0 }),
        HeaderForm::Flag => json!({ "type": "boolean" }),
    };
    schema["description"] = json!(header.description);
    schema
}

/// What AMQP itself has room for.
fn amqp_properties(spec: &MessageSpec) -> Value {
    let mut properties = json!({
        "type": { "const": spec.r#type },
        "content_type": { "const": JSON },
        "delivery_mode": { "const": 2, "description": "Persistent." },
        "user_id": {
            "type": "string",
            "description": "Who sent it, as RabbitMQ knows them. A worker sets it where the API has `BUZZER_WORKER_USER`.",
        },
    });
    let mut required = vec!["type", "content_type", "delivery_mode"];
    if spec.of_run {
        properties["message_id"] = json!({
            "type": "string", "pattern": RunId::PATTERN, "description": "The run: `{job}/{dispatch}`.",
        });
        properties["correlation_id"] = json!({ "type": "string", "format": "uuid", "description": "The job." });
        required.extend(["message_id", "correlation_id"]);
    }
    if spec.waits {
        properties["expiration"] = json!({
            "type": "string", "pattern": "^[0-9]+$", "description": "After so many milliseconds it is dropped: another goes out.",
        });
        properties["priority"] = json!({ "type": "integer", "minimum": 0, "maximum": 31 });
        required.extend(["expiration", "priority"]);
    }
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}
