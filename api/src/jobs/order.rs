//! The body of a submission, and the job that it makes.

use std::collections::BTreeMap;
use std::time::Duration;

use buzzer_shared::egress::AllowList;
use buzzer_shared::id::{JobId, Tenant};
use buzzer_shared::job::Priority;
use buzzer_shared::kind::{DeliveryMode, KindSpec};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::{Span, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::extract::object;
use crate::lifecycle::{Events, Job, JobWebhook};
use crate::problem::{ApiError, Violation};
use crate::webhook_url;

const TAGS_MAX: usize = 16;
const TAG_NAME_MAX: usize = 64;
const TAG_VALUE_MAX: usize = 256;
const ATTEMPTS_MAX: u32 = 1000;
/// Ten years. Whoever means a later time has mistaken a unit, and what lies much later cannot be written as a date.
const AHEAD_MAX: Duration = Duration::from_secs(3650 * 86_400);

/// What to do, and how.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SubmitJob<'a> {
    /// What the handler gets: any JSON that fits the kind's schema. Kept as it is sent, byte for byte.
    #[serde(borrow)]
    pub input: &'a RawValue,
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
    /// Instead of the kind's own policy, where given. Refused for a kind whose jobs are never run twice.
    #[serde(default, deserialize_with = "retry_override")]
    retry: Option<RetryOverride>,
    /// Names and values of your own, to find the job by.
    #[serde(default)]
    tags: BTreeMap<String, String>,
    /// Who is told of its events, besides the webhooks that are registered.
    #[serde(default, deserialize_with = "own_webhook")]
    webhook: Option<OwnWebhook>,
}

/// A webhook of this job alone. What is posted is signed with the secret at `/v1/webhooks/jobs/secret`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct OwnWebhook {
    /// Where to post. `https`; or `http`, within the networks that `BUZZER_EGRESS_ALLOW` names.
    url: String,
    /// Which types of events; the one that ends the job, when nothing is said.
    #[serde(default)]
    events: Events,
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

impl SubmitJob<'_> {
    /// The job as it begins.
    ///
    /// # Errors
    /// All that its kind or a limit does not allow.
    pub fn into_job(self, tenant: Tenant, spec: &KindSpec, allow: &AllowList, now: Time) -> Result<Job, ApiError> {
        let retry = spec.retry_policy(self.retry.map(|retry| retry.over(spec.retry)));
        let mut violations = self.misfits(spec, now);
        let webhook = self.webhook.as_ref().map(|own| own.read(allow)).transpose();
        let webhook = webhook.unwrap_or_else(|violation| {
            violations.push(violation);
            None
        });
        if !(1..=ATTEMPTS_MAX).contains(&retry.max_attempts) {
            violations
                .push(violation("/retry/max_attempts", format!("from 1 to {ATTEMPTS_MAX} attempts are possible")));
        }
        if !violations.is_empty() {
            return Err(ApiError::InvalidRequest(violations));
        }
        let delayed = self.delay.map_or(now, |delay| now + delay.as_duration());
        Ok(Job {
            priority: self.priority,
            tags: self.tags,
            retry,
            timeout: self.timeout.unwrap_or(spec.timeout).as_duration(),
            run_at: self.run_at.unwrap_or(delayed).max(now),
            expires_at: self.expires.map(|expires| now + expires.as_duration()),
            webhook,
            ..Job::new(JobId::new(now), tenant, spec, now)
        })
    }

    fn misfits(&self, spec: &KindSpec, now: Time) -> Vec<Violation> {
        let mut violations = self.too_far(now);
        let begins = self.run_at.map(|at| at.since(now)).or(self.delay.map(Duration::from)).unwrap_or_default();
        if self.expires.is_some_and(|expires| expires.as_duration() <= begins) {
            violations.push(violation("/expires", "it would expire before it may run".into()));
        }
        if self.delay.is_some() && self.run_at.is_some() {
            violations.push(violation("/run_at", "give `delay` or `run_at`, not both".into()));
        }
        if self.retry.is_some() && spec.delivery == DeliveryMode::AtMostOnce {
            violations
                .push(violation("/retry", format!("a job of {} is never run twice: leave `retry` out", spec.name)));
        }
        // Runs are timed in milliseconds: less than one would be none.
        if self.timeout.is_some_and(|timeout| timeout > spec.timeout || timeout.as_millis() == 0) {
            let detail = format!("a run of {} may take from 1ms to {}", spec.name, spec.timeout);
            violations.push(violation("/timeout", detail));
        }
        if self.tags.len() > TAGS_MAX {
            violations.push(violation("/tags", format!("at most {TAGS_MAX} tags")));
        }
        violations.extend(self.tags.iter().filter_map(|(name, value)| bad_tag(name, value)));
        violations
    }

    fn too_far(&self, now: Time) -> Vec<Violation> {
        let times = [
            ("/delay", self.delay.map(Duration::from)),
            ("/run_at", self.run_at.map(|at| at.since(now))),
            ("/expires", self.expires.map(Duration::from)),
            ("/retry/backoff", self.retry.and_then(|retry| retry.backoff).map(Duration::from)),
            ("/retry/max_backoff", self.retry.and_then(|retry| retry.max_backoff).map(Duration::from)),
        ];
        let far = times.into_iter().filter(|(_, ahead)| ahead.is_some_and(|ahead| ahead > AHEAD_MAX));
        far.map(|(pointer, _)| violation(pointer, "at most ten years ahead".into())).collect()
    }
}

fn retry_override<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<RetryOverride>, D::Error> {
    object(deserializer).map(Some)
}

fn own_webhook<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OwnWebhook>, D::Error> {
    object(deserializer).map(Some)
}

impl OwnWebhook {
    fn read(&self, allow: &AllowList) -> Result<JobWebhook, Violation> {
        let url = webhook_url::read(&self.url, allow);
        let url = url.map_err(|bad| violation("/webhook/url", bad.to_string()))?;
        Ok(JobWebhook { url, events: self.events })
    }
}

impl RetryOverride {
    fn over(self, policy: RetryPolicy) -> RetryPolicy {
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(policy.max_attempts),
            backoff: self.backoff.unwrap_or(policy.backoff),
            max_backoff: self.max_backoff.unwrap_or(policy.max_backoff),
        }
    }
}

fn bad_tag(name: &str, value: &str) -> Option<Violation> {
    let fits = (1..=TAG_NAME_MAX).contains(&name.len()) && !name.contains(':') && value.len() <= TAG_VALUE_MAX;
    let pointer = || format!("/tags/{}", name.replace('~', "~0").replace('/', "~1"));
    let detail =
        || format!("a tag's name has 1 to {TAG_NAME_MAX} bytes and no colon, its value at most {TAG_VALUE_MAX} bytes");
    (!fits).then(|| violation(&pointer(), detail()))
}

fn violation(pointer: &str, detail: String) -> Violation {
    Violation { pointer: pointer.into(), detail }
}
