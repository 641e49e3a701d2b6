use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::broker::Line;
use schemars::JsonSchema;
use serde::Serialize;

use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

/// Whether this replica can serve.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Health {
    status: Status,
    /// What is wrong, where something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    broker: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Status {
    Ok,
    /// Submissions are stored; they go out when the broker is back.
    Degraded,
}

pub(super) fn alive_doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("livez").tag("operation").summary("Whether the process lives")
}

pub(super) async fn alive() -> Json<Health> {
    Json(Health { status: Status::Ok, broker: None })
}

pub(super) fn ready_doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, &[problem::STORE_UNAVAILABLE])
        .id("readyz")
        .tag("operation")
        .summary("Whether it can take jobs")
        .description("Ready means that the store can be written. A broker that is away shows as `degraded` in a `200`.")
}

pub(super) async fn ready(State(state): State<AppState>) -> Result<Json<Health>, ApiError> {
    state.readiness.of(&state.store, state.clock.now()).await?;
    let broker = match &*state.line.borrow() {
        Line::Up => None,
        Line::Blocked(reason) => Some(format!("blocked: {reason}")),
        Line::Away(reason) => Some(format!("away: {reason}")),
    };
    let status = if broker.is_none() { Status::Ok } else { Status::Degraded };
    Ok(Json(Health { status, broker }))
}
