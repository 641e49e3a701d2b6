use std::collections::BTreeMap;

use buzzer_shared::id::{DeliveryId, JobId, WebhookId};
use buzzer_shared::kind::Kind;
use buzzer_shared::time::{Span, Time};
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Addressee;
use super::deliveries::DeliveryState;
use crate::client::{Client, ClientError, DEADLINE, Said};
use crate::output::plain;

const WEBHOOKS: &str = "webhooks";

/// An endpoint to register.
#[derive(Debug, Serialize)]
pub(super) struct NewWebhook {
    pub(super) url: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) events: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) kinds: Vec<Kind>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
}

/// What is to be different.
#[derive(Debug, Default, Serialize)]
pub(super) struct Change {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) events: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kinds: Option<Vec<Kind>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tags: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<Option<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) enabled: Option<bool>,
}

/// A webhook. What a newer server says beyond this is left alone.
#[derive(Debug, Deserialize)]
pub(super) struct Webhook {
    pub(super) id: WebhookId,
    pub(super) url: String,
    pub(super) events: Vec<String>,
    kinds: Vec<String>,
    tags: BTreeMap<String, String>,
    pub(super) description: Option<String>,
    enabled: bool,
    disabled: Option<Disabled>,
    failing_since: Option<Time>,
    pub(super) secret: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Disabled {
    reason: String,
}

impl Webhook {
    /// In a word.
    pub(super) fn state(&self) -> String {
        match (&self.disabled, self.enabled, self.failing_since) {
            (Some(disabled), _, _) => format!("disabled:{}", plain(&disabled.reason)),
            (None, false, _) => "disabled".into(),
            (None, true, Some(_)) => "failing".into(),
            (None, true, None) => "enabled".into(),
        }
    }

    /// Of which jobs it is told.
    pub(super) fn filter(&self) -> String {
        let tags = self.tags.iter().map(|(name, value)| format!("{name}={value}"));
        self.kinds.iter().cloned().chain(tags).collect::<Vec<_>>().join(" ")
    }
}

/// Some of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// The cursor of the next page.
    pub(super) next: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Secret {
    pub(super) secret: String,
    pub(super) former_secret_until: Option<Time>,
}

/// Which deliveries. The names are those of the query.
#[derive(Debug, Serialize)]
pub(super) struct Search {
    pub(super) state: Option<DeliveryState>,
    pub(super) job: Option<JobId>,
    pub(super) limit: u16,
    pub(super) cursor: Option<String>,
}

/// A delivery. What a newer server says beyond this is left alone.
#[derive(Debug, Deserialize)]
pub(super) struct Delivery {
    pub(super) id: DeliveryId,
    /// `None` for a test.
    pub(super) event: Option<EventRef>,
    pub(super) state: String,
    pub(super) created_at: Time,
    waiting: Option<String>,
    pub(super) attempts: Vec<Attempt>,
}

#[derive(Debug, Deserialize)]
pub(super) struct EventRef {
    pub(super) r#type: String,
    pub(super) job_id: JobId,
    pub(super) seq: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct Attempt {
    duration: String,
    status: Option<u16>,
    error: Option<String>,
}

impl Delivery {
    /// What came of the last attempt, and what it waits for.
    pub(super) fn news(&self) -> String {
        let last = self.attempts.last().map(|attempt| match (attempt.status, &attempt.error) {
            (Some(status), _) => format!("{status} in {}", plain(&attempt.duration)),
            (None, error) => plain(error.as_deref().unwrap_or("no answer")),
        });
        let waiting = self.waiting.as_deref().map(plain);
        last.into_iter().chain(waiting).collect::<Vec<_>>().join("; ")
    }
}

/// Which events are to go out again.
#[derive(Debug, Serialize)]
pub(super) struct ReplayEvents {
    pub(super) from: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) to: Option<Time>,
    pub(super) undelivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Replayed {
    pub(super) replayed: usize,
    pub(super) next: Option<String>,
}

impl Client {
    pub(super) async fn create_webhook(&self, order: &NewWebhook) -> Result<Said<Webhook>, ClientError> {
        self.send(self.request(Method::POST, &[WEBHOOKS]).json(order), DEADLINE).await
    }

    pub(super) async fn webhooks(&self, limit: u16, cursor: Option<&str>) -> Result<Said<Page<Webhook>>, ClientError> {
        let request = self.request(Method::GET, &[WEBHOOKS]).query(&[("limit", limit)]).query(&[("cursor", cursor)]);
        self.send(request, DEADLINE).await
    }

    pub(super) async fn webhook(&self, id: WebhookId) -> Result<Said<Webhook>, ClientError> {
        self.send(self.request(Method::GET, &[WEBHOOKS, &id.to_string()]), DEADLINE).await
    }

    pub(super) async fn update_webhook(&self, id: WebhookId, change: &Change) -> Result<Said<Webhook>, ClientError> {
        self.send(self.request(Method::PATCH, &[WEBHOOKS, &id.to_string()]).json(change), DEADLINE).await
    }

    pub(super) async fn delete_webhook(&self, id: WebhookId) -> Result<Said<Webhook>, ClientError> {
        self.send(self.request(Method::DELETE, &[WEBHOOKS, &id.to_string()]), DEADLINE).await
    }

    pub(super) async fn rotate_secret(
        &self,
        of: &Addressee,
        overlap: Option<Span>,
    ) -> Result<Said<Secret>, ClientError> {
        let order = overlap.map_or_else(|| json!({}), |overlap| json!({ "overlap": overlap }));
        self.send(self.request(Method::POST, &[WEBHOOKS, &of.to_string(), "rotate"]).json(&order), DEADLINE).await
    }

    pub(super) async fn job_secret(&self) -> Result<Said<Secret>, ClientError> {
        self.send(self.request(Method::GET, &[WEBHOOKS, "jobs", "secret"]), DEADLINE).await
    }

    pub(super) async fn test_webhook(&self, id: WebhookId) -> Result<Said<Delivery>, ClientError> {
        self.send(self.request(Method::POST, &[WEBHOOKS, &id.to_string(), "test"]), DEADLINE).await
    }

    pub(super) async fn deliveries(
        &self,
        to: &Addressee,
        search: &Search,
    ) -> Result<Said<Page<Delivery>>, ClientError> {
        let request = self.request(Method::GET, &[WEBHOOKS, &to.to_string(), "deliveries"]).query(search);
        self.send(request, DEADLINE).await
    }

    pub(super) async fn replay_delivery(&self, to: &Addressee, id: DeliveryId) -> Result<Said<Delivery>, ClientError> {
        let path = [WEBHOOKS, &to.to_string(), "deliveries", &id.to_string(), "replay"];
        self.send(self.request(Method::POST, &path), DEADLINE).await
    }

    pub(super) async fn replay_events(
        &self,
        id: WebhookId,
        events: &ReplayEvents,
    ) -> Result<Said<Replayed>, ClientError> {
        // The server looks through many events for it.
        let request = self.request(Method::POST, &[WEBHOOKS, &id.to_string(), "replay"]).json(events);
        self.send(request, DEADLINE * 4).await
    }
}
