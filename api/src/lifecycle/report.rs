use buzzer_shared::message::{SignalBody, Told};
use buzzer_shared::time::Time;
use serde_json::{Value, json};

use super::{LogType, Progress};

/// So many bytes of the log of one job may its handlers fill, over all its runs. Then one mark says that there was more.
pub const TOLD_MAX: u32 = 1024 * 1024;
/// What an entry costs beside its data.
const ENTRY: usize = 64;

/// Something that a handler tells while it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    Progress(Progress),
    Log(String),
    /// The next piece of its output, to look at before it is whole.
    Output(String),
}

/// A report that came with the outcome.
#[derive(Debug, Clone, PartialEq)]
pub struct Late {
    /// The number of its signal: one that was taken before counts no second time.
    pub n: u32,
    pub at: Time,
    pub report: Report,
}

impl Report {
    /// What a signal tells; `None` for one that tells of a start alone.
    pub fn of(signal: SignalBody) -> Option<Self> {
        match signal {
            SignalBody::Started => None,
            SignalBody::Progress { percent, message } => Some(Self::Progress(Progress { percent, message })),
            SignalBody::Log { text } => Some(Self::Log(text)),
            SignalBody::Output { chunk } => Some(Self::Output(chunk)),
        }
    }

    pub(super) fn log_type(&self) -> LogType {
        match self {
            Self::Progress(_) => LogType::Progress,
            Self::Log(_) => LogType::Log,
            Self::Output(_) => LogType::Output,
        }
    }

    pub(super) fn data(&self) -> Value {
        match self {
            Self::Progress(progress) => json!(progress),
            Self::Log(text) => json!({ "text": text }),
            Self::Output(chunk) => json!({ "chunk": chunk }),
        }
    }
}

impl Late {
    pub fn of(Told { n, at, body }: Told) -> Option<Self> {
        Report::of(body).map(|report| Self { n, at, report })
    }
}

/// How many bytes of a log an entry with this data takes.
pub(super) fn size(data: &Value) -> u32 {
    u32::try_from(data.to_string().len() + ENTRY).unwrap_or(u32::MAX)
}
