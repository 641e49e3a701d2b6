//! The jobs that a campaign hands in: each is made from the seed and its number, and what must become of it follows from
//! its kind and input.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ledger::Number;

/// The kinds that are handed in.
pub const KINDS: [&str; 5] = ["echo", "demo.sleep", "demo.flaky", "demo.fail", "demo.progress"];
/// The type of the problem that `demo.fail` fails with.
const PROBLEM: &str = "https://example.com/sold-out";

/// A job to hand in, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Work {
    pub kind: &'static str,
    pub input: Value,
    /// How long it is to wait before it may run.
    pub delay: Option<Duration>,
    pub way: Way,
}

/// How a job is handed in, and what its client does then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Once; whether it was taken may remain open.
    Plain,
    /// Once, and the answer is held until it is done.
    Waiting,
    /// With a key, until there is an answer.
    Keyed,
    /// So many times at once with one key.
    Racing(usize),
    /// With a key, and then once more with the same key and another body.
    Contradicting,
    /// With a key, and canceled by two at once after this time.
    Canceled(Duration),
    /// With a key, and its events are read to the end.
    Followed,
}

/// What becomes of a job that nobody cancels.
#[derive(Debug, Clone, PartialEq)]
pub struct End {
    pub state: &'static str,
    pub attempts: u32,
    pub output: Value,
    /// The type of its problem; empty when it has none.
    pub error: String,
}

/// The work of this number.
pub fn work(seed: u64, n: Number) -> Work {
    // Neighbouring numbers have nothing in common.
    let mut dice = fastrand::Rng::with_seed(seed ^ n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let (kind, input) = match dice.u32(..100) {
        0..50 => ("echo", json!({ "n": n, "text": "x".repeat(dice.usize(..600)) })),
        50..52 => ("echo", json!({ "n": n, "text": "y".repeat(40_000) })),
        52..72 => ("demo.sleep", json!({ "seconds": f64::from(dice.u32(1..120)) / 100.0 })),
        72..74 => ("demo.sleep", json!({ "seconds": 4.0 })),
        74..84 => ("demo.flaky", json!({ "fail_times": dice.u32(..3) })),
        84..92 => ("demo.fail", json!({ "type": PROBLEM, "detail": format!("nothing left of {n}") })),
        _ => ("demo.progress", json!({ "steps": dice.u32(1..8), "seconds": f64::from(dice.u32(1..10)) / 10.0 })),
    };
    let delay = (dice.u32(..10) == 0).then(|| Duration::from_millis(dice.u64(100..4000)));
    let way = match dice.u32(..100) {
        0..35 => Way::Plain,
        35..45 => Way::Waiting,
        45..65 => Way::Keyed,
        65..75 => Way::Racing(dice.usize(2..5)),
        75..80 => Way::Contradicting,
        80..93 => Way::Canceled(Duration::from_millis(dice.u64(..1500))),
        _ => Way::Followed,
    };
    Work { kind, input, delay, way }
}

impl Work {
    /// What is sent.
    pub fn body(&self) -> Value {
        let mut body = json!({
            "input": self.input,
            "retry": { "max_attempts": 5, "backoff": "300ms", "max_backoff": "1s" },
        });
        if let Some(delay) = self.delay {
            body["delay"] = format!("{}ms", delay.as_millis()).into();
        }
        body
    }
}

/// The same job with another body.
pub fn contradiction(body: &Value) -> Value {
    let mut body = body.clone();
    body["priority"] = 9.into();
    body
}

/// What must become of a job with this input.
pub fn end_of(kind: &str, input: &Value) -> End {
    let succeeded = |output| End { state: "succeeded", attempts: 1, output, error: String::new() };
    match kind {
        "demo.sleep" => succeeded(json!({ "slept_seconds": input["seconds"] })),
        "demo.progress" => succeeded(json!({ "steps": input["steps"] })),
        "demo.flaky" => {
            let attempt = input["fail_times"].as_u64().and_then(|times| u32::try_from(times).ok()).unwrap_or(0) + 1;
            End { attempts: attempt, ..succeeded(json!({ "attempt": attempt })) }
        }
        "demo.fail" => End {
            state: "failed",
            attempts: 1,
            output: Value::Null,
            error: input["type"].as_str().unwrap_or_default().to_owned(),
        },
        _ => succeeded(input.clone()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_and_a_number_are_a_job() {
        let all = |seed| (0..500).map(|n| work(seed, n)).collect::<Vec<_>>();
        assert_eq!(all(1), all(1));
        assert_ne!(all(1), all(2));
    }

    #[test]
    fn every_kind_and_every_way_comes_up() {
        let works: Vec<_> = (0..1000).map(|n| work(9, n)).collect();
        let kinds: HashSet<_> = works.iter().map(|work| work.kind).collect();
        assert_eq!(kinds, KINDS.into());
        let ways: HashSet<_> = works.iter().map(|work| std::mem::discriminant(&work.way)).collect();
        assert_eq!(ways.len(), 7);
        assert!(works.iter().any(|work| work.delay.is_some()));
    }

    #[test]
    fn a_contradiction_is_another_body() {
        let body = work(1, 1).body();
        assert_ne!(contradiction(&body), body);
    }
}
