use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::time::Time;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{NO_WEBHOOK, WebhookPath, check, unknown};
use crate::auth::Caller;
use crate::delivery::Webhook;
use crate::extract::{JsonBody, Path};
use crate::lifecycle::LogType;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;
use crate::store::{Fed, StoreError};

/// So many entries are read, and begun again, at a time.
const PAGE: usize = 256;
/// So many are looked at for one request; what is left, another one does.
const PAGES_MAX: usize = 100;
/// Entries stand in the order of commits, and each tells when it was made: so much before, at most.
const SLACK: Duration = Duration::from_secs(60);

/// Which events are to go out again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayEvents {
    /// Those from this moment on.
    from: Time,
    /// Those before this moment; now, when nothing is said.
    #[serde(default)]
    to: Option<Time>,
    /// Leave out those that were delivered.
    #[serde(default)]
    undelivered: bool,
    /// The `next` of the answer before.
    #[serde(default)]
    cursor: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Replayed {
    /// How many events are on their way again.
    replayed: usize,
    /// There may be more: send the same again with this as `cursor`. Null when that was all.
    next: Option<String>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_WEBHOOK), &[problem::WEBHOOK_DISABLED, problem::BAD_CURSOR])
        .id("replayEvents")
        .tag("webhooks")
        .summary("Deliver all of a time once more")
        .description(
            "Every event of that time that the webhook wants goes out again, also those that came while it was disabled, or \
             before it was registered, as far as their jobs are kept. What went out before has the same `webhook-id`.",
        )
        .input::<Json<ReplayEvents>>()
        .response_with::<202, Json<Replayed>, _>(|r| r.description("They are on their way."))
}

pub(super) async fn replay(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<WebhookPath>,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let order: ReplayEvents = body.read()?;
    let webhook = state.store.webhook(&caller.tenant, id).await?.ok_or_else(|| unknown(id))?;
    if webhook.health.disabled.is_some() {
        return Err(ApiError::WebhookDisabled);
    }
    let to = order.to.unwrap_or_else(|| state.clock.now());
    if to <= order.from {
        let violation = check::violation("/to", "it is not after `from`".into());
        return Err(ApiError::InvalidRequest(vec![violation]));
    }
    let after = match &order.cursor {
        Some(cursor) => read_cursor(cursor)?,
        None => before(&state, &caller.tenant, order.from).await?,
    };
    let span = Range { from: order.from, to, undelivered: order.undelivered };
    let replayed = replay_some(&state, &caller.tenant, &webhook, &span, after).await?;
    state.journal.bell.ring();
    Ok((StatusCode::ACCEPTED, Json(replayed)).into_response())
}

struct Range {
    from: Time,
    to: Time,
    undelivered: bool,
}

async fn replay_some(
    state: &AppState,
    tenant: &Tenant,
    webhook: &Webhook,
    range: &Range,
    mut after: i64,
) -> Result<Replayed, ApiError> {
    let mut replayed = 0;
    for _ in 0..PAGES_MAX {
        let page = state.store.feed(tenant, after, PAGE).await?;
        let Some(last) = page.last().map(|last| last.feed) else { return Ok(Replayed { replayed, next: None }) };
        let wanted = |fed: &&Fed| {
            (range.from..range.to).contains(&fed.entry.at)
                && webhook.wants.want_of(&fed.kind, &fed.tags, fed.entry.r#type)
        };
        let events: Vec<(JobId, u32)> = page.iter().filter(wanted).map(|fed| (fed.job, fed.entry.seq)).collect();
        if !events.is_empty() {
            let now = state.clock.now();
            replayed += state.store.replay_events(tenant, webhook.id, &events, range.undelivered, now).await?;
        }
        let over = page.iter().filter(by_our_clock).any(|fed| fed.entry.at > range.to + SLACK);
        if over || page.len() < PAGE {
            return Ok(Replayed { replayed, next: None });
        }
        after = last;
    }
    Ok(Replayed { replayed, next: Some(write_cursor(after)) })
}

/// A place in the feed before which nothing is of `from` or later: found by halves, for a feed may be long.
async fn before(state: &AppState, tenant: &Tenant, from: Time) -> Result<i64, StoreError> {
    let (mut low, mut high) = (0, state.store.feed_end(tenant).await?);
    let from = from - SLACK;
    while high - low > PAGE as i64 {
        let middle = i64::midpoint(low, high);
        let page = state.store.feed(tenant, middle, PAGE).await?;
        match page.iter().find(by_our_clock) {
            Some(fed) if fed.entry.at < from => low = middle,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Whether an entry tells the time as this service has it; of the others, workers say when they were.
fn by_our_clock(fed: &&Fed) -> bool {
    matches!(fed.entry.r#type, LogType::Accepted | LogType::Retrying) || fed.entry.r#type.is_terminal()
}

/// Opaque on purpose, and unlike those of other lists.
fn write_cursor(feed: i64) -> String {
    format!("r{feed:x}")
}

fn read_cursor(cursor: &str) -> Result<i64, ApiError> {
    let n = cursor.strip_prefix('r').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    n.filter(|n| *n >= 0).ok_or(ApiError::BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_anything_else_refused() {
        assert_eq!(read_cursor(&write_cursor(123_456)).unwrap(), 123_456);
        for bad in ["", "r", "123", "d1", "rxyz", "r-1"] {
            assert!(matches!(read_cursor(bad), Err(ApiError::BadCursor)), "{bad}");
        }
    }
}
