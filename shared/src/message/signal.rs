use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{HeaderForm, HeaderSpec, JSON, Message, MessageSpec, Unreadable, to_json};
use crate::id::{RunId, WorkerId};
use crate::time::Time;

/// What a run tells while it runs. May be dropped on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    pub run: RunId,
    /// 1, 2, 3, … within the run.
    pub n: u32,
    pub worker: WorkerId,
    pub at: Time,
    pub body: SignalBody,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "signal", rename_all = "snake_case")]
pub enum SignalBody {
    /// The handler was called.
    Started,
    /// How far it is.
    Progress {
        /// 0 to 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        percent: Option<f64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// Something to read: a line, or several.
    Log { text: String },
    /// The next piece of its output, to look at before it is whole.
    Output { chunk: String },
}

/// A signal without its run, as an outcome carries it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Told {
    /// The number of the signal within its run: one that came by itself, too, counts once.
    pub n: u32,
    pub at: Time,
    #[serde(flatten)]
    pub body: SignalBody,
}

impl Signal {
    pub const TYPE: &'static str = "buzzer.signal.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "What a run tells while it runs, at most ten times a second. It may be lost.",
        of_run: true,
        waits: false,
        headers: &[
            HeaderSpec::always("n", HeaderForm::Number, "1, 2, 3, … within the run."),
            HeaderSpec::always("worker", HeaderForm::Text, "The id of the worker."),
            HeaderSpec::always("at-ms", HeaderForm::Number, "When, in milliseconds since 1970."),
        ],
    };

    pub fn to_message(&self) -> Message {
        Message {
            r#type: Self::TYPE.into(),
            message_id: Some(self.run.to_string()),
            correlation_id: Some(self.run.job.to_string()),
            content_type: JSON.into(),
            headers: vec![
                ("n".into(), self.n.into()),
                ("worker".into(), self.worker.to_string().as_str().into()),
                ("at-ms".into(), super::Header::Int(self.at.as_millis())),
            ],
            body: to_json(&self.body),
            ..Message::default()
        }
    }

    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        message.expect_type(Self::TYPE)?;
        Ok(Self {
            run: message.run()?,
            n: message.number("n")?,
            worker: message.parsed("worker", "a worker's id")?,
            at: Time::from_millis(message.number("at-ms")?),
            body: serde_json::from_slice(&message.body)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    #[test]
    fn a_signal_is_read_as_it_was_written() {
        let at = Time::from_millis(1_795_000_000_000);
        for body in [
            SignalBody::Started,
            SignalBody::Progress { percent: Some(40.0), message: Some("page 2".into()) },
            SignalBody::Log { text: "one\ntwo \u{0} ü".into() },
            SignalBody::Output { chunk: " half".into() },
        ] {
            let run = RunId { job: JobId::new(at), dispatch: 1 };
            let signal = Signal { run, n: 3, worker: WorkerId::new(at), at, body };
            assert_eq!(Signal::read(&signal.to_message()), Ok(signal));
        }
    }
}
