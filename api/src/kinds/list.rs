use std::collections::HashMap;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Caller;
use crate::catalog::Entry;
use crate::state::AppState;

/// A kind by the newest contract that a live worker runs; where none lives, by the newest of those that were heard at
/// most a minute before the last.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KindView {
    #[serde(flatten)]
    spec: KindSpec,
    /// Which of its contracts this is: 1 for the first that was announced, and one more for each that said something
    /// else.
    version: u32,
    /// How many runs its live workers take on at a time; 0 when none runs it now.
    slots_live: usize,
    /// When this contract came first.
    announced_at: Time,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KindList {
    items: Vec<KindView>,
}

impl KindView {
    /// `slots` are those of all live workers.
    pub(super) fn new(entry: &Entry, slots: &HashMap<Kind, usize>) -> Self {
        let slots_live = slots.get(&entry.spec().name).copied().unwrap_or(0);
        let contract = entry.contract();
        let (spec, version, announced_at) = (contract.spec.clone(), contract.version, contract.announced_at);
        Self { spec, version, slots_live, announced_at }
    }
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("listKinds").tag("kinds").summary("What work there is").description("Every kind that a worker has announced.")
}

pub(super) async fn list(_: Caller, State(state): State<AppState>) -> Json<KindList> {
    let slots = state.catalog.slots();
    Json(KindList { items: state.catalog.kinds().iter().map(|entry| KindView::new(entry, &slots)).collect() })
}
