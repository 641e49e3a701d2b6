//! Waits for the end of a job, and shows on a terminal how far it is.

use std::io::IsTerminal;
use std::time::Duration;

use buzzer_shared::retry::RetryPolicy;
use buzzer_shared::time::Span;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::client::{Client, ClientError, Said};
use crate::job::Job;

/// How often a server that is away is asked again: for about a minute in all.
const PATIENCE: RetryPolicy =
    RetryPolicy { max_attempts: 15, backoff: Span::from_millis(500), max_backoff: Span::from_secs(5) };
/// A server that is about to stop answers a long poll at once; it is not asked more often than this.
const POLL_AT_MOST_EVERY: Duration = Duration::from_millis(500);

/// The job once it is done. A server that is away for a while, to be restarted, is waited for.
pub async fn until_done(client: &Client, mut job: Said<Job>) -> Result<Said<Job>, ClientError> {
    let display = Display::new();
    let mut failures = 0;
    while !job.value.done {
        display.show(&job.value);
        let asked = Instant::now();
        match client.job_after(job.value.id, job.value.seq).await {
            Ok(newer) => {
                failures = 0;
                let nothing_new = newer.value.seq <= job.value.seq && !newer.value.done;
                job = newer;
                if nothing_new {
                    tokio::time::sleep_until(asked + POLL_AT_MOST_EVERY).await;
                }
            }
            Err(error) => {
                failures += 1;
                let Some(pause) = pause(&error, failures) else {
                    display.say(&format!("Still waiting for it: buzzer get {} --wait", job.value.id));
                    return Err(error);
                };
                display.say(&format!("{error}. Trying again in {}.", Span::from(pause)));
                tokio::time::sleep(pause).await;
            }
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
