use std::time::Duration;

use bytes::Bytes;

use super::{Header, JSON, Message, Unreadable, to_json};
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
    pub result: RunResult,
}

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

    fn as_str(self) -> &'static str {
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
        Ok(Self { run: message.run()?, worker: message.parsed("worker", "a worker's id")?, started_at, result })
    }
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
    fn an_output_that_is_not_json_is_unreadable() {
        for body in [&b"{"[..], b"", b"\"\xff\"", b"1 2"] {
            let message = outcome(RunResult::Succeeded(Bytes::from_static(body))).to_message();
            assert!(matches!(Outcome::read(&message), Err(Unreadable::Body(_))), "{body:?}");
        }
    }
}
