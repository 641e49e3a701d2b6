//! Webhooks over HTTP: a file for each endpoint, and for what they read and show.

mod create;
mod delete;
mod deliveries;
mod get;
mod list;
mod replay;
mod replay_events;
mod rotate;
mod secret;
mod test;
mod update;

mod check;
mod view;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};
use buzzer_shared::id::{DeliveryId, WebhookId};

use crate::problem::{self, ApiError, ProblemType};
use crate::state::AppState;
use crate::store::Addressee;

/// How a path is refused that names no webhook.
const NO_WEBHOOK: &[ProblemType] = &[problem::BAD_ID, problem::UNKNOWN_WEBHOOK];

/// In place of an id: the webhooks that jobs have named themselves.
const JOBS: &str = "jobs";

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/v1/webhooks", post_with(create::create, create::doc).get_with(list::list, list::doc))
        .api_route("/v1/webhooks/jobs/secret", get_with(secret::secret, secret::doc))
        .api_route(
            "/v1/webhooks/{webhook}",
            get_with(get::get, get::doc)
                .patch_with(update::update, update::doc)
                .delete_with(delete::delete, delete::doc),
        )
        .api_route("/v1/webhooks/{webhook}/rotate", post_with(rotate::rotate, rotate::doc))
        .api_route("/v1/webhooks/{webhook}/test", post_with(test::test, test::doc))
        .api_route("/v1/webhooks/{webhook}/deliveries", get_with(deliveries::deliveries, deliveries::doc))
        .api_route("/v1/webhooks/{webhook}/deliveries/{delivery}/replay", post_with(replay::replay, replay::doc))
        .api_route("/v1/webhooks/{webhook}/replay", post_with(replay_events::replay, replay_events::doc))
}

/// A webhook in the path.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct WebhookPath {
    /// The webhook's id.
    webhook: String,
}

impl WebhookPath {
    fn id(&self) -> Result<WebhookId, ApiError> {
        self.webhook.parse().map_err(|_| ApiError::BadWebhookId(self.webhook.clone()))
    }
}

/// A webhook in the path, or those that jobs have named.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct AddresseePath {
    /// The webhook's id; `jobs` for those that jobs have named themselves.
    webhook: String,
}

impl AddresseePath {
    fn addressee(&self) -> Result<Addressee, ApiError> {
        addressee(&self.webhook)
    }
}

/// A delivery in the path.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct DeliveryPath {
    /// The webhook's id; `jobs` for those that jobs have named themselves.
    webhook: String,
    /// The delivery's id, which is also the `webhook-id` of each attempt.
    delivery: String,
}

impl DeliveryPath {
    fn addressee(&self) -> Result<Addressee, ApiError> {
        addressee(&self.webhook)
    }

    fn id(&self) -> Result<DeliveryId, ApiError> {
        self.delivery.parse().map_err(|_| ApiError::BadDeliveryId(self.delivery.clone()))
    }
}

fn addressee(text: &str) -> Result<Addressee, ApiError> {
    if text == JOBS {
        return Ok(Addressee::NamedByJobs);
    }
    text.parse().map(Addressee::Webhook).map_err(|_| ApiError::BadWebhookId(text.into()))
}

/// There is none, or none of this tenant's.
fn unknown(webhook: impl std::fmt::Display) -> ApiError {
    ApiError::UnknownWebhook(webhook.to_string())
}
