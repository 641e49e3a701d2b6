//! What is posted to webhooks: written and signed whenever an attempt goes out, so that the signature is fresh, the event
//! is as the log has it, and no secret travels.

use std::sync::Arc;

use buzzer_shared::id::DeliveryId;
use buzzer_shared::time::Clock;
use buzzer_shared::webhook::{Body, Post, Secret, Signed};
use bytes::Bytes;
use serde_json::json;
use serde_json::value::RawValue;

use crate::delivery::{Secrets, Told};
use crate::lifecycle::Job;
use crate::problem::ApiError;
use crate::store::{Letter, Store, StoreError};
use crate::view::EventView;

/// The type of what is posted as a test.
const TEST: &str = "webhook.test";

/// Writes them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Letters {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
}

impl Letters {
    /// The request's body for a job that makes an attempt, whose stored input names the delivery. `None`: there is nothing to
    /// post any more.
    ///
    /// # Errors
    /// When the store does not answer, or what it holds cannot be posted.
    pub async fn write(&self, run: &Job, input: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let id: DeliveryId = serde_json::from_slice(input).map_err(|error| unusable(&error))?;
        let Some(letter) = self.store.letter(id, run.id).await? else { return Ok(None) };
        let Some(body) = self.body(&letter).await? else { return Ok(None) };
        let now = self.clock.now();
        let secrets = self.secrets(&letter).await?;
        let signed = Signed::with(secrets.valid(now), &letter.id.to_string(), now, body.get());
        let url = letter.url.parse().map_err(|error| unusable(&error))?;
        let post = serde_json::to_vec(&Post { url, signed, body }).map_err(|error| unusable(&error))?;
        Ok(Some(post.into()))
    }

    /// The same at each attempt: an event never changes once it is in the log.
    async fn body(&self, letter: &Letter) -> Result<Option<Box<RawValue>>, StoreError> {
        let body = match letter.told {
            Told::Event { job, seq, .. } => {
                let entries = self.store.events(&letter.tenant, job, seq.saturating_sub(1), 1).await?;
                let Some(entry) = entries.first().filter(|entry| entry.seq == seq) else { return Ok(None) };
                let view = EventView::read(&*self.store, &letter.tenant, job, entry).await.map_err(shown)?;
                let Some(view) = view else { return Ok(None) };
                let data = RawValue::from_string(view.to_line().map_err(shown)?).map_err(|error| unusable(&error))?;
                Body { r#type: view.r#type.as_str(), timestamp: view.at, data: &data }.to_json()
            }
            Told::Test => {
                let data = json!({ "message": "This is a test of the webhook; no job is behind it." });
                let data = serde_json::value::to_raw_value(&data).map_err(|error| unusable(&error))?;
                Body { r#type: TEST, timestamp: letter.created_at, data: &data }.to_json()
            }
        };
        body.map(Some).map_err(|error| unusable(&error))
    }

    async fn secrets(&self, letter: &Letter) -> Result<Secrets, StoreError> {
        match &letter.secrets {
            Some(secrets) => Ok(secrets.clone()),
            None => self.store.job_secrets(&letter.tenant, &fresh_secret()?).await,
        }
    }
}

/// A new secret, from the randomness of the operating system.
///
/// # Errors
/// When the system has none to give.
pub fn fresh_secret() -> Result<Secret, StoreError> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| {
        StoreError::Unavailable(format!("the system gives no randomness to make a secret of: {error}"))
    })?;
    Ok(Secret::of(random))
}

fn unusable(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("a delivery cannot be written: {error}"))
}

fn shown(error: ApiError) -> StoreError {
    match error {
        ApiError::StoreUnavailable(error) => error,
        other => unusable(&other),
    }
}
