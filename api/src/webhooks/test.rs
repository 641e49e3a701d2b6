use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::view::{DeliveryView, To};
use super::{NO_WEBHOOK, WebhookPath, unknown};
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_WEBHOOK), &[problem::WEBHOOK_DISABLED])
        .id("testWebhook")
        .tag("webhooks")
        .summary("Send a test")
        .description(
            "An event of the type `webhook.test` is delivered like any other: signed, tried again, and on record. \
             `GET …/deliveries` shows what came of it.",
        )
        .response_with::<202, Json<DeliveryView>, _>(|r| r.description("It is on its way."))
}

pub(super) async fn test(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<WebhookPath>,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let webhook = state.store.webhook(&caller.tenant, id).await?.ok_or_else(|| unknown(id))?;
    if webhook.health.disabled.is_some() {
        return Err(ApiError::WebhookDisabled);
    }
    let begun = state.store.begin_test(&caller.tenant, id, state.clock.now()).await?.ok_or_else(|| unknown(id))?;
    state.journal.bell.ring();
    Ok((StatusCode::ACCEPTED, Json(DeliveryView::of(begun, &To::webhook(webhook), &state))).into_response())
}
