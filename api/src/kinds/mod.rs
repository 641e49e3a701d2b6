//! What workers announced: kinds, and who runs them.

mod get;
mod list;
mod workers;

use aide::axum::ApiRouter;
use aide::axum::routing::get_with;

use crate::state::AppState;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new()
        .api_route("/v1/kinds", get_with(list::list, list::doc))
        .api_route("/v1/kinds/{kind}", get_with(get::get, get::doc))
        .api_route("/v1/workers", get_with(workers::list, workers::doc))
}
