use std::collections::{BTreeMap, BTreeSet};

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::WebhookId;
use buzzer_shared::kind::Kind;
use http::{StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;

use super::check;
use super::view::{self, WebhookView};
use crate::auth::Caller;
use crate::delivery::{Health, Secrets, Wants, Webhook};
use crate::extract::JsonBody;
use crate::letters::fresh_secret;
use crate::lifecycle::Events;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

/// So many webhooks a tenant may have: each entry of its logs is compared with all of them.
const WEBHOOKS_MAX: usize = 1000;

/// Who is to be told, and of what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateWebhook {
    /// Where to post. `https`; or `http`, within the networks that `BUZZER_EGRESS_ALLOW` names.
    url: String,
    /// Which types of events; those that end a job, when nothing is said.
    #[serde(default)]
    events: Events,
    /// Of jobs of these kinds alone.
    #[serde(default)]
    kinds: BTreeSet<Kind>,
    /// Of jobs that have all of these tags alone.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// What it is for, in your own words.
    #[serde(default)]
    description: Option<String>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::header::{HeaderDoc, gives};
    refuses(op, &[problem::TOO_MANY_WEBHOOKS])
        .id("createWebhook")
        .tag("webhooks")
        .summary("Register a webhook endpoint")
        .description(
            "From now on, the events that it wants are posted to it, signed as Standard Webhooks has it: \
             `{type, timestamp, data}`, with the event as `data`. The secret is shown in this answer, and never again.",
        )
        .input::<Json<CreateWebhook>>()
        .response_with::<201, Json<WebhookView>, _>(|r| {
            gives(r.description("It is registered; `secret` verifies what is posted."), &[HeaderDoc::WEBHOOK.always()])
        })
}

pub(super) async fn create(
    caller: Caller,
    State(state): State<AppState>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let order: CreateWebhook = body.read()?;
    let mut violations = Vec::new();
    let url = check::url(&order.url, &state.egress_allow, &mut violations);
    check::details(&order.kinds, &order.tags, order.description.as_deref(), &mut violations);
    if !violations.is_empty() {
        return Err(ApiError::InvalidRequest(violations));
    }
    let (secret, now) = (fresh_secret()?, state.clock.now());
    let webhook = Webhook {
        id: WebhookId::new(now),
        url,
        wants: Wants { events: order.events, kinds: order.kinds, tags: order.tags },
        description: order.description,
        secrets: Secrets::new(secret.clone()),
        health: Health::default(),
        created_at: now,
    };
    if !state.store.keep_webhook(&caller.tenant, &webhook, WEBHOOKS_MAX).await? {
        return Err(ApiError::TooManyWebhooks(WEBHOOKS_MAX));
    }
    state.journal.bell.listen(caller.tenant);
    let location = [(header::LOCATION, view::path(webhook.id))];
    let view = WebhookView::of(webhook, now).with_secret(&secret);
    Ok((StatusCode::CREATED, location, Json(view)).into_response())
}
