use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{JSON, Message, MessageSpec, Unreadable, to_json};
use crate::id::{RunId, WorkerId};
use crate::kind::Refusal;

/// What the API says to all workers at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// Announce yourselves: I have just come, or have forgotten you.
    Announce,
    /// Somebody wants these to stop. Said again for each that goes on.
    Cancel { runs: Vec<RunId> },
    /// What one worker says of these kinds is not taken. Said again with each of its announcements.
    Refused { worker: WorkerId, kinds: Vec<Refusal> },
}

impl Control {
    pub const TYPE: &'static str = "buzzer.control.v1";
    pub const SPEC: MessageSpec = MessageSpec {
        r#type: Self::TYPE,
        summary: "What the API says to all workers at once: announce yourselves, stop these runs, or this is not taken.",
        of_run: false,
        waits: false,
        headers: &[],
    };

    pub fn to_message(&self) -> Message {
        Message { r#type: Self::TYPE.into(), content_type: JSON.into(), body: to_json(self), ..Message::default() }
    }

    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        message.expect_type(Self::TYPE)?;
        Ok(serde_json::from_slice(&message.body)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::JobId;
    use crate::time::Time;

    #[test]
    fn a_word_to_the_workers_is_read_as_it_was_written() {
        let run = RunId { job: JobId::new(Time::from_millis(1)), dispatch: 3 };
        let refused = vec![Refusal { kind: "No Kind".into(), reason: "it has no name".into() }];
        let refused = Control::Refused { worker: WorkerId::new(Time::from_millis(1)), kinds: refused };
        for control in [Control::Announce, Control::Cancel { runs: vec![run] }, refused] {
            assert_eq!(Control::read(&control.to_message()), Ok(control));
        }
    }
}
