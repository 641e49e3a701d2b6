use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A program, how it is called, and what it may use up.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    /// Absolute: nobody looks for it again.
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// All that its environment has, beside what tells it of the job.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) limits: Limits,
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
