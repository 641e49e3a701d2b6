use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A program, how it is called, and what it may use up.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Absolute: nobody looks for it again.
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// All that its environment has, beside what tells it of the job.
    pub(crate) environment: Environment,
    pub(crate) limits: Limits,
}

/// Variables of an environment, by name. `Debug` shows the names alone: a value may be a secret, and a log is read by
/// many.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Environment(pub(crate) BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What one run of a program may use up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of address space, for each of its processes. `None` for no limit.
    pub(crate) memory: Option<u64>,
    /// Time of a processor, for each of its processes, in whole seconds. `None` for no limit.
    pub(crate) cpu: Option<u64>,
    /// How many files each of its processes may have open.
    pub(crate) files: u64,
    /// Bytes on its standard output, in all.
    pub(crate) stdout: usize,
    /// Bytes of one line there.
    pub(crate) line: usize,
    /// How long it may go on once it was asked to stop, by SIGTERM; then it is killed.
    pub(crate) grace: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_of_an_environment_is_shown() {
        let environment = Environment(BTreeMap::from([("DATABASE_URL".into(), "s3cret".into())]));
        let limits =
            Limits { memory: None, cpu: None, files: 64, stdout: 100, line: 40, grace: Duration::from_secs(1) };
        let program = Program { path: "/bin/cat".into(), args: Vec::new(), environment, limits };
        let shown = format!("{program:?} {program:#?}");
        assert!(shown.contains("DATABASE_URL") && !shown.contains("s3cret"), "{shown}");
    }
}
