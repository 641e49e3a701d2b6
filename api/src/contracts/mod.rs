//! What workers say of their kinds: whether it is taken, what it makes of inputs, and what it breaks. No clock,
//! no IO; what is deep is looked at on a thread of its own, for the sake of its stack.
//!
//! In reading order: [`examine()`] refuses what cannot be used or would do harm; [`Checker`] is what is left of a
//! schema that is taken, and looks at inputs; [`changes()`] tells what one contract breaks of another.

mod changes;
mod checker;
mod contradiction;
mod examine;
mod schema;

pub use changes::{Change, ChangeType, changes};
pub use checker::{Checker, Misfit};
pub use examine::{KINDS_MAX, Refused, SIZE_MAX, examine, sift};
