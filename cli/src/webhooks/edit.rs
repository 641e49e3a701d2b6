use buzzer_shared::id::WebhookId;
use buzzer_shared::kind::Kind;
use clap::Args;

use super::calls::{Change, NewWebhook};
use crate::client::Client;
use crate::failure::Failure;
use crate::output;
use crate::submit::Tag;

const EXAMPLES: &str = "\
Examples:
  buzzer webhooks create https://example.com/buzzer
  buzzer webhooks create https://example.com/buzzer --event job.failed --kind http.request --tag customer=7";

/// Register an endpoint, and print its id and its secret.
///
/// The secret verifies what is posted, as Standard Webhooks has it, and is shown this once.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Create {
    /// Where to post: `https`, or `http` within the networks that the server's `BUZZER_EGRESS_ALLOW` names.
    url: String,

    /// A type of events to tell, like `job.failed`; the ends of jobs when nothing is said. May be repeated.
    #[arg(long, short, value_name = "TYPE")]
    event: Vec<String>,

    /// Only of jobs of this kind. May be repeated.
    #[arg(long, short)]
    kind: Vec<Kind>,

    /// Only of jobs with this tag. May be repeated: then of those that have them all.
    #[arg(long, short, value_name = "NAME=VALUE")]
    tag: Vec<Tag>,

    /// What it is for, in your own words.
    #[arg(long, short)]
    description: Option<String>,

    /// Print the webhook as JSON, with its secret.
    #[arg(long)]
    json: bool,
}

/// Change a webhook. What is not named stays.
#[derive(Debug, Args)]
pub struct Update {
    id: WebhookId,

    /// Where to post from now on, also what waits already.
    #[arg(long)]
    url: Option<String>,

    /// A type of events to tell, in place of those before. May be repeated.
    #[arg(long, short, value_name = "TYPE")]
    event: Vec<String>,

    /// Only of jobs of this kind, in place of those before. May be repeated.
    #[arg(long, short)]
    kind: Vec<Kind>,

    /// Of jobs of all kinds.
    #[arg(long, conflicts_with = "kind")]
    every_kind: bool,

    /// Only of jobs with this tag, in place of those before. May be repeated.
    #[arg(long, short, value_name = "NAME=VALUE")]
    tag: Vec<Tag>,

    /// Of jobs with whatever tags.
    #[arg(long, conflicts_with = "tag")]
    every_tag: bool,

    /// What it is for, in your own words; nothing takes the words away.
    #[arg(long, short)]
    description: Option<String>,

    /// Tell it again; what failed before is forgiven, and what waits goes out.
    #[arg(long, conflicts_with = "disable")]
    enable: bool,

    /// Tell it nothing more.
    #[arg(long)]
    disable: bool,

    /// Print the webhook as JSON.
    #[arg(long)]
    json: bool,
}

impl Create {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { url, event, kind, tag, description, json } = self;
        let tags = tag.into_iter().map(|Tag { name, value }| (name, value)).collect();
        let order = NewWebhook { url, events: event, kinds: kind, tags, description };
        let said = client.create_webhook(&order).await?;
        if json {
            return Ok(output::line(&said.json)?);
        }
        let webhook = said.value;
        output::hint(&format!("Try it: buzzer webhooks test {}", webhook.id));
        Ok(output::line(format!("{}  {}", webhook.id, webhook.secret.unwrap_or_default()))?)
    }
}

impl Update {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let (id, json) = (self.id, self.json);
        let said = client.update_webhook(id, &self.change()).await?;
        if json {
            return Ok(output::line(&said.json)?);
        }
        Ok(output::line(format!("{id}  {}", said.value.state()))?)
    }

    fn change(self) -> Change {
        let named = |is: bool, empty: bool| is || !empty;
        let kinds = named(self.every_kind, self.kind.is_empty()).then_some(self.kind);
        let tags = named(self.every_tag, self.tag.is_empty());
        let tags = tags.then(|| self.tag.into_iter().map(|Tag { name, value }| (name, value)).collect());
        Change {
            url: self.url,
            events: (!self.event.is_empty()).then_some(self.event),
            kinds,
            tags,
            description: self.description.map(|text| (!text.is_empty()).then_some(text)),
            enabled: (self.enable || self.disable).then_some(self.enable),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    #[test]
    fn a_change_says_only_what_was_asked() {
        let change = |options: &[&str]| {
            let line = [&["update", "019aad01-0000-7000-8000-000000000000"], options].concat();
            serde_json::to_value(Line::try_parse_from(line).unwrap().update.change()).unwrap()
        };
        for (options, expected) in [
            (&[][..], json!({})),
            (&["--enable"], json!({ "enabled": true })),
            (&["--disable", "--url", "https://a"], json!({ "enabled": false, "url": "https://a" })),
            (&["--event", "job.failed", "-k", "echo"], json!({ "events": ["job.failed"], "kinds": ["echo"] })),
            (&["--every-kind", "--every-tag"], json!({ "kinds": [], "tags": {} })),
            (&["-t", "a=b", "-d", ""], json!({ "tags": { "a": "b" }, "description": null })),
        ] {
            assert_eq!(change(options), expected, "{options:?}");
        }
    }
}
