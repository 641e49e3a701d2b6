//! What the clients asked and were answered, written to a file before their next step, one JSON object on a line.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::nemesis::fault::{Fault, Part};

/// A submission's own number: a tag of its job.
pub type Number = u64;

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Milliseconds since the campaign began.
    pub at: u64,
    #[serde(flatten)]
    pub entry: Entry,
}

/// Something that a client or the nemesis did, or was told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Entry {
    /// A job is about to be handed in.
    Asked { n: Number, kind: String, input: Value },
    /// The answer was a job.
    Accepted { n: Number, id: String },
    /// The answer was a refusal that means: nothing was stored. `busy` is one that an overloaded system may give.
    Refused { n: Number, status: u16, problem: String, busy: bool },
    /// There was no answer, or one that leaves it open.
    Unsure { n: Number, why: String },
    /// The same key with another body was answered so; `id` where that was a job.
    Contradicted { n: Number, status: u16, id: Option<String> },
    /// A cancel is about to be asked for.
    CancelAsked { id: String },
    /// The answer to a cancel, with the job's state in it.
    CancelAnswered { id: String, status: u16, state: String },
    /// An answer told of a job that is done.
    Told { id: String, state: String, seq: u64, output: Value },
    /// A reader of the feed begins: it must be shown all.
    Reads { reader: usize },
    /// Who followed a job was told that there will be no more: it must have been shown all.
    Followed { job: String },
    /// A reader of the feed was shown an event.
    Fed { reader: usize, feed: u64, job: String, seq: u64, event: String },
    /// A reader of one job's stream was shown an event.
    Streamed { job: String, seq: u64, event: String },
    /// Faults begin.
    Struck { strike: usize, faults: Vec<Fault> },
    /// They are healed.
    Healed { strike: usize },
    /// A job that was handed in since has succeeded, so many milliseconds after the healing.
    Recovered { strike: usize, ms: u64 },
    /// None has, in all the time that was given.
    Unrecovered { strike: usize, ms: u64 },
    /// The nemesis has put into a queue what nobody can use; RabbitMQ has said that it has it, or nothing.
    Planted { mark: String, is_confirmed: bool },
    /// A part ended by itself, or not as it should.
    Died { part: Part, how: String },
    /// What the API held in memory, in bytes.
    Memory { api: usize, bytes: u64 },
}

/// The file, open for writing.
#[derive(Debug)]
pub struct Ledger {
    file: Mutex<File>,
    began: Instant,
}

impl Ledger {
    /// Begins a new one.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn begin(path: &Path, began: Instant) -> io::Result<Self> {
        Ok(Self { file: Mutex::new(File::create(path)?), began })
    }

    /// Writes a line. Whoever calls goes on when the operating system has it: that outlives us.
    ///
    /// # Panics
    /// When the disk takes no more: what cannot be written down must not be done.
    pub fn write(&self, entry: Entry) {
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mut line = serde_json::to_vec(&Line { at, entry }).expect("an entry is JSON");
        line.push(b'\n');
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line).expect("the ledger's disk takes no more: make room, or name another with --keep");
    }
}

/// Reads what was written.
///
/// # Errors
/// When the file is not there, or no ledger.
pub fn read(path: &Path) -> io::Result<Vec<Line>> {
    let lines = BufReader::new(File::open(path)?).lines();
    lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ledger");
        let ledger = Ledger::begin(&path, Instant::now()).unwrap();
        let entries = [
            Entry::Asked { n: 1, kind: "echo".into(), input: json!({"a": [1.5, "ü"]}) },
            Entry::Struck { strike: 0, faults: vec![Fault::Kill(Part::Worker(1)), Fault::RollApis] },
            Entry::Fed { reader: 1, feed: 9, job: "j".into(), seq: 2, event: "job.started".into() },
        ];
        for entry in entries.clone() {
            ledger.write(entry);
        }
        let lines = read(&path).unwrap();
        assert_eq!(lines.into_iter().map(|line| line.entry).collect::<Vec<_>>(), entries);
    }
}
