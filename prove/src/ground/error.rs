use std::io;
use std::path::Path;

use crate::nemesis::fault::{Fault, Part};
use crate::wait::TooLate;

/// Why a system could not be set up, or something could not be done to it.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// Something is not on this machine; says what to install or to name.
    #[error("{0}")]
    Missing(String),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error(transparent)]
    TooLate(#[from] TooLate),
    /// A program said no.
    #[error("{what}: {said}")]
    Said { what: String, said: String },
    /// The system has no such part.
    #[error("this system has no {0:?}")]
    NoPart(Part),
    /// The system is not of a sort that this can happen to.
    #[error("{0} cannot happen to this system")]
    Unfit(Fault),
}

impl GroundError {
    /// For `map_err`: what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what: what.into(), source }
    }

    /// For `map_err`: which file.
    pub fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        Self::io(path.display().to_string())
    }

    /// What a program, a server or a library said.
    pub fn said(what: impl Into<String>, said: &impl ToString) -> Self {
        Self::Said { what: what.into(), said: said.to_string().trim().to_owned() }
    }
}
