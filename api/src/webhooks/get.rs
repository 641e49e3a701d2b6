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
        .id("getWebhook")
        .tag("webhooks")
        .summary("One webhook endpoint")
        .description("Whether it is enabled, since when it fails, and what it is told.")
}

pub(super) async fn get(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<WebhookPath>,
) -> Result<Json<WebhookView>, ApiError> {
    let id = path.id()?;
    let webhook = state.store.webhook(&caller.tenant, id).await?.ok_or_else(|| unknown(id))?;
    Ok(Json(WebhookView::of(webhook, state.clock.now())))
}
