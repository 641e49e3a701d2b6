//! What goes wrong, when, and how it is put right. [`fault`] names it, [`schedule`] chooses from a seed, [`hand`]
//! does it; [`planted`] is what it leaves in queues.

pub mod fault;
pub mod hand;
pub mod planted;
pub mod schedule;
