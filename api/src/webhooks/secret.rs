use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;

use super::view::SecretView;
use crate::auth::Caller;
use crate::letters::fresh_secret;
use crate::problem::ApiError;
use crate::state::AppState;

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("getJobSecret").tag("webhooks").summary("The secret for webhooks that jobs name themselves").description(
        "What is posted because a submission asked for it (`webhook: {url, events}`) is signed with this one secret of \
             yours. Made when it is first needed; `POST /v1/webhooks/jobs/rotate` makes another.",
    )
}

pub(super) async fn secret(caller: Caller, State(state): State<AppState>) -> Result<Json<SecretView>, ApiError> {
    let secrets = state.store.job_secrets(&caller.tenant, &fresh_secret()?).await?;
    Ok(Json(SecretView::of(&secrets, state.clock.now())))
}
