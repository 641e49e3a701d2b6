//! Kinds that a file declares, `worker.toml`: each is run by a program (`exec`) or by a service (`push`).
//!
//! `docs/guides/write-a-worker.md` is its manual. What is wrong with it is told at the start, with file and line.

mod kind;
mod mistake;
mod schema;
mod source;
mod table;

use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use self::kind::DeclaredKind;
use self::mistake::Misplaced;
pub use self::mistake::{DeclaredError, Mistake};
use self::source::Source;
use crate::builder::WorkerBuilder;

/// The kinds that a file declares. On the command line, and in the environment, stands the name of the file; an empty
/// one declares nothing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Declared(Arc<[Arc<DeclaredKind>]>);

impl Declared {
    /// Adds them to what a worker runs.
    pub(crate) fn register(&self, worker: WorkerBuilder) -> WorkerBuilder {
        self.0.iter().fold(worker, |worker, kind| kind.register(worker))
    }

    fn read(file: &Path) -> Result<Self, DeclaredError> {
        let unreadable = |source| DeclaredError::Unreadable { file: file.into(), source };
        let text = fs::read_to_string(file).map_err(unreadable)?;
        // A run has a directory of its own: what is named here must be found from there, too.
        let folder = fs::canonicalize(file).map_err(unreadable)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let source = Source { file, text: &text, folder };
        source.kinds().map_err(|Misplaced { at, mistake }| DeclaredError::Mistake {
            file: file.into(),
            line: source.line(at),
            mistake,
        })
    }
}

impl FromStr for Declared {
    type Err = DeclaredError;

    /// Reads the file of this name.
    fn from_str(name: &str) -> Result<Self, DeclaredError> {
        if name.is_empty() { Ok(Self::default()) } else { Self::read(Path::new(name)) }
    }
}

#[cfg(test)]
mod tests;
