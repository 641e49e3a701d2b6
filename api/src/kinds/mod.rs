//! What workers announced: kinds, and who runs them.

mod get;
mod list;
mod workers;

use aide::axum::ApiRouter;

use crate::state::AppState;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new().merge(list::route()).merge(get::route()).merge(workers::route())
}
