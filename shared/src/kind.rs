//! What sort of work a job is, and what a worker says about it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::retry::RetryPolicy;
use crate::time::Span;

/// The name of a sort of work, like `image.transform`.
///
/// `[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*`, at most 100 characters, so that it can stand in a URL, in the name of a queue
/// and in a routing key as it is. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Kind(Arc<str>);

impl Kind {
    pub const PATTERN: &'static str = r"^[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)*$";
    pub const MAX_LEN: usize = 100;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for Kind {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        let word =
            |part: &str| !part.is_empty() && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        let valid = text.len() <= Self::MAX_LEN
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.split('.').all(word);
        if valid { Ok(Self(text.into())) } else { Err(InvalidKind(text.into())) }
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Kind {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Kind".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "pattern": Self::PATTERN,
            "maxLength": Self::MAX_LEN,
            "description": "The name of a sort of work",
            "examples": ["echo", "image.transform"],
        })
    }
}

/// A text that cannot name a kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a kind: use words of a-z, 0-9, _ and - joined by dots, a letter first, at most 100 characters"
)]
pub struct InvalidKind(String);

/// What a worker tells about a kind that it runs. From it come the queue, the validation and the documents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KindSpec {
    pub name: Kind,
    /// A few words, for lists.
    pub title: String,
    /// What it does, in Markdown.
    pub description: String,
    /// JSON Schema (2020-12) of the input.
    pub input_schema: serde_json::Value,
    /// JSON Schema (2020-12) of the output.
    pub output_schema: serde_json::Value,
    /// An input that works.
    #[serde(default)]
    pub example: Option<serde_json::Value>,
    pub retry: RetryPolicy,
    /// How long one run may take.
    pub timeout: Span,
    /// How many runs this worker takes on at a time.
    pub slots: u16,
    /// How often one job may be run, when things go wrong.
    #[serde(default)]
    pub delivery: DeliveryMode,
}

/// Why what a worker says about a kind is not taken. Its other kinds are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Refusal {
    /// The kind's name as the worker wrote it, which may be none.
    pub kind: String,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// How often a job may be run when a worker or the broker is lost in mid-run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryMode {
    /// Until its end is known, so perhaps twice.
    #[default]
    AtLeastOnce,
    /// Never twice: when its end stays unknown, the job ends as `failed: lost`.
    AtMostOnce,
}

/// RabbitMQ takes a request back that stays unacknowledged for 30 minutes. Runs that may come near it must not wait for
/// their end to be acknowledged.
const LONG: Duration = Duration::from_secs(600);

impl KindSpec {
    /// A kind that takes and gives any JSON, with one slot and five minutes for a run.
    pub fn any(name: Kind) -> Self {
        Self {
            title: name.to_string(),
            name,
            description: String::new(),
            input_schema: true.into(),
            output_schema: true.into(),
            example: None,
            retry: RetryPolicy::default(),
            timeout: Span::from_secs(300),
            slots: 1,
            delivery: DeliveryMode::default(),
        }
    }

    /// Whether both say the same to whoever hands in jobs: all but the slots, of which each worker has its own.
    pub fn is_same_contract(&self, other: &Self) -> bool {
        let Self { name, title, description, input_schema, output_schema, example, retry, timeout, slots: _, delivery } =
            self;
        (name, title, description, example) == (&other.name, &other.title, &other.description, &other.example)
            && (input_schema, output_schema) == (&other.input_schema, &other.output_schema)
            && (retry, timeout, delivery) == (&other.retry, &other.timeout, &other.delivery)
    }

    /// Its retry policy, or the one that a job asks for instead; but what must not run twice has one attempt.
    pub fn retry_policy(&self, asked: Option<RetryPolicy>) -> RetryPolicy {
        match self.delivery {
            DeliveryMode::AtLeastOnce => asked.unwrap_or(self.retry),
            DeliveryMode::AtMostOnce => RetryPolicy::NEVER,
        }
    }

    /// Whether a request of this kind is acknowledged before it is run: a run may take over ten minutes, or the broker
    /// must never deliver it again. From then on it lives on the beats of its worker.
    pub fn acknowledges_early(&self) -> bool {
        self.delivery == DeliveryMode::AtMostOnce || self.timeout.as_duration() > LONG
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_no_part_of_a_contract_and_all_else_is() {
        let spec = KindSpec::any("echo".parse().unwrap());
        assert!(spec.is_same_contract(&KindSpec { slots: 9, ..spec.clone() }));
        for other in [
            KindSpec { title: "Other".into(), ..spec.clone() },
            KindSpec { description: "Other".into(), ..spec.clone() },
            KindSpec { input_schema: false.into(), ..spec.clone() },
            KindSpec { output_schema: false.into(), ..spec.clone() },
            KindSpec { example: Some(1.into()), ..spec.clone() },
            KindSpec { retry: RetryPolicy::NEVER, ..spec.clone() },
            KindSpec { timeout: Span::from_secs(1), ..spec.clone() },
            KindSpec { delivery: DeliveryMode::AtMostOnce, ..spec.clone() },
        ] {
            assert!(!spec.is_same_contract(&other), "{other:?}");
        }
    }

    #[test]
    fn kinds_are_dotted_words() {
        for good in ["echo", "http.request", "a-b_c.9.d", "x"] {
            assert!(good.parse::<Kind>().is_ok(), "{good}");
        }
        let long = "a".repeat(101);
        for bad in ["", ".", "Echo", "9a", "a..b", "a.", "a b", "_a", "a/b", "ä", long.as_str()] {
            assert!(bad.parse::<Kind>().is_err(), "{bad}");
        }
    }
}
