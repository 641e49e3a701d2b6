use buzzer_shared::id::JobId;
use clap::Args;
use serde_json::Value;

use crate::client::{Client, Event};
use crate::failure::{Failure, in_words};
use crate::follow::Following;
use crate::job::Job;
use crate::output;
use crate::output::plain;

/// Watch a job: its events, from the first to the last, as they come.
///
/// Goes on by itself where it was when the server is restarted. Exit code 1 unless the job has succeeded.
#[derive(Debug, Args)]
pub struct Watch {
    /// The job's id.
    id: JobId,

    /// Only what came after the event with this number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    after: u32,

    /// Print each event as a line of JSON.
    #[arg(long)]
    json: bool,
}

impl Watch {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut following = Following::new(client, self.id, self.after);
        loop {
            let Some(event) = following.next(output::complain).await? else {
                return as_it_ended(client.job(self.id).await?.value);
            };
            if self.json {
                output::line(&event.json)?;
            } else {
                output::line(line(&event.value))?;
            }
            if let Some(job) = event.value.ended() {
                return as_it_ended(job.value);
            }
        }
    }
}

fn as_it_ended(job: Job) -> Result<(), Failure> {
    if job.output().is_some() { Ok(()) } else { Err(Failure::NoOutput(Box::new(job))) }
}

/// When, what, and in a few words what else.
fn line(event: &Event) -> String {
    let words = in_few_words(event);
    let line = format!("{}  {:<13}  {words}", event.at, plain(&event.r#type));
    line.trim_end().to_owned()
}

fn in_few_words(event: &Event) -> String {
    if let Some(job) = event.ended() {
        let error = job.value.error.as_ref().map(in_words);
        return job.value.output().map(plain).or(error).unwrap_or_default();
    }
    let data: Value = event.data.as_ref().and_then(|data| serde_json::from_str(data.get()).ok()).unwrap_or_default();
    let text = |name: &str| data[name].as_str().map(plain).unwrap_or_default();
    match event.r#type.as_str() {
        "job.accepted" if data["run_at"].is_string() => format!("not before {}", text("run_at")),
        "job.started" => format!("worker {}", text("worker")),
        "job.progress" => {
            let percent = data["percent"].as_f64().map(|percent| format!("{percent:.0} % ")).unwrap_or_default();
            percent + &text("message")
        }
        "job.log" => text("text"),
        "job.output" => text("chunk"),
        "job.truncated" => "more was told than is kept".into(),
        "job.retrying" => {
            let error = data.get("error").and_then(|error| serde_json::from_value(error.clone()).ok());
            format!("{}; again at {}", error.as_ref().map(in_words).unwrap_or_default(), text("run_at"))
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(r#type: &str, data: &Value) -> String {
        let job = "01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10";
        let at = "2026-11-22T17:14:00.000Z";
        let event = json!({ "seq": 1, "at": at, "type": r#type, "job_id": job, "attempt": 1, "data": data });
        line(&serde_json::from_str(&event.to_string()).unwrap())
    }

    #[test]
    fn an_event_is_a_line() {
        let error = json!({ "type": "t", "title": "No", "detail": "not now" });
        for (r#type, data, words) in [
            ("job.accepted", json!(null), ""),
            ("job.progress", json!({ "percent": 39.6, "message": "page 2" }), "40 % page 2"),
            ("job.log", json!({ "text": "one\ntwo \u{1b}[2J" }), "one two \u{fffd}[2J"),
            ("job.output", json!({ "chunk": "Once upon" }), "Once upon"),
            (
                "job.retrying",
                json!({ "error": error, "run_at": "2026-11-22T17:15:00.000Z" }),
                "No. not now; again at 2026-11-22T17:15:00.000Z",
            ),
            ("job.something-new", json!({ "x": 1 }), ""),
        ] {
            let expected = format!("2026-11-22T17:14:00.000Z  {:<13}  {words}", r#type);
            assert_eq!(shown(r#type, &data), expected.trim_end());
        }
    }
}
