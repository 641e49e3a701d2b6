use std::collections::BTreeMap;
use std::time::Duration;

use aide::transform::TransformOperation;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::Priority;
use buzzer_shared::kind::{Kind, KindSpec};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::get::{self, Until};
use super::view::{Content, JobView, Waiting};
use super::{JobPath, WAIT_MAX};
use crate::extract::{Caller, JsonBody, Path};
use crate::lifecycle::{self, Event, Job, Phase, Transition};
use crate::problem::{ApiError, KnownKinds, Violation};
use crate::state::AppState;
use crate::store::{Key, Outgoing, Submission, Submitted};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const TAGS_MAX: usize = 16;
const TAG_NAME_MAX: usize = 64;
const TAG_VALUE_MAX: usize = 256;
const ATTEMPTS_MAX: u32 = 1000;

/// What to do, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubmitJob<'a> {
    /// What the handler gets: any JSON that fits the kind's schema. Kept as it is sent, byte for byte.
    #[serde(borrow)]
    input: &'a RawValue,
    /// Run it so long from now; instead of `run_at`.
    #[serde(default)]
    delay: Option<Span>,
    /// Do not run it before this; instead of `delay`.
    #[serde(default)]
    run_at: Option<Time>,
    /// Give it up when it has not started within this.
    #[serde(default)]
    expires: Option<Span>,
    /// How long one run may take; at most the kind's own timeout.
    #[serde(default)]
    timeout: Option<Span>,
    #[serde(default)]
    priority: Priority,
    /// Instead of the kind's own policy, where given.
    #[serde(default)]
    retry: RetryOverride,
    /// Names and values of your own, to find the job by.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// What is different from the kind's retry policy.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetryOverride {
    /// How many attempts there are in all, the first included: 1 to 1,000.
    #[serde(default)]
    max_attempts: Option<u32>,
    /// The longest wait before the second attempt; it doubles with each further one.
    #[serde(default)]
    backoff: Option<Span>,
    /// Where the doubling ends.
    #[serde(default)]
    max_backoff: Option<Span>,
}

pub(super) fn doc(op: TransformOperation<'_>) -> TransformOperation<'_> {
    use crate::openapi::{HeaderDoc, gives, takes};
    const ANSWERED: &[HeaderDoc] =
        &[HeaderDoc::LOCATION, HeaderDoc::ETAG, HeaderDoc::RETRY_AFTER, HeaderDoc::PREFERENCE_APPLIED];
    let op = takes(op, &[HeaderDoc::PREFER, HeaderDoc::IDEMPOTENCY_KEY]);
    op.id("submitJob")
        .tag("jobs")
        .summary("Hand in a job")
        .description(
            "Answers `202` with the job once it is stored. With `Prefer: wait=N` the answer is held for at most N \
             seconds (60 at most), and is `200` if the job is done by then. With an `Idempotency-Key`, sending the same \
             again answers with the same job.",
        )
        .parameter_untyped("job", |parameter| parameter.description("The kind's name."))
        .input::<Json<SubmitJob<'static>>>()
        .response_with::<202, Json<JobView>, _>(|r| gives(r.description("Accepted: it is stored, and will be run."), ANSWERED))
        .response_with::<200, Json<JobView>, _>(|r| gives(r.description("Done within the time that `Prefer: wait` gave."), ANSWERED))
}

pub(super) async fn submit(
    caller: Caller,
    State(state): State<AppState>,
    Path(path): Path<JobPath>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, ApiError> {
    let Some(entry) = state.catalog.kind(&path.job) else {
        return Err(ApiError::UnknownKind(path.job, KnownKinds(state.catalog.names())));
    };
    let spec = entry.spec();
    let key = key(&headers, &spec.name, &body.0)?;
    let wait = wait(&headers);
    let order: SubmitJob<'_> = body.read()?;
    let input = body.0.slice_ref(order.input.get().as_bytes());
    let violations = entry.violations(&input);
    if !violations.is_empty() {
        return Err(ApiError::InvalidInput { kind: spec.name.clone(), errors: violations });
    }
    let job = new_job(order, caller.tenant, spec, state.clock.now())?;
    // Registered before the job can change, so that no wake-up is missed.
    let listener = wait.map(|_| state.wake.listen(job.id));
    let job = store(&state, job, input.clone(), key).await?;
    let answer = Answer { state: &state, waited: wait.unwrap_or_default() };
    match (listener, wait) {
        (Some(listener), Some(wait)) => {
            // A repeated key answers with an earlier job: that is the one to wait for.
            let listener = if listener.job() == job.id { listener } else { state.wake.listen(job.id) };
            let (job, content) = get::wait(&state, &job.tenant, listener, Until::Done, wait).await?;
            answer.with(&job, &content)
        }
        _ => {
            let content = get::content_of(&state, &job, input).await?;
            answer.with(&job, &content)
        }
    }
}

/// Stores the job; already claimed, where the window has room, so that it goes from memory straight to the broker.
async fn store(state: &AppState, job: Job, input: Bytes, key: Option<Key>) -> Result<Job, ApiError> {
    let mut accepted = lifecycle::accept(job);
    let place = match accepted.job.phase {
        Phase::Ready => state.lanes.reserve(&accepted.job.kind),
        _ => None,
    };
    if place.is_some() {
        accepted = claim(accepted, state);
    }
    let job = accepted.job.clone();
    match state.store.submit(Submission { accepted, input: input.clone(), key }).await? {
        Submitted::New => {}
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

fn new_job(order: SubmitJob<'_>, tenant: Tenant, spec: &KindSpec, now: Time) -> Result<Job, ApiError> {
    let mut violations = Vec::new();
    let mut refuse = |pointer: &str, detail: String| {
        violations.push(Violation { pointer: pointer.into(), detail });
    };
    if order.delay.is_some() && order.run_at.is_some() {
        refuse("/run_at", "give `delay` or `run_at`, not both".into());
    }
    if order.timeout.is_some_and(|timeout| timeout > spec.timeout || timeout.as_duration().is_zero()) {
        refuse("/timeout", format!("a run of {} may take from 1ms to {}", spec.name, spec.timeout));
    }
    let retry = merge(order.retry, spec.retry);
    if !(1..=ATTEMPTS_MAX).contains(&retry.max_attempts) {
        refuse("/retry/max_attempts", format!("from 1 to {ATTEMPTS_MAX} attempts are possible"));
    }
    if order.tags.len() > TAGS_MAX {
        refuse("/tags", format!("at most {TAGS_MAX} tags"));
    }
    for (name, value) in &order.tags {
        let fits = (1..=TAG_NAME_MAX).contains(&name.len()) && !name.contains(':') && value.len() <= TAG_VALUE_MAX;
        if !fits {
            let detail = format!(
                "a tag's name has 1 to {TAG_NAME_MAX} bytes and no colon, its value at most {TAG_VALUE_MAX} bytes"
            );
            refuse(&format!("/tags/{}", name.replace('~', "~0").replace('/', "~1")), detail);
        }
    }
    if !violations.is_empty() {
        return Err(ApiError::InvalidRequest(violations));
    }
    let delayed = order.delay.map_or(now, |delay| now + delay.as_duration());
    Ok(Job {
        id: JobId::new(now),
        tenant,
        kind: spec.name.clone(),
        priority: order.priority,
        tags: order.tags,
        retry,
        timeout: order.timeout.unwrap_or(spec.timeout).as_duration(),
        created_at: now,
        run_at: order.run_at.unwrap_or(delayed).max(now),
        expires_at: order.expires.map(|expires| now + expires.as_duration()),
        phase: Phase::Ready,
        attempt: 1,
        dispatch: 0,
        awaited: false,
        signal: 0,
        seq: 0,
        started_at: None,
        finished_at: None,
        progress: None,
        error: None,
    })
}

fn merge(order: RetryOverride, policy: RetryPolicy) -> RetryPolicy {
    RetryPolicy {
        max_attempts: order.max_attempts.unwrap_or(policy.max_attempts),
        backoff: order.backoff.unwrap_or(policy.backoff),
        max_backoff: order.max_backoff.unwrap_or(policy.max_backoff),
    }
}

/// The key covers kind and body: the same key with anything else is a mistake worth telling.
fn key(headers: &HeaderMap, kind: &Kind, body: &[u8]) -> Result<Option<Key>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| (1..=255).contains(&name.len()));
    let Some(name) = name else {
        return Err(ApiError::BadHeader("`Idempotency-Key` is 1 to 255 visible ASCII characters.".into()));
    };
    let mut hash = Sha256::new();
    hash.update(kind.as_str());
    hash.update([0]);
    hash.update(body);
    Ok(Some(Key { name: name.into(), fingerprint: hash.finalize().into() }))
}

/// `Prefer: wait=N` (RFC 7240), at most 60 seconds. A preference that cannot be read is none.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then_some(value.trim())
    });
    let seconds: u64 = waits.filter_map(|value| value.trim_matches('"').parse().ok()).next()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

/// How a submission is answered.
struct Answer<'a> {
    state: &'a AppState,
    waited: Duration,
}

impl Answer<'_> {
    /// `200` only for who waited and has the job done; otherwise `202`, and where to look.
    fn with(&self, job: &Job, content: &Content) -> Result<Response, ApiError> {
        let done = job.phase.state().is_done() && !self.waited.is_zero();
        let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
        let view = JobView::whole(job, content, Waiting::of(job, None, self.state))?;
        let mut response = (status, get::headers(job), Json(&view)).into_response();
        let headers = response.headers_mut();
        if let Ok(location) = HeaderValue::from_str(&view.links.this) {
            headers.insert(header::LOCATION, location);
        }
        if !self.waited.is_zero()
            && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", self.waited.as_secs()))
        {
            headers.insert(PREFERENCE_APPLIED, applied);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefer(value: &'static str) -> Option<Duration> {
        wait(&HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]))
    }

    #[test]
    fn prefer_wait_is_read_as_rfc_7240_has_it() {
        assert_eq!(prefer("wait=10"), Some(Duration::from_secs(10)));
        assert_eq!(prefer("respond-async, Wait=10; x=y"), Some(Duration::from_secs(10)));
        assert_eq!(prefer("wait=3600"), Some(WAIT_MAX));
        assert_eq!(prefer("wait=soon"), None);
        assert_eq!(prefer("respond-async"), None);
    }

    #[test]
    fn a_key_covers_kind_and_body() {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("k"))]);
        let key = |kind: &str, body: &[u8]| key(&headers, &kind.parse().unwrap(), body).unwrap().unwrap().fingerprint;
        assert_eq!(key("echo", b"{}"), key("echo", b"{}"));
        assert_ne!(key("echo", b"{}"), key("echo", b"{ }"));
        assert_ne!(key("echo", b"{}"), key("demo.sleep", b"{}"));
    }
}
