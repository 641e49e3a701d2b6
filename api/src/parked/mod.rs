//! Parked messages over HTTP: a file for each endpoint, and for what they show.

mod get;
mod list;
mod remove;
mod replay;

mod view;

use aide::axum::ApiRouter;
use aide::axum::routing::{get_with, post_with};

use crate::problem::{self, ProblemType};
use crate::state::AppState;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/v1/parked", get_with(list::list, list::doc))
        .api_route("/v1/parked/{id}", get_with(get::get, get::doc).delete_with(remove::remove, remove::doc))
        .api_route("/v1/parked/{id}/replay", post_with(replay::replay, replay::doc))
}

/// How a message is refused that is not there, or not within reach.
const NOT_THERE: &[ProblemType] = &[problem::NOT_PARKED, problem::BROKER_AWAY];

/// A parked message in the path.
#[derive(Debug, serde::Deserialize, schemars::JsonSchema)]
struct ParkedPath {
    /// Its id, as the list has it.
    id: String,
}
