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
        .id("dropParked")
        .tag("operation")
        .summary("Drop a parked message")
        .description("It is gone for good. Of several copies the oldest goes. Answers the message a last time.")
}

pub(super) async fn remove(
    _: Operator,
    State(state): State<AppState>,
    path: Path<ParkedPath>,
) -> Result<Json<ParkedView>, ApiError> {
    let parked = state.parking.remove(&path.0.id).await?;
    Ok(Json(ParkedView::whole(parked)))
}
