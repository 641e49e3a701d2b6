use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;

use super::view::ParkedView;
use super::{NOT_THERE, ParkedPath};
use crate::auth::Operator;
use crate::extract::Path;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NOT_THERE), &[problem::NO_WAY_BACK])
        .id("replayParked")
        .tag("operation")
        .summary("Replay a parked message")
        .description(
            "Sends it back to the queue that it came from, and takes it out of the parking queue once RabbitMQ has it \
         there. Whoever still cannot use it parks it again.",
        )
}

pub(super) async fn replay(
    _: Operator,
    State(state): State<AppState>,
    path: Path<ParkedPath>,
) -> Result<Json<ParkedView>, ApiError> {
    // A client that goes away in the middle must not leave the message in both places.
    let replaying = tokio::spawn(async move { state.parking.replay(&path.0.id).await });
    let parked = replaying.await.map_err(|panic| ApiError::Internal(panic.to_string()))??;
    Ok(Json(ParkedView::whole(parked)))
}
