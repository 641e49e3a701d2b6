//! Those who use the system, and write down each answer before their next step: who hands in jobs ([`load`]), who reads
//! along ([`reader`]), who looks whether it works again ([`probe`]), and who looks at everything at the end ([`audit`]).

pub mod audit;
mod door;
pub mod load;
pub mod probe;
pub mod reader;
mod submission;

pub use self::door::Door;
