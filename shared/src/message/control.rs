use serde::{Deserialize, Serialize};

use super::{JSON, Message, Unreadable, to_json};

/// What the API says to all workers at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "control", rename_all = "snake_case")]
pub enum Control {
    /// Announce yourselves: I have just come, or have forgotten you.
    Announce,
}

impl Control {
    pub const TYPE: &'static str = "buzzer.control.v1";

    pub fn to_message(&self) -> Message {
        Message { r#type: Self::TYPE.into(), content_type: JSON.into(), body: to_json(self), ..Message::default() }
    }

    pub fn read(message: &Message) -> Result<Self, Unreadable> {
        message.expect_type(Self::TYPE)?;
        Ok(serde_json::from_slice(&message.body)?)
    }
}
