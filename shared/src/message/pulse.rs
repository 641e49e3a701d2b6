use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JSON, Message, MessageSpec, Unreadable, to_json};
use crate::id::{RunId, WorkerId};
use crate::kind::KindSpec;
use crate::time::Time;

/// A worker tells which kinds it runs: at start, after a reconnect, when asked, and from time to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Announce {
    pub worker: WorkerId,
    /// The machine it runs on, as that calls itself.
    pub host: String,
    /// The worker's own version.
    pub version: String,
    pub started_at: Time,
    pub kinds: Vec<KindSpec>,
}

/// A worker is alive, and this is what it holds. Renews the lease of every run that it names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Beat {
    pub worker: WorkerId,
    /// Every request that the worker has taken and not yet answered.
    pub held: Vec<RunId>,
    /// The worker stops: it takes nothing more, and this is its last beat.
    #[serde(default)]
    pub leaving: bool,
}

/// An API tries whether the broker takes messages. Means nothing to who gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knock;

/// What comes on the pulse queue.
#[derive(Debug, Clone, PartialEq)]
pub enum Pulse {
    Announce(Announce),
    Beat(Beat),
    Knock,
}

impl Knock {
    pub const TYPE: &'static str = "buzzer.knock.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "An API tries whether the broker takes messages. It means nothing to anybody.",
        of_run: false,
        waits: false,
        headers: &[],
    };

    pub fn to_message(self) -> Message {
        json_message(Self::TYPE, "{}".into())
    }
}

impl Announce {
    pub const TYPE: &'static str = "buzzer.announce.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "A worker tells which kinds it runs: at its start, after a reconnect, when asked, and with every sixth beat.",
        of_run: false,
        waits: false,
        headers: &[],
    };

    pub fn to_message(&self) -> Message {
        json_message(Self::TYPE, to_json(self))
    }
}

impl Beat {
    pub const TYPE: &'static str = "buzzer.beat.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "A worker is alive, every five seconds, and this is what it holds: the lease of each run that it names is renewed.",
        of_run: false,
        waits: false,
        headers: &[],
    };

    pub fn to_message(&self) -> Message {
        json_message(Self::TYPE, to_json(self))
    }
}

impl Pulse {
    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        match &*message.r#type {
            Announce::TYPE => Ok(Self::Announce(serde_json::from_slice(&message.body)?)),
            Beat::TYPE => Ok(Self::Beat(serde_json::from_slice(&message.body)?)),
            Knock::TYPE => Ok(Self::Knock),
            other => Err(Unreadable::Type {
                found: other.into(),
                expected: "buzzer.announce.v1, buzzer.beat.v1 or buzzer.knock.v1",
            }),
        }
    }
}

fn json_message(r#type: &'static str, body: bytes::Bytes) -> Message {
    Message { r#type: r#type.into(), content_type: JSON.into(), body, ..Message::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;

    #[test]
    fn a_pulse_is_read_as_it_was_written() {
        let at = Time::from_millis(1_795_000_000_000);
        let worker = WorkerId::new(at);
        let held = vec![RunId { job: JobId::new(at), dispatch: 1 }];
        let beat = Beat { worker, held, leaving: false };
        assert_eq!(Pulse::read(&beat.to_message()), Ok(Pulse::Beat(beat)));
        assert_eq!(Pulse::read(&Knock.to_message()), Ok(Pulse::Knock));
        let announce =
            Announce { worker, host: "box".into(), version: "0.1.0".into(), started_at: at, kinds: Vec::new() };
        assert_eq!(Pulse::read(&announce.to_message()), Ok(Pulse::Announce(announce)));
    }
}
