use clap::{Args, Subcommand};

use crate::client::{Client, ClientError, ParkedMessage};
use crate::failure::{Failure, in_words};
use crate::output::{self, plain};

/// So many are taken in hand at a time with `--all`.
const PAGE: u16 = 500;
/// So much of a body is shown in the table.
const GLIMPSE: usize = 40;

/// Look after parked messages: those that nobody could read or route.
///
/// Without a command, lists them, the oldest first.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Parked {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
    Replay(Replay),
    Drop(Drop),
}

/// Which are listed, and how.
#[derive(Debug, Args)]
struct List {
    /// How many at most: 1 to 500.
    #[arg(long, short, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    limit: u16,

    /// Print the list as JSON: `{"items": […], "total": number}`.
    #[arg(long)]
    json: bool,
}

/// Show one message with its whole body, as JSON.
#[derive(Debug, Args)]
struct Show {
    /// The message's id, as the list has it.
    id: String,
}

/// Send messages back to the queues that they came from.
///
/// Who still cannot use one parks it again. Exit code 2 when one of them cannot go back; the others have.
#[derive(Debug, Args)]
struct Replay {
    #[command(flatten)]
    which: Which,
}

/// Drop messages for good.
#[derive(Debug, Args)]
struct Drop {
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The messages' ids, as the list has them.
    #[arg(value_name = "ID")]
    ids: Vec<String>,

    /// All that are parked now.
    #[arg(long)]
    all: bool,
}

impl Parked {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        match self.command {
            None => self.list.run(client).await,
            Some(Command::Show(show)) => Ok(output::line(client.parked_message(&show.id).await?.json)?),
            Some(Command::Replay(replay)) => replay.run(client).await,
            Some(Command::Drop(drop)) => drop.run(client).await,
        }
    }
}

impl List {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let said = client.parked(self.limit).await?;
        if self.json {
            return Ok(output::line(&said.json)?);
        }
        let list = said.value;
        if list.items.is_empty() {
            output::hint("Nothing is parked.");
            return Ok(());
        }
        output::line(table(&list.items))?;
        if list.total > list.items.len() {
            output::hint(&format!("There are {} in all.", list.total));
        }
        Ok(())
    }
}

impl Replay {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut refused = 0;
        for id in self.which.ids(client).await? {
            match client.replay(&id).await {
                Ok(_) => output::line(format!("replayed {}", plain(&id)))?,
                Err(ClientError::Refused(problem)) => {
                    output::complain(&format!("{}: {}", plain(&id), in_words(&problem)));
                    refused += 1;
                }
                Err(other) => return Err(other.into()),
            }
        }
        if refused > 0 {
            return Err(Failure::Usage(format!("{refused} did not go back; what did is replayed")));
        }
        Ok(())
    }
}

impl Drop {
    async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut refused = 0;
        for id in self.which.ids(client).await? {
            match client.drop_parked(&id).await {
                Ok(_) => output::line(format!("dropped {}", plain(&id)))?,
                Err(ClientError::Refused(problem)) => {
                    output::complain(&format!("{}: {}", plain(&id), in_words(&problem)));
                    refused += 1;
                }
                Err(other) => return Err(other.into()),
            }
        }
        if refused > 0 {
            return Err(Failure::Usage(format!("{refused} were not dropped; the others are")));
        }
        Ok(())
    }
}

impl Which {
    async fn ids(self, client: &Client) -> Result<Vec<String>, ClientError> {
        if !self.all {
            return Ok(self.ids);
        }
        let list = client.parked(PAGE).await?.value;
        if list.total > list.items.len() {
            output::hint(&format!(
                "These are the oldest {} of {}; run it again for more.",
                list.items.len(),
                list.total
            ));
        }
        Ok(list.items.into_iter().map(|message| message.id).collect())
    }
}

fn table(messages: &[ParkedMessage]) -> String {
    let rows = messages.iter().map(|message| {
        let text = |text: &Option<String>| plain(text.as_deref().unwrap_or("-"));
        let body: String = text(&message.body).chars().take(GLIMPSE).collect();
        [
            message.id.clone(),
            text(&message.from),
            plain(&message.r#type),
            text(&message.message_id),
            message.size.to_string(),
            text(&message.reason),
            body,
        ]
    });
    output::table(["ID", "FROM", "TYPE", "MESSAGE", "BYTES", "REASON", "BODY"], rows)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_message() {
        let message = json!({
            "id": "0123456789abcdef", "from": "buzzer.replies.v1", "reason": "it has no\nresult", "type": "buzzer.outcome.v1",
            "message_id": null, "size": 3, "body": "a\u{1b}b", "something_new": 1,
        });
        let text = table(&[serde_json::from_value(message).unwrap()]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[1][..5], ["0123456789abcdef", "buzzer.replies.v1", "buzzer.outcome.v1", "-", "3"]);
        assert_eq!(lines[1][5..], ["it", "has", "no", "result", "a\u{fffd}b"]);
    }
}
