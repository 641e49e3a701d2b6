//! Taking a new job in: storing it, and sending it out where its window has room.

use buzzer_shared::bite::{Fault, bites};
use buzzer_shared::id::Tenant;
use bytes::Bytes;

use crate::lifecycle::{self, Event, Job, Phase, Transition};
use crate::problem::ApiError;
use crate::state::AppState;
use crate::store::{Key, Outgoing, Submission, Submitted};

/// Stores the job and sends it out, or finds the earlier one under the same key.
pub(super) async fn accept(state: &AppState, draft: Job, input: Bytes, key: Option<Key>) -> Result<Job, ApiError> {
    // In a task of its own: when the client hangs up, this handler is dropped where it stands. Between the commit and
    // the outbox that would leave a job claimed which nobody sends, until its lease ends.
    let kept = tokio::spawn(keep_and_send(state.clone(), draft, input, key));
    kept.await.map_err(|error| ApiError::Internal(error.to_string()))?
}

/// Already claimed, where the window has room, a job goes from memory straight to the broker.
async fn keep_and_send(state: AppState, draft: Job, input: Bytes, key: Option<Key>) -> Result<Job, ApiError> {
    let mut accepted = lifecycle::accept(draft);
    let place = match accepted.job.phase {
        Phase::Ready => state.lanes.reserve(&accepted.job.kind),
        _ => None,
    };
    if place.is_some() {
        accepted = claim(accepted, &state);
    }
    let job = accepted.job.clone();
    let submission = Submission { accepted, input: input.clone(), key };
    if bites(Fault::AnswerBeforeCommit) {
        tokio::spawn(async move { state.store.submit(submission).await });
        return Ok(job);
    }
    match state.store.submit(submission).await? {
        Submitted::New => state.journal.tell_of(&job),
        Submitted::Repeated(earlier) => return Ok(*earlier),
        Submitted::KeyReused => return Err(ApiError::KeyReused),
    }
    match place {
        Some(place) => {
            place.taken();
            state.outbox.send(Outgoing { job: job.clone(), input }).await;
        }
        None if job.phase == Phase::Ready => state.lanes.waiting(&job.kind),
        None => {}
    }
    Ok(job)
}

fn claim(accepted: Transition, state: &AppState) -> Transition {
    let now = state.clock.now();
    match lifecycle::step(&accepted.job, &Event::Claimed { until: now + state.claim_lease }, now) {
        Ok(mut claimed) => {
            claimed.effects = [accepted.effects, claimed.effects].concat();
            claimed
        }
        Err(_) => accepted,
    }
}

/// The job that the key stands for. Asked for when a submission is refused: what was accepted once is answered for with
/// its job, even if its kind has become stricter since, or no more is accepted now.
pub(super) async fn earlier(state: &AppState, tenant: &Tenant, key: Option<Key>) -> Result<Option<Job>, ApiError> {
    let Some(key) = key else { return Ok(None) };
    match state.store.keyed(tenant, &key).await? {
        Some(Submitted::Repeated(earlier)) => Ok(Some(*earlier)),
        Some(Submitted::KeyReused) => Err(ApiError::KeyReused),
        Some(Submitted::New) | None => Ok(None),
    }
}
