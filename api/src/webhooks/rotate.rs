use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::time::Span;
use schemars::JsonSchema;
use serde::Deserialize;

use super::view::SecretView;
use super::{AddresseePath, NO_WEBHOOK, check, unknown};
use crate::auth::Caller;
use crate::extract::{MaybeJsonBody, Path};
use crate::letters::fresh_secret;
use crate::problem::{ApiError, refuses};
use crate::state::AppState;
use crate::store::{Addressee, Rotation};

const OVERLAP: Duration = Duration::from_secs(86_400);
const OVERLAP_MAX: Duration = Duration::from_secs(30 * 86_400);

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateSecret {
    /// How long the secret before still signs, too: 24 hours when nothing is said, 30 days at most; `0s` when it must not sign
    /// any more.
    #[serde(default)]
    overlap: Option<Span>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, NO_WEBHOOK)
        .id("rotateSecret")
        .tag("webhooks")
        .summary("Make a new secret")
        .description(
            "It signs from the next attempt on; the one before signs as well for a while, and either verifies. The secret is \
             shown in this answer. At most five sign at a time: past that the oldest go.",
        )
        .input::<Json<RotateSecret>>()
}

pub(super) async fn rotate(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<AddresseePath>,
    body: MaybeJsonBody,
) -> Result<Json<SecretView>, ApiError> {
    let to = path.addressee()?;
    let order: RotateSecret = body.read()?;
    let overlap = order.overlap.map_or(OVERLAP, Duration::from);
    if overlap > OVERLAP_MAX {
        return Err(ApiError::InvalidRequest(vec![check::violation("/overlap", "at most 30 days".into())]));
    }
    let now = state.clock.now();
    let rotation = Rotation { secret: fresh_secret()?, until: now + overlap };
    let secrets = match to {
        Addressee::Webhook(id) => {
            let webhook = state.store.rotate_secret(&caller.tenant, id, &rotation, now).await?;
            webhook.ok_or_else(|| unknown(id))?.secrets
        }
        Addressee::NamedByJobs => state.store.rotate_job_secret(&caller.tenant, &rotation, now).await?,
    };
    Ok(Json(SecretView::of(&secrets, now)))
}
