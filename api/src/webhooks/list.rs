use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::view::WebhookView;
use crate::auth::Caller;
use crate::extract::Query;
use crate::problem::ApiError;
use crate::state::AppState;
use crate::store::Page;

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// The `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// How many webhooks a page has: 1 to 500, 50 when nothing is said.
    #[serde(default)]
    limit: Option<usize>,
}

/// A page of webhooks, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WebhookList {
    items: Vec<WebhookView>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("listWebhooks")
        .tag("webhooks")
        .summary("Your webhook endpoints, the oldest first")
        .description("Without those that jobs have named themselves, and without secrets.")
}

pub(super) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<WebhookList>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::BadQuery(format!("`limit` is 1 to {LIMIT_MAX}.")));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    // One more than asked for tells whether there is another page.
    let mut webhooks = state.store.webhooks(&caller.tenant, Page { after, limit: limit + 1 }).await?;
    let more = webhooks.len() > limit;
    webhooks.truncate(limit);
    let next = webhooks.last().filter(|_| more).map(|(cursor, _)| write_cursor(*cursor));
    let now = state.clock.now();
    let items = webhooks.into_iter().map(|(_, webhook)| WebhookView::of(webhook, now)).collect();
    Ok(Json(WebhookList { items, next }))
}

/// Opaque on purpose, and unlike those of other lists.
fn write_cursor(n: i64) -> String {
    format!("w{n:x}")
}

fn read_cursor(cursor: &str) -> Result<i64, ApiError> {
    let n = cursor.strip_prefix('w').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    n.filter(|n| *n >= 0).ok_or(ApiError::BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_anything_else_refused() {
        assert_eq!(read_cursor(&write_cursor(123_456)).unwrap(), 123_456);
        for bad in ["", "w", "123", "j1", "wxyz", "w-1"] {
            assert!(matches!(read_cursor(bad), Err(ApiError::BadCursor)), "{bad}");
        }
    }
}
