//! For those who run Buzzer: is it alive, is it ready, how much is there to do.

mod health;
mod problems;
mod stats;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;

use crate::state::AppState;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/livez", get_with(health::alive, health::alive_doc))
        .api_route("/readyz", get_with(health::ready, health::ready_doc))
        .api_route("/v1/stats", get_with(stats::stats, stats::doc))
        .api_route("/problems/{slug}", get_with(problems::page, problems::doc))
}
