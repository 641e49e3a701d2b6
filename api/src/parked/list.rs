use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::ParkedView;
use crate::auth::Operator;
use crate::extract::Query;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

const LIMIT: u16 = 50;
const LIMIT_MAX: u16 = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ParkedQuery {
    /// How many messages are shown: 1 to 500, 50 when nothing is said. Fewer when they are large.
    #[serde(default)]
    limit: Option<u16>,
}

/// Parked messages, as a rule oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ParkedList {
    items: Vec<ParkedView>,
    /// How many there are.
    total: usize,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, &[problem::BROKER_AWAY])
        .id("listParked")
        .tag("operation")
        .summary("Messages that nobody could use")
        .description(
            "As a rule oldest first. They stay until somebody replays or drops them; past 100,000 the oldest go.",
        )
}

pub(super) async fn list(
    _: Operator,
    State(state): State<AppState>,
    Query(query): Query<ParkedQuery>,
) -> Result<Json<ParkedList>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::BadQuery(format!("`limit` is 1 to {LIMIT_MAX}.")));
    }
    let (parked, total) = state.parking.list(limit).await?;
    Ok(Json(ParkedList { items: parked.into_iter().map(ParkedView::beginning).collect(), total }))
}
