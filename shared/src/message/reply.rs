use super::{Header, HeaderForm, HeaderSpec, JSON, Message, MessageSpec, Outcome, Unreadable};
use crate::id::{RunId, WorkerId};
use crate::time::Time;

/// What comes on the replies queue. None of it is ever dropped.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    Outcome(Outcome),
    Started(Started),
}

impl Reply {
    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        match &*message.r#type {
            Started::TYPE => Started::read(message).map(Self::Started),
            Outcome::TYPE => Outcome::read(message).map(Self::Outcome),
            other => Err(Unreadable::Type { found: other.into(), expected: "buzzer.outcome.v1 or buzzer.started.v1" }),
        }
    }
}

/// A worker acknowledges this request before it runs it: from now on the broker will not deliver it again, and the run
/// lives on the worker's beats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    pub run: RunId,
    pub worker: WorkerId,
    pub at: Time,
    /// Whether it is this run's own doing, should the worker crash now.
    pub charged: bool,
}

impl Started {
    pub const TYPE: &'static str = "buzzer.started.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "A request is acknowledged before it is run: sent, and confirmed, before that. From then on the run lives on \
                  the worker's beats.",
        of_run: true,
        waits: false,
        headers: &[
            HeaderSpec::always("dispatch", HeaderForm::Number, "As the request had it."),
            HeaderSpec::always("worker", HeaderForm::Text, "The id of the worker."),
            HeaderSpec::always("at-ms", HeaderForm::Number, "When, in milliseconds since 1970."),
            HeaderSpec::always(
                "charged",
                HeaderForm::Flag,
                "Whether it is this run's own doing, should the worker crash now: nothing runs beside it.",
            ),
        ],
    };

    pub fn to_message(&self) -> Message {
        Message {
            r#type: Self::TYPE.into(),
            message_id: Some(self.run.to_string()),
            correlation_id: Some(self.run.job.to_string()),
            content_type: JSON.into(),
            headers: vec![
                ("dispatch".into(), self.run.dispatch.into()),
                ("worker".into(), Header::Text(self.worker.to_string())),
                ("at-ms".into(), Header::Int(self.at.as_millis())),
                ("charged".into(), Header::Bool(self.charged)),
            ],
            body: "{}".into(),
            ..Message::default()
        }
    }

    fn read(message: &Message) -> Result<Self, Unreadable> {
        Ok(Self {
            run: message.run()?,
            worker: message.parsed("worker", "a worker's id")?,
            at: Time::from_millis(message.number("at-ms")?),
            charged: message.flag("charged")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;
    use crate::message::RunResult;

    #[test]
    fn a_reply_is_read_as_it_was_written() {
        let at = Time::from_millis(1_795_000_000_000);
        let (run, worker) = (RunId { job: JobId::new(at), dispatch: 2 }, WorkerId::new(at));
        let started = Started { run, worker, at, charged: true };
        assert_eq!(Reply::read(&started.to_message()), Ok(Reply::Started(started)));
        let outcome = Outcome { run, worker, started_at: None, told: Vec::new(), result: RunResult::Canceled };
        assert_eq!(Reply::read(&outcome.to_message()), Ok(Reply::Outcome(outcome)));
        let other = Message { r#type: "buzzer.request.v1".into(), ..Message::default() };
        assert!(matches!(Reply::read(&other), Err(Unreadable::Type { .. })));
    }
}
