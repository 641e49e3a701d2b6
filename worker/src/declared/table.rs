//! `worker.toml` as it is written.

use std::collections::BTreeMap;

use buzzer_shared::config::ByteSize;
use buzzer_shared::kind::{DeliveryMode, Kind};
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Span;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use toml::Spanned;

/// The whole file. Neither it nor a table that leads to `env` has `Debug`: values there may be secrets.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) kind: Vec<KindTable>,
}

/// A `[[kind]]`, with either `[kind.exec]` or `[kind.push]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KindTable {
    pub(super) name: Spanned<Kind>,
    pub(super) title: Option<String>,
    #[serde(default)]
    pub(super) description: String,
    /// A JSON Schema, or the name of a file that holds one. Any JSON unless given.
    pub(super) input: Option<Spanned<Value>>,
    pub(super) output: Option<Spanned<Value>>,
    pub(super) example: Option<Spanned<Value>>,
    pub(super) timeout: Option<Span>,
    pub(super) slots: Option<u16>,
    pub(super) retry: Option<RetryTable>,
    #[serde(default)]
    pub(super) delivery: DeliveryMode,
    pub(super) exec: Option<ExecTable>,
    pub(super) push: Option<PushTable>,
}

/// What is left out is as it is for other kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetryTable {
    max_attempts: Option<u32>,
    backoff: Option<Span>,
    max_backoff: Option<Span>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExecTable {
    /// With a slash in it, from the folder of the file; without, from `PATH`.
    pub(super) program: Spanned<String>,
    #[serde(default)]
    pub(super) args: Vec<String>,
    /// What its environment has.
    #[serde(default)]
    pub(super) env: BTreeMap<Spanned<String>, String>,
    /// What its environment has of the worker's.
    #[serde(default)]
    pub(super) pass_env: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) memory: Memory,
    pub(super) cpu: Option<Span>,
    #[serde(default = "files")]
    pub(super) files: u64,
    #[serde(default = "stdout")]
    pub(super) stdout: Size,
    #[serde(default = "line")]
    pub(super) line: Size,
    #[serde(default = "grace")]
    pub(super) grace: Span,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PushTable {
    pub(super) url: Spanned<String>,
    /// The variable of the worker's environment that holds the secret to sign with.
    pub(super) secret_env: Option<Spanned<String>>,
    /// The file that does.
    pub(super) secret_file: Option<Spanned<String>>,
    /// The largest body of an answer.
    #[serde(default = "answer")]
    pub(super) answer: Size,
}

fn files() -> u64 {
    256
}

fn stdout() -> Size {
    Size(16 << 20)
}

fn line() -> Size {
    Size(2 << 20)
}

fn grace() -> Span {
    Span::from_secs(2)
}

fn answer() -> Size {
    Size(1 << 20)
}

/// A number of bytes: a text like `1MiB`, or a number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size(pub(super) usize);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected a size, like \"1MiB\" or 100000")]
        enum Written {
            Bytes(usize),
            Text(String),
        }
        match Written::deserialize(deserializer)? {
            Written::Bytes(bytes) => Ok(Self(bytes)),
            Written::Text(text) => text.parse().map(|ByteSize(bytes)| Self(bytes)).map_err(serde::de::Error::custom),
        }
    }
}

/// A size, or `unlimited`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Memory {
    Unlimited,
    Most(u64),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Most(2 << 30)
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "unlimited" {
            return Ok(Self::Unlimited);
        }
        match text.parse() {
            Ok(ByteSize(bytes)) => Ok(Self::Most(bytes as u64)),
            Err(error) => Err(serde::de::Error::custom(format!("{error}, or `unlimited`"))),
        }
    }
}

impl RetryTable {
    pub(super) fn policy(&self) -> RetryPolicy {
        let usual = RetryPolicy::default();
        RetryPolicy {
            max_attempts: self.max_attempts.unwrap_or(usual.max_attempts),
            backoff: self.backoff.unwrap_or(usual.backoff),
            max_backoff: self.max_backoff.unwrap_or(usual.max_backoff),
        }
    }
}
