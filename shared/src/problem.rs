//! What went wrong, in the shape of RFC 9457: the same at HTTP and inside a job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A problem as RFC 9457 writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// What sort of problem: `/problems/{slug}` for ours, a handler's own name verbatim.
    #[serde(rename = "type")]
    pub r#type: String,
    /// The sort of problem in a few words; the same for every problem of this type.
    #[serde(default)]
    pub title: String,
    /// The HTTP status it was answered with. Absent inside a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What happened this time, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// More about it, each named by its problem type.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

impl Problem {
    pub fn new(r#type: impl Into<String>, title: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { r#type: r#type.into(), title: title.into(), status: None, detail: Some(detail.into()), more: Map::new() }
    }

    /// The same problem with one more thing said about it.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.into(), value.into());
        self
    }
}

/// The problems that the kind `http.request` may end a job with.
pub mod http {
    /// The service answered with a status that is not 2xx or 3xx.
    pub const STATUS: &str = "/problems/http-status";
    /// There was no whole answer.
    pub const UNREACHABLE: &str = "/problems/http-unreachable";
    /// The call would go where it must not.
    pub const FORBIDDEN_ADDRESS: &str = "/problems/http-forbidden-address";
    /// The answer has more bytes than the job takes.
    pub const RESPONSE_TOO_LARGE: &str = "/problems/http-response-too-large";

    pub const ALL: [&str; 4] = [STATUS, UNREACHABLE, FORBIDDEN_ADDRESS, RESPONSE_TOO_LARGE];
}

/// The problems that a kind of `exec` may end a job with.
pub mod program {
    /// It ended in another way than with exit code 0, or reported an error without a type of its own.
    pub const FAILED: &str = "/problems/program-failed";
    /// What it wrote to its standard output is not what it must be.
    pub const OUTPUT: &str = "/problems/program-output";
    /// It could not be started.
    pub const NOT_STARTED: &str = "/problems/program-not-started";
}

/// The problems that a kind of `push` may end a job with.
pub mod push {
    /// The service's answer gives no output.
    pub const ANSWER: &str = "/problems/push-answer";
    /// There was no whole answer.
    pub const UNREACHABLE: &str = super::http::UNREACHABLE;
}

/// The problems that Buzzer itself may end a job with.
pub mod job {
    use std::time::Duration;

    use super::Problem;
    use crate::time::{Span, Time};

    pub const TIMEOUT: &str = "/problems/timeout";
    pub const PANIC: &str = "/problems/panic";
    pub const REJECTED_INPUT: &str = "/problems/rejected-input";
    pub const OUTPUT_TOO_LARGE: &str = "/problems/output-too-large";
    /// An `at_most_once` run whose end nobody knows.
    pub const LOST: &str = "/problems/lost";
    /// Three runs brought their worker down.
    pub const POISON: &str = "/problems/poison";
    pub const EXPIRED: &str = "/problems/expired";
    /// A handler failed and gave no type of its own.
    pub const FAILED: &str = "/problems/failed";

    pub fn timeout(limit: Duration) -> Problem {
        Problem::new(TIMEOUT, "The run took too long", format!("The run was ended after {}.", Span::from(limit)))
    }

    pub fn panic(message: &str) -> Problem {
        Problem::new(PANIC, "The handler panicked", message)
    }

    pub fn lost(reason: impl std::fmt::Display) -> Problem {
        Problem::new(LOST, "Nobody knows how the run ended", reason.to_string())
    }

    /// A worker says that it canceled the run, and nobody had asked for that.
    pub fn gave_up() -> Problem {
        Problem::new(FAILED, "The handler failed", "The run was given up, although nobody had asked for that.")
    }

    pub fn expired(at: Time) -> Problem {
        Problem::new(EXPIRED, "The job was not started in time", format!("It should have started by {at}."))
    }

    /// `runs` ended with the loss of their worker.
    pub fn poison(runs: u32) -> Problem {
        let detail =
            format!("At least {runs} runs of this job ended with the loss of their worker; it is not run again.");
        Problem::new(POISON, "The job brings workers down", detail).with("runs", runs)
    }

    pub fn rejected_input(reason: impl std::fmt::Display) -> Problem {
        Problem::new(REJECTED_INPUT, "The handler cannot read this input", reason.to_string())
    }

    pub fn output_too_large(size: usize, limit: usize) -> Problem {
        Problem::new(
            OUTPUT_TOO_LARGE,
            "The output is too large",
            format!("The output has {size} bytes; at most {limit} are taken."),
        )
        .with("size", size)
        .with("limit", limit)
    }
}
