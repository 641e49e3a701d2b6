use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::id::Tenant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::{DeliveryView, To};
use super::{AddresseePath, NO_WEBHOOK, unknown};
use crate::auth::Caller;
use crate::delivery::StateName;
use crate::extract::{Path, Query};
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;
use crate::store::{Addressee, Choice, Page};

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeliveryQuery {
    #[serde(default)]
    state: Option<StateName>,
    /// Those that tell of this job.
    #[serde(default)]
    job: Option<String>,
    /// The `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// How many deliveries a page has: 1 to 500, 50 when nothing is said.
    #[serde(default)]
    limit: Option<usize>,
}

/// A page of deliveries, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeliveryList {
    items: Vec<DeliveryView>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(refuses(op, NO_WEBHOOK), &[problem::BAD_CURSOR])
        .id("listDeliveries")
        .tag("webhooks")
        .summary("What is, or was, on its way to a webhook")
        .description(
            "Newest first, each with its attempts: status, duration, error, and the first KiB of the answer. Kept as long as \
             their jobs.",
        )
}

pub(super) async fn deliveries(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<AddresseePath>,
    Query(query): Query<DeliveryQuery>,
) -> Result<Json<DeliveryList>, ApiError> {
    let addressee = path.addressee()?;
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::BadQuery(format!("`limit` is 1 to {LIMIT_MAX}.")));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let job = query.job.map(|job| job.parse().map_err(|_| ApiError::BadId(job))).transpose()?;
    let to = to(&state, &caller.tenant, addressee).await?;
    let choice = Choice { state: query.state, job };
    // One more than asked for tells whether there is another page.
    let page = Page { after, limit: limit + 1 };
    let found = state.store.deliveries(&caller.tenant, addressee, &choice, page).await?;
    let mut found = found.ok_or_else(|| unknown(&path.webhook))?;
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|(cursor, _)| write_cursor(*cursor));
    let items = found.into_iter().map(|(_, delivery)| DeliveryView::of(delivery, &to, &state)).collect();
    Ok(Json(DeliveryList { items, next }))
}

/// Whom the path means.
pub(super) async fn to(state: &AppState, tenant: &Tenant, addressee: Addressee) -> Result<To, ApiError> {
    match addressee {
        Addressee::Webhook(id) => Ok(To::webhook(state.store.webhook(tenant, id).await?.ok_or_else(|| unknown(id))?)),
        Addressee::NamedByJobs => Ok(To::NamedByJobs),
    }
}

/// Opaque on purpose, and unlike those of other lists.
fn write_cursor(n: i64) -> String {
    format!("d{n:x}")
}

fn read_cursor(cursor: &str) -> Result<i64, ApiError> {
    let n = cursor.strip_prefix('d').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    n.filter(|n| *n >= 0).ok_or(ApiError::BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_anything_else_refused() {
        assert_eq!(read_cursor(&write_cursor(123_456)).unwrap(), 123_456);
        for bad in ["", "d", "123", "w1", "dxyz", "d-1"] {
            assert!(matches!(read_cursor(bad), Err(ApiError::BadCursor)), "{bad}");
        }
    }
}
