//! One WebSocket for many jobs: hand them in, follow them, cancel them.

mod carry_out;
mod command;
mod followed;
mod frame;
mod session;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;
use aide::transform::TransformOperation;
use axum::extract::State;
use axum::response::Response;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::Value;

use crate::auth::Viewer;
use crate::extract::Query;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;
use crate::websocket::{Upgrade, or_upgrades};

use command::{Cancel, Follow, Submit, Unfollow};
use frame::Frame;
use session::Session;

/// What a command may have beside the body of a job.
const FRAME_ROOM: usize = 4 * 1024;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new().api_route("/v1/socket", get_with(socket, doc))
}

/// Nothing can be asked for here.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct SocketQuery {}

/// The schemas of what clients send, by their `type`.
pub(crate) fn commands(generator: &mut SchemaGenerator) -> [(&'static str, Schema); 4] {
    [
        ("submit", generator.subschema_for::<Submit<'_>>()),
        ("follow", generator.subschema_for::<Follow>()),
        ("unfollow", generator.subschema_for::<Unfollow>()),
        ("cancel", generator.subschema_for::<Cancel>()),
    ]
}

/// The schemas of what clients are sent, by their `type`.
pub(crate) fn frames(generator: &mut SchemaGenerator) -> Vec<(String, Value)> {
    let frame = Frame::json_schema(generator).to_value();
    let forms = frame["oneOf"].as_array().cloned().unwrap_or_default();
    forms.into_iter().filter_map(|form| Some((form["properties"]["type"]["const"].as_str()?.into(), form))).collect()
}

fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(or_upgrades(op, "Messages of a WebSocket follow."), &[problem::TOO_MANY_STREAMS])
        .id("openSocket")
        .tag("jobs")
        .summary("Many jobs over one WebSocket")
        .description(
            "Asks to upgrade to a WebSocket, over which jobs are handed in, followed, unfollowed and canceled: each text message \
             is a command or its answer, an event or a problem, as JSON. It counts as one stream. A message that is too large \
             closes it with 1009, a binary one with 1003, a key that was revoked with 1008, the end of this API with 1001. Who was let \
             in by a ticket may follow and unfollow what that opens; other commands are answered with a problem.",
        )
}

async fn socket(
    viewer: Viewer,
    upgrade: Upgrade,
    State(state): State<AppState>,
    Query(SocketQuery {}): Query<SocketQuery>,
) -> Result<Response, ApiError> {
    let place = state.bounds.stream()?;
    Ok(upgrade.answer(largest_frame(&state), move |socket| Session::new(state, viewer, place).run(socket)))
}

/// How many bytes a command may have.
fn largest_frame(state: &AppState) -> usize {
    state.max_body.saturating_add(FRAME_ROOM)
}
