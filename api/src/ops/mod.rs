//! For those who run Buzzer: is it alive, is it ready, how much is there to do.

mod health;
mod problems;
mod stats;

use aide::axum::ApiRouter;

use crate::state::AppState;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new().merge(health::routes()).merge(stats::route()).merge(problems::route())
}
