use std::collections::{BTreeMap, BTreeSet};

use buzzer_shared::id::{DeliveryId, JobId, WebhookId};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::{Span, Time};
use buzzer_shared::webhook::{Answer, KIND, Secret};
use schemars::JsonSchema;
use serde::Serialize;

use super::JOBS;
use crate::delivery::{Attempt, Delivery, Disabled, Health, Secrets, State, StateName, Told, Webhook, Why, kind};
use crate::lifecycle::Events;
use crate::state::AppState;

/// A webhook endpoint as its owner sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct WebhookView {
    pub(super) id: WebhookId,
    url: String,
    /// The types of events that it is told.
    events: Events,
    /// Of jobs of these kinds; of all kinds where it is empty.
    kinds: BTreeSet<Kind>,
    /// Of jobs that have all of these tags.
    tags: BTreeMap<String, String>,
    description: Option<String>,
    /// Whether it is told anything. While it is not, events that come are not kept for it, and what waits already stays.
    enabled: bool,
    /// Since when it is not, and why.
    disabled: Option<DisabledView>,
    /// Since when every attempt has failed.
    failing_since: Option<Time>,
    /// Nothing is sent until then: it asked for that, or it has failed for a while.
    paused_until: Option<Time>,
    /// What verifies its deliveries. Shown here only, when it is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// Until when a former secret signs, too.
    former_secret_until: Option<Time>,
    created_at: Time,
    links: Links,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DisabledView {
    at: Time,
    reason: Reason,
    detail: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Reason {
    /// Somebody said so.
    Owner,
    /// It answered `410 Gone`.
    Gone,
    /// Every attempt has failed for days.
    Failing,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Links {
    #[serde(rename = "self")]
    this: String,
    deliveries: String,
}

impl WebhookView {
    /// As it is at `now`.
    pub(super) fn of(webhook: Webhook, now: Time) -> Self {
        let path = path(webhook.id);
        let Webhook { id, url, wants, description, secrets, health, created_at } = webhook;
        Self {
            id,
            url,
            events: wants.events,
            kinds: wants.kinds,
            tags: wants.tags,
            description,
            enabled: health.disabled.is_none(),
            disabled: health.disabled.map(DisabledView::of),
            failing_since: health.failing_since,
            paused_until: health.paused_until.filter(|until| *until > now),
            secret: None,
            former_secret_until: secrets.former_until(now),
            created_at,
            links: Links { deliveries: format!("{path}/deliveries"), this: path },
        }
    }

    /// With the secret, for who has just made it.
    pub(super) fn with_secret(mut self, secret: &Secret) -> Self {
        self.secret = Some(secret.reveal().into());
        self
    }
}

/// Where a webhook is found.
pub(super) fn path(id: WebhookId) -> String {
    format!("/v1/webhooks/{id}")
}

impl DisabledView {
    fn of(Disabled { at, why }: Disabled) -> Self {
        let (reason, detail) = match why {
            Why::Owner => (Reason::Owner, "somebody has disabled it"),
            Why::Gone => (Reason::Gone, "it answered 410 Gone"),
            Why::Failing => (
                Reason::Failing,
                "every attempt has failed for too long; mend it, enable it, and replay what it missed",
            ),
        };
        Self { at, reason, detail }
    }
}

/// A secret, for whom it belongs to.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct SecretView {
    /// What verifies deliveries.
    secret: String,
    /// Until when a former secret signs, too.
    former_secret_until: Option<Time>,
}

impl SecretView {
    pub(super) fn of(secrets: &Secrets, now: Time) -> Self {
        Self { secret: secrets.present().reveal().into(), former_secret_until: secrets.former_until(now) }
    }
}

/// One event on its way to a webhook, or one that was.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct DeliveryView {
    /// Also the `webhook-id` of each attempt.
    id: DeliveryId,
    /// What is told; null for a test.
    event: Option<EventRef>,
    url: String,
    state: StateName,
    created_at: Time,
    /// Not before this is it tried, or tried again; null when it is on its way, or over.
    next_attempt_at: Option<Time>,
    /// What it waits for; null when it does not wait.
    waiting: Option<String>,
    finished_at: Option<Time>,
    /// The last 50, the oldest first.
    attempts: Vec<AttemptView>,
    links: DeliveryLinks,
}

#[derive(Debug, Serialize, JsonSchema)]
struct EventRef {
    r#type: crate::lifecycle::LogType,
    job_id: JobId,
    seq: u32,
}

#[derive(Debug, Serialize, JsonSchema)]
struct DeliveryLinks {
    replay: String,
}

/// One attempt, and what came of it.
#[derive(Debug, Serialize, JsonSchema)]
struct AttemptView {
    at: Time,
    duration: Span,
    /// Of the response, where there was one. 2xx is a success.
    status: Option<u16>,
    /// The first KiB of the response's body, as text.
    answer: Option<String>,
    /// Why there was no response.
    error: Option<String>,
}

/// To whom deliveries go, as far as they show it.
pub(super) enum To {
    Webhook { id: WebhookId, url: String, health: Health },
    NamedByJobs,
}

impl To {
    pub(super) fn webhook(webhook: Webhook) -> Self {
        Self::Webhook { id: webhook.id, url: webhook.url, health: webhook.health }
    }

    fn path(&self) -> String {
        match self {
            Self::Webhook { id, .. } => path(*id),
            Self::NamedByJobs => format!("/v1/webhooks/{JOBS}"),
        }
    }
}

impl DeliveryView {
    pub(super) fn of(delivery: Delivery, to: &To, state: &AppState) -> Self {
        let waiting = waiting(&delivery, to, state);
        let Delivery { id, of, url, created_at, state, attempts, .. } = delivery;
        let event = match of {
            Told::Event { job, seq, r#type } => Some(EventRef { r#type, job_id: job, seq }),
            Told::Test => None,
        };
        let own = match to {
            To::Webhook { url, .. } => url.clone(),
            To::NamedByJobs => String::new(),
        };
        let (next_attempt_at, finished_at) = match state {
            State::Waiting { due } => (Some(due), None),
            State::UnderWay { .. } => (None, None),
            State::Delivered { at } | State::Failed { at } => (None, Some(at)),
        };
        Self {
            id,
            event,
            url: url.unwrap_or(own),
            state: state.name(),
            created_at,
            next_attempt_at,
            waiting,
            finished_at,
            attempts: attempts.into_iter().map(AttemptView::of).collect(),
            links: DeliveryLinks { replay: format!("{}/deliveries/{id}/replay", to.path()) },
        }
    }
}

/// Nobody waits in the dark.
fn waiting(delivery: &Delivery, to: &To, state: &AppState) -> Option<String> {
    let no_worker = (!state.lanes.has_worker(&kind())).then(|| format!("no worker runs {KIND} now"));
    let due = match delivery.state {
        State::Waiting { due } => due,
        State::UnderWay { .. } => return no_worker,
        State::Delivered { .. } | State::Failed { .. } => return None,
    };
    let health = match to {
        To::Webhook { health, .. } => *health,
        To::NamedByJobs => Health::default(),
    };
    let now = state.clock.now();
    if health.disabled.is_some() {
        return Some("the webhook is disabled".into());
    }
    if let Some(until) = health.paused_until.filter(|until| *until > now.max(due)) {
        return Some(format!("nothing is sent there before {until}"));
    }
    if due > now {
        return Some(format!("the next attempt is not due before {due}"));
    }
    Some(
        no_worker
            .unwrap_or_else(|| "its turn: an endpoint is sent a few at a time, and one that fails a single one".into()),
    )
}

impl AttemptView {
    fn of(Attempt { at, duration, answer }: Attempt) -> Self {
        let (status, answer, error) = match answer {
            Answer::Response { status, body, .. } => (Some(status), Some(body), None),
            Answer::Nothing(reason) => (None, None, Some(reason)),
        };
        Self { at, duration, status, answer, error }
    }
}
