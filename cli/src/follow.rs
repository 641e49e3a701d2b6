//! Follows a job by its events to its end, whatever cuts them off, and shows on a terminal how far it is.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::time::Duration;

use buzzer_shared::id::JobId;
use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Span;
use indicatif::{ProgressBar, ProgressStyle};

use crate::client::{Client, ClientError, Event, Events, Said};
use crate::job::Job;

/// How often a server that is away is asked again: for about a minute in all.
const PATIENCE: RetryPolicy =
    RetryPolicy { max_attempts: 15, backoff: Span::from_millis(500), max_backoff: Span::from_secs(5) };

/// The events of a job, each once and in their order. A stream that is cut goes on where it was.
pub struct Following<'a> {
    client: &'a Client,
    id: JobId,
    /// The number of the last event.
    seq: u32,
    source: Option<Source>,
    patience: Patience,
}

/// Where events come from.
enum Source {
    Stream(Box<Events>),
    /// What there was to read, where the server has no place left for a stream.
    Page(VecDeque<Said<Event>>),
}

impl<'a> Following<'a> {
    /// What happens to a job after event `seq`.
    pub fn new(client: &'a Client, id: JobId, seq: u32) -> Self {
        Self { client, id, seq, source: None, patience: Patience::default() }
    }

    /// The next event; `None` behind the last. `say` is told when the server is away, and tried again.
    pub async fn next(&mut self, say: impl Fn(&str)) -> Result<Option<Said<Event>>, ClientError> {
        loop {
            let error = match self.step().await {
                Ok(Step::Event(event)) => {
                    self.seq = event.value.seq;
                    self.patience.renew();
                    return Ok(Some(event));
                }
                Ok(Step::Over) => return Ok(None),
                // It stops, somebody in between has had enough, or all that there was has been read. Nobody need know.
                Ok(Step::Cut) => None,
                Err(error) => Some(error),
            };
            self.source = None;
            self.patience.after(error, &say).await?;
        }
    }

    async fn step(&mut self) -> Result<Step, ClientError> {
        if self.source.is_none() {
            self.source = self.open().await?;
            // The server is there, however often somebody in between cuts off a job that is quiet.
            self.patience.renew();
        }
        let next = match &mut self.source {
            Some(Source::Stream(events)) => events.next().await?,
            Some(Source::Page(events)) => events.pop_front(),
            None => return Ok(Step::Over),
        };
        Ok(next.map_or(Step::Cut, Step::Event))
    }

    async fn open(&self) -> Result<Option<Source>, ClientError> {
        match self.client.events(self.id, self.seq).await {
            Err(error) if error.is_want_of_streams() => {
                Ok(Some(Source::Page(self.client.news(self.id, self.seq).await?.into())))
            }
            opened => Ok(opened?.map(|events| Source::Stream(Box::new(events)))),
        }
    }
}

/// How long a server that is away is waited for.
#[derive(Debug, Default)]
pub struct Patience {
    /// In a row.
    failures: u32,
}

impl Patience {
    /// The server is there.
    pub fn renew(&mut self) {
        self.failures = 0;
    }

    /// Waits for a while before the next try. `say` is told what went wrong, if anything did.
    ///
    /// # Errors
    /// What went wrong, where another try is no use or there were too many.
    pub async fn after(&mut self, error: Option<ClientError>, say: impl Fn(&str)) -> Result<(), ClientError> {
        let Some(error) = error else {
            tokio::time::sleep(PATIENCE.backoff.as_duration()).await;
            return Ok(());
        };
        self.failures += 1;
        let Some(pause) = pause(&error, self.failures) else { return Err(error) };
        say(&format!("{error}. Trying again in {}.", Span::from(pause)));
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// What came of looking for the next event.
enum Step {
    Event(Said<Event>),
    /// The stream, or the page, has ended before its job.
    Cut,
    /// There is none after the last one.
    Over,
}

/// The job once it is done. A server that is away for a while, to be restarted, is waited for.
pub async fn until_done(client: &Client, mut job: Said<Job>) -> Result<Said<Job>, ClientError> {
    let display = Display::new();
    let id = job.value.id;
    let mut following = Following::new(client, id, job.value.seq);
    while !job.value.done {
        display.show(&job.value);
        let next = following.next(|text| display.say(text)).await;
        let event = next.inspect_err(|_| display.say(&format!("Still waiting for it: buzzer get {id} --wait")))?;
        match event.map(|event| event.value) {
            Some(event) if !event.is_turn() => job.value.take_in(&event),
            Some(event) => match event.ended() {
                // An event is one line; the job itself has its output as the handler made it.
                Some(ended) => job = client.job(id).await.unwrap_or(ended),
                // What it waits for now, only the job itself says. Not to know it is no harm.
                None => job = client.job(id).await.unwrap_or(job),
            },
            None => job = client.job(id).await?,
        }
    }
    Ok(job)
}

/// How long to wait after so many failures in a row; `None` when it is no use.
fn pause(error: &ClientError, failures: u32) -> Option<Duration> {
    (error.is_passing() && failures < PATIENCE.max_attempts).then(|| PATIENCE.delay(failures, 1.0))
}

/// A bar on standard error, if that is a terminal.
struct Display(ProgressBar);

impl Display {
    fn new() -> Self {
        let bar = if std::io::stderr().is_terminal() { ProgressBar::new(100) } else { ProgressBar::hidden() };
        bar.enable_steady_tick(Duration::from_millis(120));
        Self(bar)
    }

    fn show(&self, job: &Job) {
        let percent = job.progress.as_ref().and_then(|progress| progress.percent).filter(|_| job.waiting.is_none());
        self.0.set_prefix(headline(job));
        self.0.set_message(job.news());
        self.0.set_position(steps(percent.unwrap_or_default()));
        let template = match percent {
            Some(_) => "{spinner} {elapsed} {prefix} {bar:30} {msg}",
            None => "{spinner} {elapsed} {prefix} {msg}",
        };
        // The templates are constants, and right.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style.progress_chars("━╸ "));
        }
    }

    /// Tells something that stays on the screen; on a log, too.
    fn say(&self, text: &str) {
        self.0.suspend(|| eprintln!("{text}"));
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn headline(job: &Job) -> String {
    if job.attempt > 1 {
        format!("{} {} (attempt {} of {})", job.kind, job.state, job.attempt, job.max_attempts)
    } else {
        format!("{} {}", job.kind, job.state)
    }
}

/// Of 100. A float becomes an integer only through its text; what is out of range is nothing or all.
fn steps(percent: f64) -> u64 {
    format!("{:.0}", percent.clamp(0.0, 100.0)).parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::tests::job;

    #[test]
    fn a_headline_names_the_attempt_from_the_second_on() {
        assert_eq!(headline(&job(json!({}))), "echo queued");
        assert_eq!(headline(&job(json!({"state": "running", "attempt": 2}))), "echo running (attempt 2 of 5)");
    }

    #[test]
    fn a_server_that_is_away_is_waited_for_but_not_for_ever() {
        let away = || ClientError::Unreachable {
            server: "http://a".parse::<url::Url>().unwrap(),
            reason: "refused".into(),
            in_doubt: false,
        };
        let pauses: Vec<_> = (1..).map_while(|failures| pause(&away(), failures)).collect();
        let all: Duration = pauses.iter().sum();
        assert!((30..90).contains(&all.as_secs()), "{all:?}");
        assert!(pauses.is_sorted() && pauses.iter().all(|pause| *pause <= Duration::from_secs(5)));
    }

    #[test]
    fn a_refusal_is_not_repeated() {
        let gone = serde_json::from_value(json!({"type": "/problems/unknown-job", "status": 404})).unwrap();
        assert_eq!(pause(&ClientError::Refused(gone), 1), None);
    }

    #[test]
    fn a_percentage_is_a_number_of_steps() {
        assert_eq!([-3.0, 0.0, 39.6, 100.0, 1e9, f64::NAN].map(steps), [0, 0, 40, 100, 100, 0]);
    }
}
