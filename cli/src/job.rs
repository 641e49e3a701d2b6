//! A job as the server shows it, and as people read it.

use std::collections::BTreeMap;
use std::fmt::Write;

use buzzer_shared::id::JobId;
use buzzer_shared::job::{Priority, State};
use buzzer_shared::kind::Kind;
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Time;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::client::{Event, Said};
use crate::failure::in_words;
use crate::output::plain;

/// A job. What a newer server says beyond this is left alone.
#[derive(Debug, Deserialize)]
pub struct Job {
    pub id: JobId,
    pub kind: Kind,
    pub state: State,
    pub done: bool,
    pub seq: u32,
    pub attempt: u32,
    pub max_attempts: u32,
    pub priority: Priority,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    output: Option<Box<RawValue>>,
    #[serde(default)]
    pub retry_of: Option<JobId>,
    #[serde(default)]
    pub cancel_requested_at: Option<Time>,
    pub error: Option<Problem>,
    pub progress: Option<Progress>,
    pub waiting: Option<Waiting>,
    pub created_at: Time,
    pub run_at: Time,
    pub started_at: Option<Time>,
    pub finished_at: Option<Time>,
}

#[derive(Debug, Deserialize)]
pub struct Progress {
    /// 0 to 100.
    #[serde(default)]
    pub percent: Option<f64>,
    #[serde(default)]
    pub message: Option<String>,
}

#[derive(Debug, Deserialize)]
pub struct Waiting {
    pub detail: String,
    /// How many go before it.
    pub position: Option<u32>,
}

impl Event {
    /// The job, if this is its last event.
    pub fn ended(&self) -> Option<Said<Job>> {
        let json = self.data.as_ref().filter(|_| self.ends())?.get();
        Some(Said { value: serde_json::from_str(json).ok()?, json: json.as_bytes().to_vec() })
    }

    fn ends(&self) -> bool {
        matches!(self.r#type.as_str(), "job.succeeded" | "job.failed" | "job.canceled" | "job.expired")
    }

    /// Whether it is more than something that a handler tells.
    pub fn is_turn(&self) -> bool {
        !matches!(self.r#type.as_str(), "job.progress" | "job.log" | "job.output" | "job.truncated")
    }
}

impl Job {
    /// The same after an event that changes at most its progress.
    pub fn take_in(&mut self, event: &Event) {
        self.seq = event.seq;
        if event.r#type == "job.progress"
            && let Some(data) = &event.data
        {
            self.progress = serde_json::from_str(data.get()).ok();
        }
    }

    /// The output, byte for byte as the handler made it. `None` unless the job has succeeded.
    pub fn output(&self) -> Option<&str> {
        // An output of `null` is an output.
        (self.state == State::Succeeded).then(|| self.output.as_ref().map_or("null", |output| output.get()))
    }

    /// How it is just now, in a few words: what it waits for, how far it is, or why it failed.
    pub fn news(&self) -> String {
        if let Some(waiting) = &self.waiting {
            return match waiting.position {
                Some(0) => format!("{}; it is next", plain(&waiting.detail)),
                Some(before) => format!("{}; {before} before it", plain(&waiting.detail)),
                None => plain(&waiting.detail),
            };
        }
        if let Some(error) = self.error.as_ref().filter(|_| self.done) {
            return plain(if error.title.is_empty() { &error.r#type } else { &error.title });
        }
        match &self.progress {
            Some(Progress { percent, message }) if !self.done => {
                let percent = percent.map(|percent| format!("{percent:.0} %"));
                [percent, message.as_deref().map(plain)].into_iter().flatten().collect::<Vec<_>>().join(" ")
            }
            _ => String::new(),
        }
    }

    /// All about it, for people: a heading and indented lines.
    pub fn describe(&self) -> String {
        let mut text = format!("{}  {}  {}", self.id, self.kind, self.state);
        let mut row = |name: &str, value: &str| {
            if !value.is_empty() {
                // Writing to a string cannot fail.
                let _ = write!(text, "\n  {name:<9} {value}");
            }
        };
        let time = |at: Option<Time>| at.map(|at| at.to_string()).unwrap_or_default();
        let tags: Vec<_> = self.tags.iter().map(|(name, value)| plain(&format!("{name}={value}"))).collect();
        let news = if self.waiting.is_some() { "waits" } else { "progress" };
        row("attempt", &format!("{} of {}", self.attempt, self.max_attempts));
        row("priority", &self.priority.get().to_string());
        row("tags", &tags.join(", "));
        row("retry of", &self.retry_of.map(|id| id.to_string()).unwrap_or_default());
        row("created", &time(Some(self.created_at)));
        row("runs at", &time(Some(self.run_at).filter(|_| self.state == State::Scheduled)));
        row("started", &time(self.started_at));
        row("to stop", &time(self.cancel_requested_at.filter(|_| !self.done)));
        row("finished", &time(self.finished_at));
        if !self.done {
            row(news, &self.news());
        }
        row("error", &self.error.as_ref().map(in_words).unwrap_or_default());
        row("output", self.output().unwrap_or_default());
        text
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A queued job, with some things said otherwise.
    #[expect(clippy::needless_pass_by_value, reason = "`json!` reads better at the call without a `&`")]
    pub fn job(other: Value) -> Job {
        let mut job = json!({
            "id": "01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10", "kind": "echo", "state": "queued", "done": false, "seq": 1,
            "attempt": 1, "max_attempts": 5, "priority": 4, "tags": {}, "error": null, "progress": null, "waiting": null,
            "created_at": "2026-11-22T17:14:00.000Z", "run_at": "2026-11-22T17:14:00.000Z", "started_at": null,
            "finished_at": null, "links": {"self": "/v1/jobs/1"},
        });
        for (name, value) in other.as_object().unwrap() {
            job[name] = value.clone();
        }
        serde_json::from_str(&job.to_string()).unwrap()
    }

    #[test]
    fn an_output_is_kept_as_it_came() {
        let text = r#"{"id":"01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10","kind":"echo","state":"succeeded","done":true,"seq":3,
            "attempt":1,"max_attempts":5,"priority":4,"tags":{},"output":{ "n": 1.500, "b":"\u0000"},"error":null,
            "progress":null,"waiting":null,"created_at":"2026-11-22T17:14:00.000Z","run_at":"2026-11-22T17:14:00.000Z",
            "started_at":null,"finished_at":null,"something_new":1}"#;
        let job: Job = serde_json::from_str(text).unwrap();
        assert_eq!(job.output(), Some(r#"{ "n": 1.500, "b":"\u0000"}"#));
    }

    #[test]
    fn null_is_an_output_but_only_of_what_succeeded() {
        assert_eq!(job(json!({"state": "succeeded", "done": true, "output": null})).output(), Some("null"));
        assert_eq!(job(json!({"state": "failed", "done": true, "output": null})).output(), None);
    }

    #[test]
    fn the_news_are_what_a_job_waits_for_or_how_far_it_is() {
        let waits = |position: Value| {
            let waiting = json!({"for": "worker", "detail": "no worker runs echo now", "position": position});
            job(json!({"waiting": waiting})).news()
        };
        assert_eq!(waits(json!(12)), "no worker runs echo now; 12 before it");
        assert_eq!(waits(json!(0)), "no worker runs echo now; it is next");
        assert_eq!(waits(json!(null)), "no worker runs echo now");
        let runs = job(json!({"state": "running", "progress": {"percent": 39.6, "message": "page\n2"}}));
        assert_eq!(runs.news(), "40 % page 2");
        assert_eq!(job(json!({"state": "running"})).news(), "");
    }

    #[test]
    fn a_description_shows_only_what_there_is() {
        let text = job(json!({"tags": {"customer": "7"}})).describe();
        assert_eq!(
            text,
            "01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10  echo  queued\n  attempt   1 of 5\n  priority  4\n  \
             tags      customer=7\n  created   2026-11-22T17:14:00.000Z"
        );
    }
}
