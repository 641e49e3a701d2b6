//! WebSocket (RFC 6455) as far as Buzzer speaks it: a request that becomes one, and what goes over it. What is said there, and
//! why, is the endpoints' affair.

mod goodbye;
mod socket;
mod upgrade;

pub use goodbye::Goodbye;
pub use socket::{Heard, Socket};
pub use upgrade::{Upgrade, or_upgrades};
