use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;

use super::view::ParkedView;
use super::{NOT_THERE, ParkedPath};
use crate::auth::Operator;
use crate::extract::Path;
use crate::problem::{ApiError, refuses};
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, NOT_THERE)
        .id("getParked")
        .tag("operation")
        .summary("One parked message")
        .description("With its whole body.")
}

pub(super) async fn get(
    _: Operator,
    State(state): State<AppState>,
    path: Path<ParkedPath>,
) -> Result<Json<ParkedView>, ApiError> {
    let parked = state.parking.find(&path.0.id).await?;
    Ok(Json(ParkedView::whole(parked)))
}
