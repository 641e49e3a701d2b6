use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::KindSpec;
use buzzer_shared::time::Time;
use schemars::JsonSchema;
use serde::Serialize;

use super::list::KindView;
use crate::auth::Caller;
use crate::catalog::Entry;
use crate::contracts::Change;
use crate::extract::Path;
use crate::problem::{self, ApiError, refuses};
use crate::state::AppState;

#[derive(Debug, serde::Deserialize, JsonSchema)]
pub(super) struct KindPath {
    /// The kind's name.
    kind: String,
}

/// A kind with all that its live workers say of it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct KindDetail {
    #[serde(flatten)]
    kind: KindView,
    /// The contract above, and every other one that a live worker announced, the newest first: several during an
    /// upgrade.
    contracts: Vec<ContractView>,
}

/// What some workers say of a kind.
#[derive(Debug, Serialize, JsonSchema)]
struct ContractView {
    #[serde(flatten)]
    spec: KindSpec,
    version: u32,
    announced_at: Time,
    /// Whether this one documents the kind, and says what an input is.
    current: bool,
    /// The live workers that announced it.
    workers: Vec<WorkerId>,
    /// What it breaks of the contract before it, for clients that were written for that: what they must send, may not
    /// send or do not get any more. Empty for the first.
    breaking: Vec<Change>,
    /// The version of that contract, which perhaps no worker announces any more. `null` for the first that is known.
    breaking_of: Option<u32>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    refuses(op, &[problem::UNKNOWN_KIND]).id("getKind").tag("kinds").summary("One kind").description(
        "What is known about one kind: schemas, retry policy, timeout. During an upgrade, workers may say different \
         things of it: then `contracts` has all that is said, who says it, and what of it breaks clients of the contract \
         before.",
    )
}

pub(super) async fn get(
    _: Caller,
    State(state): State<AppState>,
    path: Path<KindPath>,
) -> Result<Json<KindDetail>, ApiError> {
    match state.catalog.kind(&path.0.kind) {
        Some(entry) => Ok(Json(KindDetail {
            kind: KindView::new(&entry, &state.catalog.slots()),
            contracts: contracts(&entry, &state),
        })),
        None => {
            let known = state.catalog.instead_of(&path.0.kind);
            Err(ApiError::UnknownKind(path.0.kind, known))
        }
    }
}

fn contracts(entry: &Entry, state: &AppState) -> Vec<ContractView> {
    let mut runners = state.catalog.runners(&entry.known.name);
    let (mut views, mut breaking_of) = (Vec::new(), None);
    for (at, contract) in entry.known.contracts.iter().enumerate() {
        let workers = runners.remove(&contract.version).unwrap_or_default();
        let current = contract.version == entry.contract().version;
        if current || !workers.is_empty() {
            let breaking = entry.breaking(at).to_vec();
            let (spec, version, announced_at) = (contract.spec.clone(), contract.version, contract.announced_at);
            views.push(ContractView { spec, version, announced_at, current, workers, breaking, breaking_of });
        }
        breaking_of = Some(contract.version);
    }
    views.reverse();
    views
}
