//! Which URLs may be called. Pure: the calls are made by workers, which also check each address that is dialled.
//!
//! Whoever may name a URL could otherwise make Buzzer call what trusts its network: databases, metadata of the cloud,
//! neighbours (server-side request forgery).

mod address;
mod allow;
mod reach;

pub use allow::{AllowList, InvalidAllowList};
pub use reach::{Reach, Refused};
