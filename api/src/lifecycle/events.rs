use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::LogType;

/// Which events are wanted: one type of them at least.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Events(u16);

impl Events {
    /// The last event of each job.
    pub const ENDS: Events =
        Events(bit(LogType::Succeeded) | bit(LogType::Failed) | bit(LogType::Canceled) | bit(LogType::Expired));

    /// `None` of none.
    pub fn of(types: impl IntoIterator<Item = LogType>) -> Option<Self> {
        let bits = types.into_iter().fold(0, |bits, r#type| bits | bit(r#type));
        (bits != 0).then_some(Self(bits))
    }

    pub fn contain(self, r#type: LogType) -> bool {
        self.0 & bit(r#type) != 0
    }

    /// In the order in which a job has them.
    pub fn types(self) -> impl Iterator<Item = LogType> {
        LogType::ALL.into_iter().filter(move |r#type| self.contain(*r#type))
    }
}

const fn bit(r#type: LogType) -> u16 {
    1 << r#type as u16
}

impl Default for Events {
    fn default() -> Self {
        Self::ENDS
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.types().map(LogType::as_str)).finish()
    }
}

impl Serialize for Events {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.types())
    }
}

impl<'de> Deserialize<'de> for Events {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let types = Vec::<LogType>::deserialize(deserializer)?;
        Self::of(types).ok_or_else(|| serde::de::Error::custom("name at least one type of event"))
    }
}

impl JsonSchema for Events {
    fn schema_name() -> Cow<'static, str> {
        "Events".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array",
            "items": generator.subschema_for::<LogType>(),
            "minItems": 1,
            "description": "Types of events",
            "examples": [["job.succeeded", "job.failed"]],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_a_list_of_types_with_one_at_least() {
        let read = |json: &str| serde_json::from_str::<Events>(json);
        let some = read(r#"["job.failed", "job.accepted", "job.failed"]"#).unwrap();
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"["job.accepted","job.failed"]"#);
        assert!(some.contain(LogType::Failed) && !some.contain(LogType::Succeeded));
        assert!(read("[]").unwrap_err().to_string().contains("at least one"));
        assert!(read(r#"["job.done"]"#).is_err());
        assert_eq!(Events::of(LogType::ALL).unwrap().types().count(), LogType::ALL.len());
        assert!(LogType::ALL.into_iter().all(|r#type| Events::ENDS.contain(r#type) == r#type.is_terminal()));
    }
}
