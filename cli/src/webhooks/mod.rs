//! `buzzer webhooks`: [`edit`] makes and changes them, [`deliveries`] shows and repeats what they are told, and [`calls`]
//! asks the server.

mod calls;
mod deliveries;
mod edit;

use std::fmt;
use std::str::FromStr;

use buzzer_shared::id::{InvalidId, WebhookId};
use buzzer_shared::time::Span;
use clap::{Args, Subcommand};

use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, plain};

use calls::{Page, Webhook};

/// Register webhook endpoints, and look after what they are told.
#[derive(Debug, Args)]
pub struct Webhooks {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Create(edit::Create),
    List(List),
    Show(Show),
    Update(Box<edit::Update>),
    Rotate(Rotate),
    Secret(Secret),
    Test(deliveries::Test),
    Delete(Delete),
    Deliveries(deliveries::Deliveries),
    Replay(deliveries::Replay),
}

/// List webhooks, the oldest first.
#[derive(Debug, Args)]
struct List {
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

/// Show one webhook, as JSON.
#[derive(Debug, Args)]
struct Show {
    id: WebhookId,
}

/// Make a new secret, and print it on standard output.
///
/// The one before signs, too, for a day or as long as `--overlap` says: either verifies what comes meanwhile.
#[derive(Debug, Args)]
struct Rotate {
    /// The webhook's id; `jobs` for those that jobs name themselves.
    id: Addressee,

    /// How long the secret before still signs, like `24h`; `0s` when it must not sign any more.
    #[arg(long, value_name = "LENGTH")]
    overlap: Option<Span>,
}

/// Print the secret for webhooks that jobs name themselves. That of a registered webhook is shown when it is made.
#[derive(Debug, Args)]
struct Secret {}

/// Delete webhooks, with all that is on its way to them.
#[derive(Debug, Args)]
struct Delete {
    #[arg(required = true, value_name = "ID")]
    ids: Vec<WebhookId>,
}

impl Webhooks {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        match self.command {
            Command::Create(create) => create.run(client).await,
            Command::List(list) => list.run(client).await,
            Command::Show(show) => Ok(output::line(client.webhook(show.id).await?.json)?),
            Command::Update(update) => update.run(client).await,
            Command::Rotate(rotate) => rotate.run(client).await,
            Command::Secret(Secret {}) => Ok(output::line(client.job_secret().await?.value.secret)?),
            Command::Test(test) => test.run(client).await,
            Command::Delete(delete) => delete.run(client).await,
            Command::Deliveries(deliveries) => deliveries.run(client).await,
            Command::Replay(replay) => replay.run(client).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let page = client.webhooks(self.limit, self.cursor.as_deref()).await?;
        if self.json {
            return Ok(output::line(&page.json)?);
        }
        let Page { items, next } = page.value;
        if items.is_empty() {
            output::hint("No webhooks. `buzzer webhooks create URL` registers one.");
            return Ok(());
        }
        output::line(table(&items))?;
        if let Some(next) = next {
            output::hint(&format!("There are more: the same with --cursor {}", plain(&next)));
        }
        Ok(())
    }
}

impl Rotate {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let rotated = client.rotate_secret(&self.id, self.overlap).await?.value;
        if let Some(until) = rotated.former_secret_until {
            output::tell(&format!("the secret before signs, too, until {until}; the new one is:"));
        }
        Ok(output::line(rotated.secret)?)
    }
}

impl Delete {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        for id in self.ids {
            client.delete_webhook(id).await?;
            output::line(format!("{id}  deleted"))?;
        }
        Ok(())
    }
}

/// A webhook that is registered, or those that jobs name themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Addressee {
    Webhook(WebhookId),
    Jobs,
}

impl fmt::Display for Addressee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(id) => id.fmt(f),
            Self::Jobs => f.write_str("jobs"),
        }
    }
}

impl FromStr for Addressee {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "jobs" { Ok(Self::Jobs) } else { text.parse().map(Self::Webhook) }
    }
}

fn table(webhooks: &[Webhook]) -> String {
    let rows = webhooks.iter().map(|webhook| {
        [
            webhook.id.to_string(),
            webhook.state(),
            plain(&webhook.events.join(",")),
            plain(&webhook.filter()),
            plain(&webhook.url),
            plain(webhook.description.as_deref().unwrap_or_default()),
        ]
    });
    output::table(["ID", "STATE", "EVENTS", "ONLY", "URL", "DESCRIPTION"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn webhook(more: &serde_json::Value) -> Webhook {
        let mut webhook = json!({
            "id": "019aad01-0000-7000-8000-000000000000", "url": "https://a.example/x", "events": ["job.failed"], "kinds": [],
            "tags": {}, "description": null, "enabled": true, "disabled": null, "failing_since": null, "something_new": 1,
        });
        webhook.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(webhook).unwrap()
    }

    #[test]
    fn a_table_has_a_line_for_each_webhook() {
        let disabled = json!({ "at": "2026-11-22T17:14:00.000Z", "reason": "gone", "detail": "d" });
        let text = table(&[
            webhook(&json!({ "description": "the\nshop" })),
            webhook(&json!({ "kinds": ["echo"], "tags": { "a": "b" }, "failing_since": "2026-11-22T17:14:00.000Z" })),
            webhook(&json!({ "enabled": false, "disabled": disabled })),
        ]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{text}");
        assert_eq!(lines[1][1..], ["enabled", "job.failed", "https://a.example/x", "the", "shop"]);
        assert_eq!(lines[2][1..], ["failing", "job.failed", "echo", "a=b", "https://a.example/x"]);
        assert_eq!(lines[3][1..], ["disabled:gone", "job.failed", "https://a.example/x"]);
    }

    #[test]
    fn an_addressee_is_an_id_or_all_that_jobs_name() {
        for text in ["jobs", "019aad01-0000-7000-8000-000000000000"] {
            assert_eq!(text.parse::<Addressee>().unwrap().to_string(), text);
        }
        assert!("job".parse::<Addressee>().is_err());
    }
}
