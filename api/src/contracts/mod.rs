//! What workers say of their kinds: whether it is taken, and what it breaks. No clock, no IO; what is deep has a
//! stack of its own.
//!
//! In reading order: [`sift()`] puts aside what cannot be used or would do harm ([`buzzer_shared::contract`] tells);
//! [`changes()`] tells what one contract breaks of another.

mod changes;
mod sift;

pub use changes::{Change, ChangeType, changes};
pub use sift::{KINDS_MAX, Refused, sift};
