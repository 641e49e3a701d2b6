use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;

use super::view::WebhookView;
use super::{NO_WEBHOOK, WebhookPath, unknown};
use crate::auth::Caller;
use crate::extract::Path;
use crate::problem::{ApiError, refuses};
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, NO_WEBHOOK)
        .id("deleteWebhook")
        .tag("webhooks")
        .summary("Delete a webhook endpoint")
        .description("With all that is on its way to it. Answers with the webhook as it was.")
}

pub(super) async fn delete(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<WebhookPath>,
) -> Result<Json<WebhookView>, ApiError> {
    let (id, now) = (path.id()?, state.clock.now());
    let webhook = state.store.delete_webhook(&caller.tenant, id, now).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(WebhookView::of(webhook, now)))
}
