//! What sorts of messages there are, as data for the document of the wire. Each spec stands beside what makes and reads the
//! message.

use super::{Announce, Beat, Control, Knock, Outcome, Request, Signal, Started};

/// A sort of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageSpec {
    /// Its `type`.
    pub r#type: &'static str,
    /// What it says.
    pub summary: &'static str,
    /// Whether it is about one run: then `message_id` names the run, and `correlation_id` its job.
    pub of_run: bool,
    /// Whether it waits in line: with an `expiration`, and a `priority`.
    pub waits: bool,
    pub headers: &'static [HeaderSpec],
}

/// A header that such a message has, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderSpec {
    pub name: &'static str,
    pub form: HeaderForm,
    pub required: bool,
    pub description: &'static str,
}

/// What the value of a header is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderForm {
    Text,
    OneOf(&'static [&'static str]),
    /// An integer, 0 or more.
    Number,
    Flag,
}

/// Every sort of message.
pub const ALL: [MessageSpec; 8] =
    [Request::SPEC, Outcome::SPEC, Started::SPEC, Signal::SPEC, Announce::SPEC, Beat::SPEC, Knock::SPEC, Control::SPEC];

impl HeaderSpec {
    /// A header that every such message has.
    pub(super) const fn always(name: &'static str, form: HeaderForm, description: &'static str) -> Self {
        Self { name, form, required: true, description }
    }

    /// A header that some have.
    pub(super) const fn perhaps(name: &'static str, form: HeaderForm, description: &'static str) -> Self {
        Self { name, form, required: false, description }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;
    use crate::id::{JobId, RunId, WorkerId};
    use crate::job::Priority;
    use crate::message::{Header, Message, Retry, ReturnReason, RunResult, SignalBody, Told};
    use crate::problem::Problem;
    use crate::time::Time;

    const AT: Time = Time::from_millis(1_795_000_000_000);

    /// Messages that have, together, every header there is.
    fn samples() -> Vec<Message> {
        let (run, worker) = (RunId { job: JobId::new(AT), dispatch: 2 }, WorkerId::new(AT));
        let request = Request {
            run,
            kind: "echo".parse().unwrap(),
            attempt: 1,
            priority: Priority::default(),
            timeout: Duration::from_secs(30),
            expiration: Duration::from_secs(20),
            expires_in: Some(Duration::from_secs(9)),
            at_most_once: true,
            alone: true,
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            input: Bytes::from_static(b"1"),
        };
        let told = vec![Told { n: 1, at: AT, body: SignalBody::Log { text: "x".into() } }];
        let failed = |retry| RunResult::Failed { problem: Problem::new("t", "T", "d"), retry };
        let results = [
            RunResult::Succeeded(Bytes::from_static(b"1")),
            failed(Retry::Policy),
            failed(Retry::Never),
            failed(Retry::After(Duration::from_secs(1))),
            RunResult::Canceled,
            RunResult::Returned(ReturnReason::Stopping),
        ];
        let outcome = |result| Outcome { run, worker, started_at: Some(AT), told: told.clone(), result }.to_message();
        let mut all: Vec<_> = results.into_iter().map(outcome).collect();
        let announce = Announce {
            worker,
            host: "box".into(),
            version: "0.1.0".into(),
            started_at: AT,
            kinds: Vec::new(),
            refused: Vec::new(),
        };
        all.extend([
            request.to_message(),
            Request { expires_in: None, at_most_once: false, alone: false, traceparent: None, ..request }.to_message(),
            Started { run, worker, at: AT, charged: false }.to_message(),
            Signal { run, n: 1, worker, at: AT, body: SignalBody::Started }.to_message(),
            announce.to_message(),
            Beat { worker, held: vec![run], leaving: false }.to_message(),
            Knock.to_message(),
            Control::Announce.to_message(),
        ]);
        all
    }

    #[test]
    fn messages_are_as_their_specs_say() {
        let samples = samples();
        for spec in ALL {
            let own: Vec<_> = samples.iter().filter(|message| message.r#type == spec.r#type).collect();
            assert!(!own.is_empty(), "{}", spec.r#type);
            for message in &own {
                assert_eq!(message.message_id.is_some(), spec.of_run, "{message:?}");
                assert_eq!(message.correlation_id.is_some(), spec.of_run, "{message:?}");
                assert_eq!((message.expiration.is_some(), message.priority.is_some()), (spec.waits, spec.waits));
                for (name, value) in &message.headers {
                    let header = spec.headers.iter().find(|header| header.name == *name);
                    let header = header.unwrap_or_else(|| panic!("{} does not name {name}", spec.r#type));
                    let fits = match (header.form, value) {
                        (HeaderForm::OneOf(words), Header::Text(text)) => words.contains(&text.as_str()),
                        (HeaderForm::Text, Header::Text(_)) | (HeaderForm::Flag, Header::Bool(_)) => true,
                        (HeaderForm::Number, Header::Int(number)) => *number >= 0,
                        _ => false,
                    };
                    assert!(fits, "{name} of {}: {value:?}", spec.r#type);
                }
            }
            for header in spec.headers {
                let having = own.iter().filter(|message| message.header(header.name).is_some()).count();
                let expected = if header.required { having == own.len() } else { having > 0 };
                assert!(expected, "{} of {}: {having} of {}", header.name, spec.r#type, own.len());
            }
        }
        assert!(samples.iter().all(|message| ALL.iter().any(|spec| spec.r#type == message.r#type)));
    }
}
