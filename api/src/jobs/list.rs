use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::job::State as JobState;
use buzzer_shared::kind::Kind;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::Caller;
use crate::extract::{Query, tag};
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;
use crate::store::{Filter, Listed, Page};
use crate::view::{JobView, Waiting};

const LIMIT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    state: Option<JobState>,
    #[serde(default)]
    kind: Option<Kind>,
    /// A tag, as `name:value`.
    #[serde(default)]
    tag: Option<String>,
    /// The `next` of the page before.
    #[serde(default)]
    cursor: Option<String>,
    /// How many jobs a page has: 1 to 500, 50 when nothing is said.
    #[serde(default)]
    limit: Option<usize>,
}

/// A page of jobs, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct JobList {
    items: Vec<JobView>,
    /// The cursor of the next page; null on the last.
    next: Option<String>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, &[problem::BAD_CURSOR])
        .id("listJobs")
        .tag("jobs")
        .summary("Your jobs, newest first")
        .description("Without their inputs and outputs.")
}

pub(super) async fn list(
    caller: Caller,
    State(state): State<AppState>,
    Query(query): Query<ListQuery>,
) -> Result<Json<JobList>, ApiError> {
    let limit = query.limit.unwrap_or(LIMIT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(ApiError::BadQuery(format!("`limit` is 1 to {LIMIT_MAX}.")));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    let filter = Filter { state: query.state, kind: query.kind, tag: query.tag.as_deref().map(tag).transpose()? };
    // One more than asked for tells whether there is another page.
    let mut jobs = state.store.jobs(&caller.tenant, &filter, Page { after, limit: limit + 1 }).await?;
    let more = jobs.len() > limit;
    jobs.truncate(limit);
    let next = jobs.last().filter(|_| more).map(|last| write_cursor(last.cursor));
    let view = |listed: &Listed| JobView::short(&listed.job, Waiting::of(&listed.job, None, &state.lanes));
    Ok(Json(JobList { items: jobs.iter().map(view).collect(), next }))
}

/// Opaque on purpose: nobody should count on what is in it.
fn write_cursor(n: i64) -> String {
    format!("j{n:x}")
}

fn read_cursor(cursor: &str) -> Result<i64, ApiError> {
    let n = cursor.strip_prefix('j').and_then(|hex| i64::from_str_radix(hex, 16).ok());
    n.filter(|n| *n >= 0).ok_or(ApiError::BadCursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_back_and_anything_else_refused() {
        assert_eq!(read_cursor(&write_cursor(123_456)).unwrap(), 123_456);
        for bad in ["", "j", "123", "jxyz", "j-1"] {
            assert!(matches!(read_cursor(bad), Err(ApiError::BadCursor)), "{bad}");
        }
    }
}
