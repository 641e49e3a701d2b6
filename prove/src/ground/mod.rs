//! The systems that faults happen to: one of our own ([`own`]), made of processes, or a Compose project that runs
//! ([`compose`]). To the nemesis both are a [`Ground`].

pub mod compose;
pub mod disk;
pub mod error;
pub mod guardian;
pub mod own;
pub mod ports;
pub mod postgres;
pub mod process;
pub mod rabbitmq;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::kind::Kind;

pub use self::error::GroundError;
use crate::nemesis::fault::{Fault, Part, Shape};
use crate::nemesis::planted::Planted;

/// A running system. Dropped, it is as if it had never been harmed.
#[async_trait(?Send)]
pub trait Ground: fmt::Debug {
    /// Which faults it can have.
    fn shape(&self) -> Shape;

    /// Where clients come in.
    fn doors(&self) -> Vec<String>;

    /// The same, and each API for itself, as it is reached now.
    ///
    /// # Errors
    /// When that cannot be seen.
    async fn every_door(&self) -> Result<Vec<String>, GroundError>;

    /// Whether others use it, too: then not everything on it is of the campaign, and what is goes when it ends well.
    fn is_shared(&self) -> bool;

    /// The longest time after which what nobody speaks for goes out again.
    fn lease(&self) -> Duration;

    /// What could not be set up, and why: the faults that need it are left out.
    fn skipped(&self) -> &[String];

    /// What it runs on.
    ///
    /// # Errors
    /// When a part does not tell.
    async fn make(&self) -> Result<Make, GroundError>;

    /// What each API holds in memory, in bytes, as far as that can be seen.
    async fn memory(&self) -> Vec<(usize, u64)>;

    /// Ends a part at once, as a crash would.
    ///
    /// # Errors
    /// When that cannot be done.
    async fn kill(&self, part: Part) -> Result<(), GroundError>;

    /// Freezes a part: its sockets stay open and nothing answers.
    ///
    /// # Errors
    /// When that cannot be done.
    async fn freeze(&self, part: Part) -> Result<(), GroundError>;

    /// Ends what [`freeze`](Self::freeze) began.
    ///
    /// # Errors
    /// When that cannot be done.
    async fn thaw(&self, part: Part) -> Result<(), GroundError>;

    /// Asks a part to stop, as a service manager would, and waits until it has. How it ended, where that was not well.
    ///
    /// # Errors
    /// When it does not stop.
    async fn stop(&self, part: Part) -> Result<Option<String>, GroundError>;

    /// Starts a part that does not run.
    ///
    /// # Errors
    /// When it does not start.
    async fn start(&self, part: Part) -> Result<(), GroundError>;

    /// Waits until a part that was started is there: one that others talk to answers, a worker runs.
    ///
    /// # Errors
    /// When it is not there in time.
    async fn is_there(&self, part: Part) -> Result<(), GroundError>;

    /// Starts a worker more than there are.
    ///
    /// # Errors
    /// When it does not start.
    async fn add_worker(&self) -> Result<(), GroundError>;

    /// Stops that worker. How it ended, where that was not well.
    ///
    /// # Errors
    /// When it does not stop.
    async fn remove_worker(&self) -> Result<Option<String>, GroundError>;

    /// Does a fault that is of another sort than these, where the shape has it. What it has put into queues and nobody
    /// can use.
    ///
    /// # Errors
    /// When that cannot be done.
    async fn strike(&self, fault: Fault) -> Result<Vec<Planted>, GroundError>;

    /// Ends what [`strike`](Self::strike) began.
    ///
    /// # Errors
    /// When that cannot be done.
    async fn heal(&self, fault: Fault) -> Result<(), GroundError>;

    /// Which parts have ended by themselves since this was asked last, and how.
    ///
    /// # Errors
    /// When that cannot be seen.
    async fn ended(&self) -> Result<Vec<(Part, String)>, GroundError>;

    /// Leaves what is not ours as it was found; `kinds` are those that were announced on it.
    ///
    /// # Errors
    /// When that does not succeed, with what is to be done by hand.
    async fn leave(&self, kinds: &[Kind]) -> Result<(), GroundError>;
}

/// What a system runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Make {
    /// The store, in one word.
    pub store: &'static str,
    /// Names and versions of Buzzer, broker and store.
    pub versions: Vec<String>,
}
