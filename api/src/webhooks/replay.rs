use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::view::{DeliveryView, To};
use super::{DeliveryPath, NO_WEBHOOK, deliveries};
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_WEBHOOK), &[problem::WEBHOOK_DISABLED, problem::UNKNOWN_DELIVERY])
        .id("replayDelivery")
        .tag("webhooks")
        .summary("Deliver once more")
        .description(
            "Whatever came of it, the same event goes out again, under the same `webhook-id`, with a whole schedule before it. \
             One that is on its way goes on.",
        )
        .response_with::<202, Json<DeliveryView>, _>(|r| r.description("It is on its way."))
}

pub(super) async fn replay(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<DeliveryPath>,
) -> Result<Response, ApiError> {
    let (addressee, id) = (path.addressee()?, path.id()?);
    let to = deliveries::to(&state, &caller.tenant, addressee).await?;
    if matches!(&to, To::Webhook { health, .. } if health.disabled.is_some()) {
        return Err(ApiError::WebhookDisabled);
    }
    let replayed = state.store.replay(&caller.tenant, addressee, id, state.clock.now()).await?;
    let replayed = replayed.ok_or_else(|| ApiError::UnknownDelivery(path.delivery.clone()))?;
    state.journal.bell.ring();
    Ok((StatusCode::ACCEPTED, Json(DeliveryView::of(replayed, &to, &state))).into_response())
}
