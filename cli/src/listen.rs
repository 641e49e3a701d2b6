use std::time::{Duration, Instant};

use buzzer_shared::job::State;
use buzzer_shared::kind::Kind;
use buzzer_shared::time::{Clock, SystemClock};
use buzzer_shared::webhook::{Body, Secret, Signed};
use clap::{Args, value_parser};
use reqwest::{StatusCode, header};
use serde_json::value::RawValue;
use url::Url;

use crate::client::{Choice, Client, ClientError, Event, Fed, Feed, FeedPlace, Said, root_cause};
use crate::failure::Failure;
use crate::follow::Patience;
use crate::output::{self, plain};

/// As long as Buzzer itself waits for a receiver.
const PATIENCE: Duration = Duration::from_secs(15);

const EXAMPLES: &str = "\
Examples:
  buzzer listen http://127.0.0.1:3000/hooks
  buzzer listen http://127.0.0.1:3000/hooks --kind image.transform --event job.succeeded --event job.failed

It needs no public address, so a receiver can be written and tried on this machine. What is posted is what webhooks post: the \
same headers, body and signature. There is no second attempt here: a post that fails is told with the `--after` that begins \
with it.";

/// Post your events to an address of yours while you write its receiver, signed as webhooks are.
///
/// Follows the feed of all your jobs from now on, and goes on where it was when the server is restarted.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct Listen {
    /// Where to post to.
    #[arg(value_parser = receiver)]
    url: Url,

    /// What to sign with: `whsec_` and 24 to 64 bytes in Base64. Made by chance and printed when absent.
    #[arg(long, env = "BUZZER_WEBHOOK_SECRET", hide_env_values = true)]
    secret: Option<Secret>,

    /// Only events of this type, like job.succeeded; may be repeated.
    #[arg(long, value_name = "TYPE")]
    event: Vec<String>,

    /// Only events of jobs of this kind.
    #[arg(long)]
    kind: Option<Kind>,

    /// Only events of jobs with this tag.
    #[arg(long, value_name = "NAME:VALUE")]
    tag: Option<String>,

    /// Only events that left their job in this state.
    #[arg(long)]
    state: Option<State>,

    /// From after this place in the feed, as an earlier call has told it; `f0` is the beginning.
    #[arg(long, value_name = "PLACE")]
    after: Option<FeedPlace>,

    /// End after so many posts; exit code 1 when one of them failed.
    #[arg(long, short = 'n', value_name = "N", value_parser = value_parser!(u64).range(1..))]
    count: Option<u64>,
}

fn receiver(text: &str) -> Result<Url, String> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err("expected a URL like http://127.0.0.1:3000/hooks".into()),
    }
}

impl Listen {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let Self { url, secret, event: types, kind, tag, state, after, count } = self;
        let secret = secret.map_or_else(by_chance, Ok)?;
        let told = format!("posting to {url}, signed with {}", secret.reveal());
        let poster = Poster::new(url, secret)?;
        let mut feed = FollowedFeed::open(client, Choice { kind, tag, state }, after).await?;
        output::tell(&told);
        let (mut posted, mut failed) = (0, 0);
        while count.is_none_or(|count| posted < count) {
            let (before, event) = feed.next(output::complain).await?;
            if !types.is_empty() && !types.contains(&event.value.r#type) {
                continue;
            }
            let came = poster.post(&event).await?;
            output::line(line(&event.value, &came))?;
            posted += 1;
            if !came.is_success() {
                failed += 1;
                output::complain(&format!("it was not taken; --after {before} begins with it"));
            }
        }
        if failed > 0 { Err(Failure::NotTaken(failed)) } else { Ok(()) }
    }
}

fn by_chance() -> Result<Secret, Failure> {
    let mut random = [0; 32];
    match getrandom::fill(&mut random) {
        Ok(()) => Ok(Secret::of(random)),
        Err(error) => Err(Failure::Usage(format!(
            "the system gives no randomness to make a secret of: {error}; name one with --secret"
        ))),
    }
}

/// The feed, whatever cuts it off.
struct FollowedFeed<'a> {
    client: &'a Client,
    choice: Choice,
    /// Where it goes on.
    place: FeedPlace,
    source: Option<Feed>,
    patience: Patience,
}

impl<'a> FollowedFeed<'a> {
    /// What comes after a place, or from now on.
    async fn open(client: &'a Client, choice: Choice, after: Option<FeedPlace>) -> Result<Self, ClientError> {
        let mut source = client.feed(&choice, after.as_ref()).await?;
        let place = match after {
            Some(place) => place,
            // A server says at once where it is.
            None => source.next().await?.ok_or_else(|| client.strange("its feed has an end".into()))?.place,
        };
        Ok(Self { client, choice, place, source: Some(source), patience: Patience::default() })
    }

    /// The next event, and the place before it. `say` is told when the server is away, and tried again.
    async fn next(&mut self, say: impl Fn(&str)) -> Result<(FeedPlace, Said<Event>), ClientError> {
        loop {
            let error = match self.step().await {
                Ok(Some(Fed { place, event })) => {
                    self.patience.renew();
                    let before = std::mem::replace(&mut self.place, place);
                    match event {
                        Some(event) => return Ok((before, event)),
                        None => continue,
                    }
                }
                Ok(None) => None,
                Err(error) => Some(error),
            };
            self.source = None;
            self.patience.after(error, &say).await?;
        }
    }

    async fn step(&mut self) -> Result<Option<Fed>, ClientError> {
        let source = match self.source.take() {
            Some(source) => source,
            None => self.client.feed(&self.choice, Some(&self.place)).await?,
        };
        self.source.insert(source).next().await
    }
}

/// Posts events as a worker would.
struct Poster {
    http: reqwest::Client,
    url: Url,
    secret: Secret,
}

/// What came of a post.
struct Came {
    answer: Result<StatusCode, String>,
    took: Duration,
}

impl Came {
    fn is_success(&self) -> bool {
        self.answer.as_ref().is_ok_and(StatusCode::is_success)
    }
}

impl Poster {
    fn new(url: Url, secret: Secret) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .user_agent(concat!("buzzer/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build();
        let http =
            http.map_err(|error| Failure::Usage(format!("cannot make HTTP requests: {}", root_cause(&error))))?;
        Ok(Self { http, url, secret })
    }

    async fn post(&self, event: &Said<Event>) -> Result<Came, Failure> {
        let body = body(event).map_err(std::io::Error::from)?;
        let id = format!("{}-{}", event.value.job_id, event.value.seq);
        let signed = Signed::with([&self.secret], &id, SystemClock.now(), body.get());
        let mut request = self.http.post(self.url.clone()).header(header::CONTENT_TYPE, "application/json");
        for (name, value) in signed.headers() {
            request = request.header(name, value);
        }
        let began = Instant::now();
        let answer = request.body(body.get().to_owned()).send().await;
        let answer = answer.map(|response| response.status()).map_err(|error| {
            if error.is_timeout() { format!("no answer within {} s", PATIENCE.as_secs()) } else { root_cause(&error) }
        });
        Ok(Came { answer, took: began.elapsed() })
    }
}

fn body(event: &Said<Event>) -> Result<Box<RawValue>, serde_json::Error> {
    let data: &RawValue = serde_json::from_slice(&event.json)?;
    Body { r#type: &event.value.r#type, timestamp: event.value.at, data }.to_json()
}

/// When, what, of which job, and what came back.
fn line(event: &Event, came: &Came) -> String {
    let answer = match &came.answer {
        Ok(status) => status.as_u16().to_string(),
        Err(reason) => plain(reason),
    };
    let Event { at, r#type, job_id, .. } = event;
    format!("{at}  {:<13}  {job_id}  {answer} in {} ms", plain(r#type), came.took.as_millis())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn event() -> Said<Event> {
        let id = "01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10";
        let at = "2026-11-22T17:14:00.000Z";
        let json = json!({ "seq": 3, "at": at, "type": "job.succeeded", "job_id": id, "attempt": 1, "data": null });
        let json = json.to_string().into_bytes();
        Said { value: serde_json::from_slice(&json).unwrap(), json }
    }

    #[test]
    fn the_body_is_that_of_a_webhook() {
        let event = event();
        let body: Value = serde_json::from_str(body(&event).unwrap().get()).unwrap();
        let data: Value = serde_json::from_slice(&event.json).unwrap();
        assert_eq!(body, json!({ "type": "job.succeeded", "timestamp": "2026-11-22T17:14:00.000Z", "data": data }));
    }

    #[test]
    fn a_line_says_what_came_back() {
        let took = Duration::from_millis(7);
        let begin = "2026-11-22T17:14:00.000Z  job.succeeded  01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10  ";
        for (answer, end) in [
            (Ok(StatusCode::NO_CONTENT), "204 in 7 ms"),
            (Ok(StatusCode::FOUND), "302 in 7 ms"),
            (Err("Connection refused".to_owned()), "Connection refused in 7 ms"),
        ] {
            assert_eq!(line(&event().value, &Came { answer, took }), format!("{begin}{end}"));
        }
        assert!(!Came { answer: Ok(StatusCode::FOUND), took }.is_success(), "it would be followed by nobody");
    }

    #[test]
    fn only_what_can_be_posted_to_is_a_receiver() {
        assert!(receiver("http://127.0.0.1:3000/hooks").is_ok() && receiver("https://example.com").is_ok());
        for bad in ["127.0.0.1:3000", "ftp://a/b", "mailto:a", ""] {
            assert!(receiver(bad).is_err(), "{bad}");
        }
    }
}
