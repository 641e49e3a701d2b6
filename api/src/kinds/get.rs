use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;

use super::list::KindView;
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{self, ApiError, KnownKinds, refuses};
use crate::state::AppState;

#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
pub(super) struct KindPath {
    /// The kind's name.
    kind: String,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, &[problem::UNKNOWN_KIND])
        .id("getKind")
        .tag("kinds")
        .summary("One kind")
        .description("What is known about one kind: schemas, retry policy, timeout.")
}

pub(super) async fn get(
    _: Caller,
    State(state): State<AppState>,
    path: Path<KindPath>,
) -> Result<Json<KindView>, ApiError> {
    match state.catalog.kind(&path.0.kind) {
        Some(entry) => Ok(Json(KindView::new(&entry, &state))),
        None => Err(ApiError::UnknownKind(path.0.kind, KnownKinds(state.catalog.names()))),
    }
}
