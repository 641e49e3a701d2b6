//! What workers announced: kinds, and who runs them.

mod catalog;
mod get;
mod list;
mod workers;

use aide::axum::ApiRouter;

pub use catalog::{Catalog, Entry};

use crate::app::AppState;

pub fn router() -> ApiRouter<AppState> {
    ApiRouter::new().merge(list::route()).merge(get::route()).merge(workers::route())
}
