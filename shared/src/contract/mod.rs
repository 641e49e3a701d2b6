//! What is said of a kind, and what it makes of values: JSON Schemas that can be tried in bounded time.
//!
//! In reading order: [`examine()`] refuses what cannot be used or would do harm; [`Checker`] is what is left of a schema
//! that is taken, and looks at values, and a [`Misfit`] what it finds; [`Document`] follows references. No clock, no IO.

mod checker;
mod contradiction;
mod examine;
mod misfit;
mod schema;
mod stack;
mod types;

pub use checker::Checker;
pub use examine::{SIZE_MAX, examine, runnable, usable};
pub use misfit::Misfit;
pub use schema::{Document, visit};
pub use stack::on_a_deep_stack;
pub use types::{allows, type_of};
