//! The AsyncAPI document: what travels between the API and the workers over AMQP, and over WebSockets. Made from what runs:
//! the topology, the specs of the messages, the types of the frames, and the kinds as they were announced.

mod amqp;
mod draft7;
mod schemas;
mod websocket;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::topology::Topology;
use serde_json::{Map, Value, json};

use crate::state::AppState;
use schemas::Schemas;

pub(crate) fn router() -> ApiRouter<AppState> {
    ApiRouter::new().api_route("/asyncapi.json", get_with(asyncapi, doc))
}

fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("getAsyncApi").tag("operation").summary("The document of AMQP and WebSockets").description(
        "What travels between this API and the workers, by which a worker can be written in any language, and over \
         WebSockets: AsyncAPI 3.0.",
    )
}

async fn asyncapi(State(state): State<AppState>) -> Json<Value> {
    let kinds = state.catalog.kinds();
    Json(document(&state.topology, kinds.iter().map(|entry| entry.spec())))
}

const ABOUT: &str = "\
The wire of Buzzer, as the API has it: it sends what it `send`s, and a worker takes that; it takes what it `receive`s, and a \
worker sends that. Each channel is a queue, and `x-published-to` says by which exchange and key a message comes there.

To be a worker: declare a control queue of your own, and nothing else. Announce your kinds. Consume the queue of each kind with \
as many unacknowledged requests as it has slots, and try again while a queue is not there yet. Answer each request with an \
outcome whose `message_id` is the request's own; have it confirmed by the broker, and acknowledge the request then, and only \
then. Send a beat every five seconds that names every request that you hold. Never reject a request: hand it back with the \
result `returned`. A request that comes again while you run it is the same run. Acknowledge early, with `started`, what says \
`alone` or `at-most-once`, and kinds whose runs may take more than ten minutes.

`x-properties` of a message is the schema of its AMQP properties; what stands in `headers` are the application's headers.";

/// The whole document, for a topology and the kinds that are known.
fn document<'a>(topology: &Topology, kinds: impl Iterator<Item = &'a KindSpec>) -> Value {
    let mut draft = Draft::default();
    amqp::add(&mut draft, topology, kinds);
    websocket::add(&mut draft);
    let Draft { channels, operations, messages, schemas } = draft;
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Buzzer",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": { "name": env!("CARGO_PKG_LICENSE") },
        },
        "defaultContentType": "application/json",
        "servers": { (amqp::SERVER): amqp::server(), (websocket::SERVER): websocket::server() },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages, "schemas": schemas.finish() },
    })
}

/// The document as it grows.
#[derive(Default)]
struct Draft {
    channels: Map<String, Value>,
    operations: Map<String, Value>,
    messages: Map<String, Value>,
    schemas: Schemas,
}

impl Draft {
    /// Adds messages to a channel, and the channel, should it not be there.
    fn channel(&mut self, name: &str, channel: Value, messages: &[&str]) {
        let channel = self.channels.entry(name).or_insert(channel);
        for message in messages {
            channel["messages"][*message] = json!({ "$ref": format!("#/components/messages/{message}") });
        }
    }

    /// Adds an operation on a channel that is there.
    fn operation(&mut self, name: &str, channel: &str, mut operation: Value, messages: &[&str]) {
        operation["channel"] = to_channel(channel);
        operation["messages"] = to_messages(channel, messages);
        self.operations.insert(name.into(), operation);
    }
}

fn to_channel(channel: &str) -> Value {
    json!({ "$ref": format!("#/channels/{channel}") })
}

fn to_messages(channel: &str, messages: &[&str]) -> Value {
    messages.iter().map(|name| json!({ "$ref": format!("#/channels/{channel}/messages/{name}") })).collect()
}
