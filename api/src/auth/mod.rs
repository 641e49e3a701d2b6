//! Who asks, and whether they may. The [`gate`] knows callers by their API keys, an endpoint asks for a [`caller`], and
//! a [`secret`] is the text of a key.

mod caller;
mod gate;
mod secret;

pub(crate) use caller::SCHEME;
pub use caller::{Caller, Operator};
pub use gate::{Gate, Pass};
pub use secret::{NoRandomness, NotAKey, Secret};
