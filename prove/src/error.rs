use std::io;
use std::path::PathBuf;

use crate::ground::GroundError;

/// Why a campaign could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    #[error(transparent)]
    Ground(#[from] GroundError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    /// The clients cannot work.
    #[error("no HTTP client: {0}")]
    Clients(String),
    /// The system could not be looked at when all was healed.
    #[error("the system does not say what it has, though all is healed: {0}")]
    Audit(String),
    /// Somebody stopped it.
    #[error("stopped before its end")]
    Stopped,
    /// It was not run to its end, and a system that is not ours is not as it was found.
    #[error("{ran}; {error}")]
    NotLeft { ran: Box<ProveError>, error: GroundError },
    /// No fault has the words that were asked for.
    #[error("no fault has a name with these words; there are:\n  {0}")]
    NoFault(String),
}
