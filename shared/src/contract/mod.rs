//! What is said of a kind, and what it makes of values: JSON Schemas that can be tried in bounded time.
//!
//! In reading order: [`examine()`] refuses what cannot be used or would do harm; [`Checker`] is what is left of a schema
//! that is taken, and looks at values; [`Document`] follows references. No clock, no IO; what is deep is looked at on a
//! thread of its own, for the sake of its stack.

mod checker;
mod contradiction;
mod examine;
mod schema;
mod types;

pub use checker::{Checker, Misfit};
pub use examine::{SIZE_MAX, examine, runnable, usable};
pub use schema::Document;
pub use types::{allows, type_of};
