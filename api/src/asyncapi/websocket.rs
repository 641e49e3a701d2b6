//! What is said over WebSockets.

use serde_json::{Value, json};

use super::Draft;
use crate::socket;
use crate::view::EventView;

pub(super) const SERVER: &str = "api";

pub(super) fn server() -> Value {
    json!({
        "host": "localhost:8080",
        "protocol": "ws",
        "description": "The API itself, where it listens unless `BUZZER_LISTEN` says otherwise. A client sends its key as \
                        `Authorization: Bearer KEY`; a browser, which cannot, opens either channel with `?ticket=`. Over \
                        `/v1/socket`, who was let in by a ticket may follow and unfollow what that opens; other commands \
                        are answered with a problem.",
    })
}

pub(super) fn add(draft: &mut Draft) {
    add_socket(draft);
    add_job_events(draft);
}

fn add_socket(draft: &mut Draft) {
    let (read, written) = draft.schemas.generators();
    let (commands, frames) = (socket::commands(read), socket::frames(written));
    let mut names = (Vec::new(), Vec::new());
    for (name, payload) in commands {
        names.0.push(add_message(draft, &format!("command.{name}"), &json!(payload)));
    }
    for (name, payload) in frames {
        names.1.push(add_message(draft, &format!("frame.{name}"), &payload));
    }
    let commands: Vec<_> = names.0.iter().map(String::as_str).collect();
    let frames: Vec<_> = names.1.iter().map(String::as_str).collect();
    let channel = channel("/v1/socket", "Many jobs over one WebSocket: hand them in, follow them, cancel them.");
    draft.channel("socket", channel, &[&commands[..], &frames].concat());
    let operation = json!({
        "action": "receive",
        "summary": "Carry a command out",
        "reply": {
            "channel": super::to_channel("socket"),
            "messages": super::to_messages("socket", &["frame.answer", "frame.problem"]),
        },
    });
    draft.operation("takeCommand", "socket", operation, &commands);
    let operation =
        json!({ "action": "send", "summary": "Answer commands, and show the events of jobs that are followed" });
    draft.operation("sendFrame", "socket", operation, &frames);
}

fn add_job_events(draft: &mut Draft) {
    let payload = draft.schemas.written::<EventView>();
    let event = add_message(draft, "event", &json!(payload));
    let about = "The events of one job, to its last: then it is closed with 1000. Nothing is taken here.";
    let mut channel = channel("/v1/jobs/{job}/events", about);
    channel["parameters"] = json!({ "job": { "description": "The job's id." } });
    draft.channel("jobEvents", channel, &[&event]);
    let operation = json!({ "action": "send", "summary": "Show an event" });
    draft.operation("showEvent", "jobEvents", operation, &[&event]);
}

fn channel(address: &str, description: &str) -> Value {
    json!({
        "address": address,
        "description": description,
        "servers": [{ "$ref": format!("#/servers/{SERVER}") }],
        "bindings": { "ws": { "method": "GET", "bindingVersion": "0.1.0" } },
    })
}

fn add_message(draft: &mut Draft, name: &str, payload: &Value) -> String {
    let summary = payload["description"].clone();
    let mut message = json!({ "name": name, "contentType": "application/json", "payload": payload });
    if summary.is_string() {
        message["summary"] = summary;
    }
    draft.messages.insert(name.into(), message);
    name.into()
}
