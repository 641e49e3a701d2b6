//! What goes wrong, when, and how it is put right. [`fault`] names it, [`schedule`] chooses from a seed, [`hand`] does
//! it.

pub mod fault;
pub mod hand;
pub mod schedule;
