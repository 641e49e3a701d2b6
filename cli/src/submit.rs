use std::collections::BTreeMap;
use std::io::Read;
use std::str::FromStr;

use buzzer_shared::kind::Kind;
use buzzer_shared::time::Span;
use clap::Args;
use serde_json::value::RawValue;

use crate::client::{Client, Order, OrderWebhook, Said};
use crate::failure::Failure;
use crate::job::Job;
use crate::{follow, output};

const EXAMPLES: &str = "\
Examples:
  buzzer submit echo --input '{\"hello\": \"world\"}' --wait
  buzzer submit echo --input @request.json --priority 9 --tag customer=7
  generate | buzzer submit echo --input - --idempotency-key order-4711";

/// Hand in a job.
///
/// Prints the job's id and state as soon as the job is accepted: from then on it is kept, whatever happens. With
/// `--wait`, shows how far it is and prints its output once it has succeeded.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Submit {
    /// What sort of work it is, like `echo`; `GET /v1/kinds` lists all.
    kind: Kind,

    /// The input: JSON, `@FILE` for the JSON in a file, or `-` for the JSON on standard input. Sent as it is.
    #[arg(long, short, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    input: Input,

    /// Wait for the end. Prints the output alone, or what went wrong on standard error with exit code 1.
    #[arg(long, short)]
    wait: bool,

    /// Which job goes first: 0 to 31, higher first; 4 when nothing is said.
    #[arg(long, short, value_parser = clap::value_parser!(u8).range(0..=31))]
    priority: Option<u8>,

    /// Run it so long from now, like `90s`, `5m` or `1h 30m`.
    #[arg(long, short, value_name = "LENGTH")]
    delay: Option<Span>,

    /// A text of your own: handing in the same under the same key again gives the same job, and no second one.
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,

    /// A name and value of your own, to find the job by. May be repeated.
    #[arg(long, short, value_name = "NAME=VALUE")]
    tag: Vec<Tag>,

    /// Post the end of the job there, signed with the secret that `buzzer webhooks secret` prints.
    #[arg(long, value_name = "URL")]
    webhook: Option<String>,

    /// Print the whole job as JSON.
    #[arg(long)]
    json: bool,
}

impl Submit {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { kind, input, wait, priority, delay, idempotency_key, tag, webhook, json } = self;
        let tags: BTreeMap<_, _> = tag.into_iter().map(|Tag { name, value }| (name, value)).collect();
        let webhook = webhook.map(|url| OrderWebhook { url });
        let order = Order { input: input.read()?, priority, delay, tags, webhook };
        let job = client.submit(&kind, &order, idempotency_key.as_deref()).await?;
        if wait {
            let job = follow::until_done(client, job).await?;
            return print_end(job, json);
        }
        if json {
            return Ok(output::line(&job.json)?);
        }
        output::line(format!("{}  {}", job.value.id, job.value.state))?;
        output::hint(&next_step(&job.value));
        Ok(())
    }
}

/// Prints the end of a job that was waited for: its output alone, or the job as JSON.
///
/// # Errors
/// When it has no output.
pub fn print_end(job: Said<Job>, json: bool) -> Result<(), Failure> {
    if json {
        output::line(&job.json)?;
    }
    let text = output_of(job.value)?;
    if !json {
        output::line(text)?;
    }
    Ok(())
}

fn output_of(job: Job) -> Result<String, Failure> {
    let output = job.output().map(ToOwned::to_owned);
    output.ok_or_else(|| Failure::NoOutput(Box::new(job)))
}

fn next_step(job: &Job) -> String {
    let waits = job.waiting.as_ref().map(|_| format!("It waits: {}.\n", job.news())).unwrap_or_default();
    format!("{waits}Its end: buzzer get {} --wait", job.id)
}

/// Where the input comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    Json(String),
    File(std::path::PathBuf),
    Stdin,
}

impl FromStr for Input {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix('@') {
            _ if text == "-" => Ok(Self::Stdin),
            Some("") => Err("after the @ comes the name of a file".into()),
            Some(path) => Ok(Self::File(path.into())),
            None => Ok(Self::Json(text.into())),
        }
    }
}

impl Input {
    /// # Errors
    /// When it cannot be read, or is no JSON.
    pub fn read(self) -> Result<Box<RawValue>, Failure> {
        let unreadable = |what: &str, error: std::io::Error| Failure::Usage(format!("cannot read {what}: {error}"));
        let (from, text) = match self {
            Self::Json(text) => ("the input".into(), text),
            Self::File(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&name, error))?;
                (name, text)
            }
            Self::Stdin => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable("standard input", error))?;
                ("standard input".into(), text)
            }
        };
        let value = serde_json::from_str::<&RawValue>(&text);
        value.map(ToOwned::to_owned).map_err(|error| Failure::Usage(not_json(&from, &text, &error)))
    }
}

fn not_json(from: &str, text: &str, error: &serde_json::Error) -> String {
    let hint = if text.trim().is_empty() {
        "; for no input, say null"
    } else if !text.trim_start().starts_with(['{', '[', '"']) {
        "; a text needs quotes of its own, like '\"text\"'"
    } else {
        ""
    };
    format!("{from} is not JSON: {error}{hint}")
}

/// `NAME=VALUE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    pub name: String,
    pub value: String,
}

impl FromStr for Tag {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.into(), value: value.into() }),
            _ => Err("expected NAME=VALUE".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::tests::job;

    fn read(text: &str) -> Result<String, String> {
        let input: Input = text.parse()?;
        input.read().map(|input| input.get().to_owned()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_input_is_json_a_file_or_standard_input() {
        assert_eq!("-".parse(), Ok(Input::Stdin));
        assert_eq!("@-".parse(), Ok(Input::File("-".into())));
        assert_eq!("-1".parse(), Ok(Input::Json("-1".into())));
        assert!("@".parse::<Input>().is_err());
    }

    #[test]
    fn an_input_is_sent_as_it_is() {
        assert_eq!(read(r#" {"a": 1.50, "a": "\u0000"} "#).unwrap(), r#"{"a": 1.50, "a": "\u0000"}"#);
        assert_eq!(read("-1").unwrap(), "-1");
    }

    #[test]
    fn what_is_not_json_is_told_with_the_way_out() {
        assert!(read("").unwrap_err().ends_with("for no input, say null"));
        assert!(read("hello").unwrap_err().contains("quotes of its own"));
        assert!(read(r#"{"a":1"#).unwrap_err().starts_with("the input is not JSON: EOF"));
        assert!(read("{} {}").is_err());
        assert!(read("@/nowhere/at/all").unwrap_err().starts_with("cannot read /nowhere/at/all"));
    }

    #[test]
    fn a_tag_is_split_at_its_first_equals_sign() {
        assert_eq!("a=b=c".parse(), Ok(Tag { name: "a".into(), value: "b=c".into() }));
        assert_eq!("a=".parse(), Ok(Tag { name: "a".into(), value: String::new() }));
        assert!("a".parse::<Tag>().is_err());
        assert!("=b".parse::<Tag>().is_err());
    }

    #[test]
    fn only_a_job_that_succeeded_ends_well() {
        let succeeded = output_of(job(json!({"state": "succeeded", "done": true, "output": 1})));
        assert_eq!(succeeded.unwrap(), "1");
        for state in ["failed", "canceled", "expired"] {
            let ended = output_of(job(json!({"state": state, "done": true})));
            assert!(matches!(ended, Err(Failure::NoOutput(_))), "{state}");
        }
    }

    #[test]
    fn an_accepted_job_tells_what_it_waits_for() {
        let waiting = json!({"for": "worker", "detail": "no worker runs echo now", "position": null});
        let text = next_step(&job(json!({"waiting": waiting})));
        assert!(text.starts_with("It waits: no worker runs echo now.\n"), "{text}");
    }
}
