//! Who asks, and whether they may. The [`gate`] knows callers by the [`credentials`] that they send, an endpoint asks for a
//! [`caller`], and a [`secret`] is the text of a key or a ticket. Where nobody needs any, [`host`] keeps out the pages of
//! the web.

mod caller;
mod credentials;
mod gate;
mod host;
mod recent;
mod secret;

pub use caller::{Caller, Operator, Viewer};
pub(crate) use caller::{KEY_SCHEME, TICKET_SCHEME};
pub use credentials::TICKET;
pub use gate::{Gate, Pass};
pub(crate) use host::names_this_machine;
pub use secret::{NoRandomness, NotAKey, NotATicket, Secret, TicketSecret};
