use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Caller;
use crate::catalog::Entry;
use crate::state::AppState;

/// A kind as the worker that came last announced it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KindView {
    #[serde(flatten)]
    spec: KindSpec,
    /// How many runs its live workers take on at a time; 0 when none runs it now.
    slots_live: usize,
    announced_at: Time,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KindList {
    items: Vec<KindView>,
}

impl KindView {
    pub(super) fn new(entry: &Entry, state: &AppState) -> Self {
        let slots_live = state.catalog.slots().get(&entry.spec().name).copied().unwrap_or(0);
        Self { spec: entry.spec().clone(), slots_live, announced_at: entry.known.announced_at }
    }
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("listKinds").tag("kinds").summary("What work there is").description("Every kind that a worker has announced.")
}

pub(super) async fn list(_: Caller, State(state): State<AppState>) -> Json<KindList> {
    Json(KindList { items: state.catalog.kinds().iter().map(|entry| KindView::new(entry, &state)).collect() })
}
