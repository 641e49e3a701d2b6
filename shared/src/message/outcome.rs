use std::time::Duration;

use bytes::Bytes;

use super::{Header, HeaderForm, HeaderSpec, JSON, Message, MessageSpec, Told, Unreadable, to_json};
use crate::id::{RunId, WorkerId};
use crate::problem::Problem;
use crate::time::Time;

/// How a run ended. From a worker to the API; never dropped.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub run: RunId,
    pub worker: WorkerId,
    /// When the handler was called; `None` when it never was.
    pub started_at: Option<Time>,
    /// The signals of its last second, and those that were still to be sent: the queue of signals may lose them. At most
    /// [`TOLD_MAX`] bytes as JSON.
    pub told: Vec<Told>,
    pub result: RunResult,
}

/// So many bytes of signals does an outcome carry: with its other headers, they must fit into one frame.
pub const TOLD_MAX: usize = 24 * 1024;

/// What a run ended with.
#[derive(Debug, Clone, PartialEq)]
pub enum RunResult {
    /// The handler's output: JSON.
    Succeeded(Bytes),
    /// The handler's problem, or ours about it.
    Failed { problem: Problem, retry: Retry },
    /// The handler stopped because it was asked to.
    Canceled,
    /// Handed back, not run to its end. Counts as nothing.
    Returned(ReturnReason),
}

/// Why a worker handed a request back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReturnReason {
    /// The worker stops.
    Stopping,
    /// It was delivered before, more than once: it may be what brings workers down.
    Suspect,
    /// There is no slot, or no core, for it here.
    NoSlot,
    /// It came too late to be started.
    Expired,
}

impl ReturnReason {
    const ALL: [Self; 4] = [Self::Stopping, Self::Suspect, Self::NoSlot, Self::Expired];

    /// As it stands in the header `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stopping => "stopping",
            Self::Suspect => "suspect",
            Self::NoSlot => "no-slot",
            Self::Expired => "expired",
        }
    }
}

/// What a failure says about another attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// As the job's policy has it.
    Policy,
    /// Not before this has passed, if the policy still has an attempt.
    After(Duration),
    /// No other attempt would do better.
    Never,
}

impl Outcome {
    pub const TYPE: &'static str = "buzzer.outcome.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "How a run ended. The body is the output of one that succeeded, the problem of one that failed, and empty \
                  otherwise. Acknowledge the request when the broker has confirmed this, and not before.",
        of_run: true,
        waits: false,
        headers: &[
            HeaderSpec::always("dispatch", HeaderForm::Number, "As the request had it."),
            HeaderSpec::always(
                "result",
                HeaderForm::OneOf(&["succeeded", "failed", "canceled", "returned"]),
                "What it ended with. `canceled` when it was asked to stop and did; `returned` when it was not run to its end, \
                 which counts as nothing.",
            ),
            HeaderSpec::always("worker", HeaderForm::Text, "The id of the worker: a UUID of its own for each process."),
            HeaderSpec::perhaps(
                "started-at-ms",
                HeaderForm::Number,
                "When the handler was called, in milliseconds since 1970; absent when it never was.",
            ),
            HeaderSpec::perhaps(
                "told",
                HeaderForm::Text,
                "The signals of the last second, and those that were still to be sent, as a JSON array of `Told`; at most \
                 24 KiB.",
            ),
            HeaderSpec::perhaps(
                "reason",
                HeaderForm::OneOf(&["stopping", "suspect", "no-slot", "expired"]),
                "Of `returned`: why.",
            ),
            HeaderSpec::perhaps(
                "retry",
                HeaderForm::OneOf(&["never"]),
                "Of `failed`: no other attempt would do better.",
            ),
            HeaderSpec::perhaps(
                "retry-after-ms",
                HeaderForm::Number,
                "Of `failed`: no other attempt before so many milliseconds have passed.",
            ),
        ],
    };

    pub fn to_message(&self) -> Message {
        let (result, body) = match &self.result {
            RunResult::Succeeded(output) => ("succeeded", output.clone()),
            RunResult::Failed { problem, .. } => ("failed", to_json(problem)),
            RunResult::Canceled => ("canceled", Bytes::new()),
            RunResult::Returned(_) => ("returned", Bytes::new()),
        };
        let mut headers: Vec<(std::borrow::Cow<'static, str>, Header)> = vec![
            ("dispatch".into(), self.run.dispatch.into()),
            ("result".into(), result.into()),
            ("worker".into(), Header::Text(self.worker.to_string())),
        ];
        if let Some(started_at) = self.started_at {
            headers.push(("started-at-ms".into(), Header::Int(started_at.as_millis())));
        }
        if !self.told.is_empty() {
            // JSON, with every control character escaped: whatever a handler tells cannot break a header.
            headers.push(("told".into(), Header::Text(String::from_utf8_lossy(&to_json(&self.told)).into_owned())));
        }
        match self.result {
            RunResult::Returned(reason) => headers.push(("reason".into(), reason.as_str().into())),
            RunResult::Failed { retry: Retry::Never, .. } => headers.push(("retry".into(), "never".into())),
            RunResult::Failed { retry: Retry::After(delay), .. } => {
                headers.push(("retry-after-ms".into(), delay.into()));
            }
            _ => {}
        }
        Message {
            r#type: Self::TYPE.into(),
            message_id: Some(self.run.to_string()),
            correlation_id: Some(self.run.job.to_string()),
            content_type: JSON.into(),
            headers,
            body,
            ..Message::default()
        }
    }

    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        message.expect_type(Self::TYPE)?;
        let result = match message.text("result")? {
            "succeeded" => {
                // Only looked at: the bytes are kept as they came. Raw, since only so text that is not UTF-8 is found.
                serde_json::from_slice::<&serde_json::value::RawValue>(&message.body)?;
                RunResult::Succeeded(message.body.clone())
            }
            "failed" => RunResult::Failed { problem: serde_json::from_slice(&message.body)?, retry: retry(message)? },
            "canceled" => RunResult::Canceled,
            "returned" => RunResult::Returned(reason(message)?),
            _ => {
                return Err(Unreadable::Header { name: "result", expected: "succeeded, failed, canceled or returned" });
            }
        };
        let started_at = message.time("started-at-ms")?;
        let worker = message.parsed("worker", "a worker's id")?;
        Ok(Self { run: message.run()?, worker, started_at, told: told(message), result })
    }
}

/// What can be read of it. It must not cost the result that it comes with: a newer worker may tell what is not known here.
fn told(message: &Message) -> Vec<Told> {
    let Some(Header::Text(json)) = message.header("told") else { return Vec::new() };
    let entries: Vec<&serde_json::value::RawValue> = serde_json::from_str(json).unwrap_or_default();
    entries.into_iter().filter_map(|entry| serde_json::from_str(entry.get()).ok()).collect()
}

fn retry(message: &Message) -> Result<Retry, Unreadable> {
    if message.header("retry-after-ms").is_some() {
        return message.duration("retry-after-ms").map(Retry::After);
    }
    match message.header("retry") {
        None => Ok(Retry::Policy),
        Some(Header::Text(text)) if text == "never" => Ok(Retry::Never),
        Some(_) => Err(Unreadable::Header { name: "retry", expected: "never" }),
    }
}

fn reason(message: &Message) -> Result<ReturnReason, Unreadable> {
    let text = message.text("reason")?;
    let expected = "stopping, suspect, no-slot or expired";
    let reason = ReturnReason::ALL.into_iter().find(|reason| reason.as_str() == text);
    reason.ok_or(Unreadable::Header { name: "reason", expected })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    fn outcome(result: RunResult) -> Outcome {
        let now = Time::from_millis(1_795_000_000_000);
        Outcome {
            run: RunId { job: JobId::new(now), dispatch: 1 },
            worker: WorkerId::new(now),
            started_at: Some(now),
            told: Vec::new(),
            result,
        }
    }

    #[test]
    fn every_outcome_is_read_as_it_was_written() {
        let failed = |retry| RunResult::Failed { problem: Problem::new("mine", "Mine", "because").with("n", 1), retry };
        for result in [
            RunResult::Succeeded(Bytes::from_static(b" [1, 2] ")),
            failed(Retry::Policy),
            failed(Retry::Never),
            failed(Retry::After(Duration::from_millis(1500))),
            RunResult::Canceled,
            RunResult::Returned(ReturnReason::Stopping),
            RunResult::Returned(ReturnReason::NoSlot),
        ] {
            let outcome = outcome(result);
            assert_eq!(Outcome::read(&outcome.to_message()), Ok(outcome));
        }
    }

    #[test]
    fn what_was_told_last_travels_with_the_outcome() {
        use super::super::SignalBody;
        let at = Time::from_millis(1_795_000_000_000);
        let told = |n, body| Told { n, at, body };
        let progress = SignalBody::Progress { percent: Some(100.0), message: None };
        let told = vec![told(3, SignalBody::Log { text: "a\u{0}\r\n\"ü\"".into() }), told(4, progress)];
        let outcome = Outcome { told, ..outcome(RunResult::Canceled) };
        let message = outcome.to_message();
        assert_eq!(Outcome::read(&message), Ok(outcome.clone()));
        let header = message.text("told").unwrap();
        assert!(!header.chars().any(char::is_control), "{header:?}");
        let other = |value: Header| {
            let headers = message.headers.iter().filter(|(name, _)| name != "told").cloned();
            Message { headers: headers.chain([("told".into(), value)]).collect(), ..message.clone() }
        };
        let readable = outcome.told[..1].to_vec();
        let newer = format!("[{}, {{\"n\": 1}}, 2]", serde_json::to_string(&readable[0]).unwrap());
        let cases = [(Header::Int(1), Vec::new()), ("no JSON".into(), Vec::new()), (Header::Text(newer), readable)];
        for (header, told) in cases {
            let read = Outcome::read(&other(header)).expect("the result is read, whatever was told with it");
            assert_eq!(read, Outcome { told, ..outcome.clone() });
        }
    }

    #[test]
    fn an_output_that_is_not_json_is_unreadable() {
        for body in [&b"{"[..], b"", b"\"\xff\"", b"1 2"] {
            let message = outcome(RunResult::Succeeded(Bytes::from_static(body))).to_message();
            assert!(matches!(Outcome::read(&message), Err(Unreadable::Body(_))), "{body:?}");
        }
    }
}
