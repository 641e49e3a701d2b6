use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use clap::Args;

use crate::client::{Client, Filter, Jobs};
use crate::failure::Failure;
use crate::job::Job;
use crate::output::{self, plain};
use crate::submit::Tag;

/// List jobs, newest first.
#[derive(Debug, Args)]
pub struct List {
    /// Only jobs in this state: scheduled, queued, running, retrying, succeeded, failed, canceled or expired.
    #[arg(long, short)]
    state: Option<State>,

    /// Only jobs of this kind.
    #[arg(long, short)]
    kind: Option<Kind>,

    /// Only jobs with this tag.
    #[arg(long, short, value_name = "NAME=VALUE")]
    tag: Option<Tag>,

    /// How many at most: 1 to 500.
    #[arg(long, short, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,

    /// Go on from here: the cursor that the page before ended with.
    #[arg(long, short)]
    cursor: Option<String>,

    /// Print the page as JSON: `{"items": […], "next": cursor or null}`.
    #[arg(long)]
    json: bool,
}

impl List {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { state, kind, tag, limit, cursor, json } = self;
        let tag = tag.map(|Tag { name, value }| format!("{name}:{value}"));
        let page = client.jobs(&Filter { state, kind, tag, limit: Some(limit), cursor }).await?;
        if json {
            return Ok(output::line(&page.json)?);
        }
        let Jobs { items, next } = page.value;
        if items.is_empty() {
            output::hint("No jobs.");
            return Ok(());
        }
        output::line(table(&items))?;
        if let Some(next) = next {
            output::hint(&format!("There are more: the same with --cursor {}", plain(&next)));
        }
        Ok(())
    }
}

fn table(jobs: &[Job]) -> String {
    let rows = jobs.iter().map(|job| {
        let tags: Vec<_> = job.tags.iter().map(|(name, value)| plain(&format!("{name}={value}"))).collect();
        [
            job.id.to_string(),
            job.kind.to_string(),
            job.state.to_string(),
            format!("{}/{}", job.attempt, job.max_attempts),
            job.created_at.to_string(),
            tags.join(","),
            job.news(),
        ]
    });
    output::table(["ID", "KIND", "STATE", "ATTEMPT", "CREATED", "TAGS", "NEWS"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::tests::job;

    #[test]
    fn a_table_has_a_line_for_each_job() {
        let text = table(&[
            job(json!({"tags": {"customer": "7"}})),
            job(
                json!({"kind": "http.request", "state": "failed", "done": true, "error": {"type": "t", "title": "No\nluck"}}),
            ),
        ]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(text.starts_with("ID"), "{text}");
        assert_eq!(lines[0], ["ID", "KIND", "STATE", "ATTEMPT", "CREATED", "TAGS", "NEWS"]);
        assert_eq!(lines[1][1..], ["echo", "queued", "1/5", "2026-11-22T17:14:00.000Z", "customer=7"]);
        assert_eq!(lines[2][1..], ["http.request", "failed", "1/5", "2026-11-22T17:14:00.000Z", "No", "luck"]);
    }
}
