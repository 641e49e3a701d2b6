use std::collections::BTreeMap;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{Kind, Refusal};
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Operator;
use crate::state::AppState;
use crate::store::KnownWorker;

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WorkerList {
    items: Vec<WorkerView>,
}

/// A live worker.
#[derive(Debug, Serialize, JsonSchema)]
struct WorkerView {
    id: WorkerId,
    host: String,
    version: String,
    started_at: Time,
    seen_at: Time,
    /// Its kinds, with how many runs of each it takes on at a time.
    kinds: BTreeMap<Kind, u16>,
    /// What it says of each, as a version that `/v1/kinds/{kind}` has.
    contracts: BTreeMap<Kind, u32>,
    /// What it says of kinds and is not taken, with the reason. The worker logs it, too.
    refused: Vec<Refusal>,
}

impl From<KnownWorker> for WorkerView {
    fn from(known: KnownWorker) -> Self {
        let KnownWorker { id, host, version, started_at, seen_at, kinds, contracts, refused } = known;
        Self { id, host, version, started_at, seen_at, kinds, contracts, refused }
    }
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("listWorkers")
        .tag("kinds")
        .summary("Who is alive")
        .description("The workers that were heard of in the last 15 seconds, the longest running first.")
}

pub(super) async fn list(_: Operator, State(state): State<AppState>) -> Json<WorkerList> {
    Json(WorkerList { items: state.catalog.workers().into_iter().map(Into::into).collect() })
}
