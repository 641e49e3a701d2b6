use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{JSON, Message, MessageSpec, Unreadable, to_json};
use crate::id::{RunId, WorkerId};
use crate::kind::{KindSpec, Refusal};
use crate::time::Time;

/// So many bytes has an announcement at most. A larger one is not read: all that workers say of their kinds is kept in
/// memory.
pub const ANNOUNCE_MAX: usize = 4 << 20;

/// A worker tells which kinds it runs: at start, after a reconnect, when asked, and from time to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(from = "Written")]
#[schemars(!from)]
pub struct Announce {
    pub worker: WorkerId,
    /// The machine it runs on, as that calls itself.
    pub host: String,
    /// The worker's own version.
    pub version: String,
    pub started_at: Time,
    pub kinds: Vec<KindSpec>,
    /// What it says of kinds and nobody can read, found when the announcement was. A worker sends none of it.
    #[serde(skip)]
    pub refused: Vec<Refusal>,
}

/// An announcement whose kinds are still to be read, each by itself: one that cannot be must not cost the others.
#[derive(Deserialize)]
struct Written {
    worker: WorkerId,
    host: String,
    version: String,
    started_at: Time,
    kinds: Vec<Box<RawValue>>,
}

impl From<Written> for Announce {
    fn from(Written { worker, host, version, started_at, kinds }: Written) -> Self {
        let (mut read, mut refused) = (Vec::new(), Vec::new());
        for kind in kinds {
            match serde_json::from_str(kind.get()) {
                Ok(spec) => read.push(spec),
                Err(error) => refused.push(Refusal { kind: name(&kind), reason: error.to_string() }),
            }
        }
        Self { worker, host, version, started_at, kinds: read, refused }
    }
}

/// The name of a kind of which the rest cannot be read.
fn name(kind: &RawValue) -> String {
    #[derive(Deserialize)]
    struct Named {
        name: Value,
    }
    match serde_json::from_str(kind.get()) {
        Ok(Named { name: Value::String(name) }) => name,
        Ok(Named { name }) => name.to_string(),
        Err(_) => String::new(),
    }
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
            Announce::TYPE if message.body.len() > ANNOUNCE_MAX => {
                let size = message.body.len();
                Err(Unreadable::Body(format!("it has {size} bytes, an announcement has at most {ANNOUNCE_MAX}")))
            }
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
        let kinds = vec![KindSpec::any("echo".parse().unwrap())];
        let announce = announce(kinds);
        assert_eq!(Pulse::read(&announce.to_message()), Ok(Pulse::Announce(announce)));
    }

    fn announce(kinds: Vec<KindSpec>) -> Announce {
        let at = Time::from_millis(1_795_000_000_000);
        let (worker, refused) = (WorkerId::new(at), Vec::new());
        Announce { worker, host: "box".into(), version: "0.1.0".into(), started_at: at, kinds, refused }
    }

    #[test]
    fn a_kind_that_cannot_be_read_does_not_cost_the_others() {
        let good = KindSpec::any("good".parse().unwrap());
        let mut message = announce(vec![good.clone()]).to_message();
        let mut body: Value = serde_json::from_slice(&message.body).unwrap();
        let kinds = body["kinds"].as_array_mut().unwrap();
        let mut illegal = kinds[0].clone();
        illegal["name"] = "No Kind".into();
        kinds.extend([illegal, serde_json::json!({ "name": 7 }), serde_json::json!("kind")]);
        // Deeper than serde_json reads, but that is no matter of the others.
        let deep = format!(r#"{{"name": "deep", "input_schema": {}0{}}}"#, "[".repeat(500), "]".repeat(500));
        let text = body.to_string().replace(r#""kind"]"#, &format!(r#""kind",{deep}]"#));
        message.body = text.into();

        let Ok(Pulse::Announce(read)) = Pulse::read(&message) else { panic!("not read") };
        assert_eq!(read.kinds, [good]);
        let refused: Vec<_> = read.refused.iter().map(|refusal| refusal.kind.as_str()).collect();
        assert_eq!(refused, ["No Kind", "7", "", "deep"]);
        assert!(read.refused[0].reason.contains("words of a-z"), "{}", read.refused[0].reason);
        assert!(read.refused[3].reason.contains("recursion"), "{}", read.refused[3].reason);
    }

    #[test]
    fn an_announcement_has_a_bound() {
        let mut message = announce(Vec::new()).to_message();
        message.body = vec![b' '; ANNOUNCE_MAX + 1].into();
        let Err(Unreadable::Body(reason)) = Pulse::read(&message) else { panic!("read") };
        assert!(reason.contains("at most"), "{reason}");
    }
}
