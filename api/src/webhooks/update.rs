use std::collections::{BTreeMap, BTreeSet};

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::kind::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::view::WebhookView;
use super::{NO_WEBHOOK, WebhookPath, check, unknown};
use crate::auth::Caller;
use crate::delivery::Edit;
use crate::extract::{JsonBody, Path};
use crate::lifecycle::Events;
use crate::problem::{ApiError, refuses};
use crate::state::AppState;

/// What is to be different. What is not named stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateWebhook {
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    events: Option<Events>,
    #[serde(default)]
    kinds: Option<BTreeSet<Kind>>,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "null_too")]
    #[schemars(with = "Option<String>")]
    description: Option<Option<String>>,
    #[serde(default)]
    enabled: Option<bool>,
}

/// Null is something else than nothing at all.
fn null_too<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, NO_WEBHOOK)
        .id("updateWebhook")
        .tag("webhooks")
        .summary("Change a webhook endpoint")
        .description(
            "What is not named stays; what is named takes the place of what was there. It counts from the next event on; what \
             waits already goes to the new URL. `enabled: true` forgives what failed before.",
        )
        .input::<Json<UpdateWebhook>>()
}

pub(super) async fn update(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<WebhookPath>,
    body: JsonBody,
) -> Result<Json<WebhookView>, ApiError> {
    let id = path.id()?;
    let UpdateWebhook { url, events, kinds, tags, description, enabled } = body.read()?;
    let mut violations = Vec::new();
    let url = url.map(|url| check::url(&url, &state.egress_allow, &mut violations));
    check::details(
        &kinds.clone().unwrap_or_default(),
        &tags.clone().unwrap_or_default(),
        description.as_ref().and_then(|text| text.as_deref()),
        &mut violations,
    );
    if !violations.is_empty() {
        return Err(ApiError::InvalidRequest(violations));
    }
    let (edit, now) = (Edit { url, events, kinds, tags, description, enabled }, state.clock.now());
    let webhook = state.store.edit_webhook(&caller.tenant, id, &edit, now).await?.ok_or_else(|| unknown(id))?;
    if webhook.health.disabled.is_none() {
        state.journal.bell.listen(caller.tenant);
        // What waited for it goes out.
        state.journal.bell.ring();
    }
    Ok(Json(WebhookView::of(webhook, now)))
}
