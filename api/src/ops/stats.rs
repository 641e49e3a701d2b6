use std::collections::{BTreeMap, BTreeSet};

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use buzzer_shared::kind::Kind;
use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::Operator;
use crate::delivery;
use crate::problem::ApiError;
use crate::state::AppState;

/// How much there is to do, and who does it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Stats {
    workers: usize,
    /// How many events changed nothing since this replica started, by their reason: late and repeated outcomes,
    /// signals of old dispatches, jobs that nobody knows.
    ignored: BTreeMap<&'static str, u64>,
    kinds: BTreeMap<Kind, KindStats>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
struct KindStats {
    /// Not before their time.
    scheduled: u64,
    /// Waiting for their turn.
    waiting: u64,
    /// Sent to the broker or running.
    out: u64,
    /// Failed, and waiting for another attempt.
    retrying: u64,
    /// Age in seconds of the oldest of those that wait for their turn; 0 when none does.
    oldest_waiting_seconds: u64,
    /// How many runs the live workers take on at a time.
    slots: usize,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    op.id("getStats").tag("operation").summary("Queue depth and age").description(
        "For each kind: how many jobs wait, since when, and how many slots there are. Scale workers on it.",
    )
}

pub(super) async fn stats(_: Operator, State(state): State<AppState>) -> Result<Json<Stats>, ApiError> {
    let backlog = state.store.backlog().await?;
    let slots = state.catalog.slots();
    let now = state.clock.now();
    let known = state.catalog.names().into_iter().chain([delivery::kind()]);
    let names: BTreeSet<Kind> = known.chain(backlog.keys().cloned()).collect();
    let kind = |name: Kind| {
        let of = backlog.get(&name).copied().unwrap_or_default();
        let stats = KindStats {
            scheduled: of.scheduled,
            waiting: of.ready,
            out: of.out,
            retrying: of.retrying,
            oldest_waiting_seconds: of.oldest.map_or(0, |oldest| now.since(oldest).as_secs()),
            slots: slots.get(&name).copied().unwrap_or(0),
        };
        (name, stats)
    };
    Ok(Json(Stats {
        workers: state.catalog.workers().len(),
        ignored: state.journal.tally.counts(),
        kinds: names.into_iter().map(kind).collect(),
    }))
}
