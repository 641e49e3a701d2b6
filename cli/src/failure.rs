use std::fmt::Write;

use buzzer_api::app::StartError;
use buzzer_api::auth::NoRandomness;
use buzzer_api::store::StoreError;
use buzzer_prove::error::ProveError;
use buzzer_shared::broker::DeclareError;
use buzzer_shared::job::State;
use buzzer_shared::problem::Problem;
use buzzer_shared::time::Span;

use crate::client::ClientError;
use crate::job::Job;
use crate::output::plain;

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The job ended, but not with an output, or has not ended.
    #[error("{}", ended(.0))]
    NoOutput(Box<Job>),
    /// A webhook did not take what was sent to it.
    #[error("it was not delivered; `buzzer webhooks deliveries` shows what becomes of it")]
    Undelivered,
    /// The command says something that cannot be.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    /// So many checks of `buzzer doctor`, or rows of `buzzer worker-test`, failed.
    #[error("not well: {0} of the checks failed")]
    Unwell(usize),
    /// Somebody stopped `buzzer worker-test`. What it had declared is deleted.
    #[error("stopped before all was tried")]
    Stopped,
    /// A bench saw nothing move for too long.
    #[error("{missing} jobs were not done, and nothing moved for {patience}; --patience waits longer")]
    Missing { missing: u64, patience: Span },
    /// So many jobs of a bench ended otherwise than succeeded.
    #[error("{0} jobs did not succeed; `buzzer list --state failed` shows them")]
    NotSucceeded(u64),
    /// So many posts of `buzzer listen` were not answered with success.
    #[error("{0} of the posts were not taken")]
    NotTaken(u64),
    /// A process that a bench is to watch cannot be seen.
    #[error("cannot watch {name}: {reason}")]
    Unwatched { name: String, reason: String },
    /// RabbitMQ's own speed cannot be measured.
    #[error("--compare-raw: {0}")]
    Baseline(String),
    /// A promise was broken. The campaign has told which.
    #[error("broken: not all is as promised")]
    Broken,
    /// A campaign could not be run to its end.
    #[error(transparent)]
    Prove(#[from] ProveError),
    /// The broker is away, or refuses what a command needs there.
    #[error(transparent)]
    Broker(#[from] DeclareError),
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// Buzzer itself could not start, or broke down.
    #[error("{0}")]
    Up(#[from] anyhow::Error),
    /// The command's own output could not be written.
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    /// Whether the command has said it already, as the last line of its output.
    pub fn is_told(&self) -> bool {
        matches!(self, Self::Broken)
    }

    /// 1: the job has no output. 2: the command was wrong or refused. 3: the server or the store cannot be reached.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoOutput(_) | Self::Missing { .. } | Self::NotSucceeded(_) | Self::Undelivered => 1,
            Self::Up(_) | Self::Randomness(_) | Self::Unwell(_) | Self::Broken | Self::NotTaken(_) => 1,
            Self::Usage(_) | Self::Output(_) | Self::Unwatched { .. } => 2,
            // The store behind it, or a proxy before it, is away.
            Self::Client(error @ ClientError::Refused(_)) if error.is_passing() => 3,
            Self::Client(ClientError::KeyFile(_) | ClientError::Refused(_) | ClientError::NotLetIn { .. }) => 2,
            Self::Client(ClientError::Unreachable { .. } | ClientError::Strange { .. }) => 3,
            Self::Prove(ProveError::NoFault(_)) => 2,
            // As of a program that Ctrl-C has ended.
            Self::Stopped | Self::Prove(ProveError::Stopped) => 130,
            Self::Prove(_) | Self::Open(_) | Self::Store(_) | Self::Baseline(_) | Self::Broker(_) => 3,
        }
    }
}

fn ended(job: &Job) -> String {
    let verb = match job.state {
        State::Canceled => "was",
        State::Failed | State::Expired | State::Succeeded => "has",
        State::Scheduled | State::Queued | State::Running | State::Retrying => "is",
    };
    let mut text = format!("job {} {verb} {}", job.id, job.state);
    if job.state.is_done() && job.attempt > 1 {
        let _ = write!(text, " after {} attempts", job.attempt);
    }
    if let Some(problem) = &job.error {
        let _ = write!(text, ": {}", in_words(problem));
    }
    text
}

/// A problem in plain words: title, detail, and each place that is wrong on a line of its own.
pub fn in_words(problem: &Problem) -> String {
    let title = if problem.title.is_empty() { &problem.r#type } else { &problem.title };
    let mut text = plain(title);
    if let Some(detail) = problem.detail.as_deref().filter(|detail| !detail.is_empty() && *detail != title) {
        let _ = write!(text, ". {}", plain(detail));
    }
    let errors = problem.more.get("errors").and_then(|errors| errors.as_array());
    for error in errors.into_iter().flatten() {
        let field = |name: &str| error.get(name).and_then(|value| value.as_str()).unwrap_or_default();
        let place = Some(field("pointer")).filter(|pointer| !pointer.is_empty()).unwrap_or("the body");
        let _ = write!(text, "\n  {}: {}", plain(place), plain(field("detail")));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::tests::job;

    fn problem(json: serde_json::Value) -> Problem {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_refusal_names_every_place_that_is_wrong() {
        let problem = problem(json!({
            "type": "/problems/invalid-input", "title": "The input is not valid", "status": 422,
            "detail": "It does not fit the schema of echo.",
            "errors": [{"pointer": "/input/seconds", "detail": "\"x\" is not a number"}, {"pointer": "", "detail": "no"}],
        }));
        assert_eq!(
            in_words(&problem),
            "The input is not valid. It does not fit the schema of echo.\n  /input/seconds: \"x\" is not a number\n  the body: no"
        );
    }

    #[test]
    fn a_handlers_own_problem_may_have_a_type_only() {
        assert_eq!(in_words(&problem(json!({"type": "card-declined"}))), "card-declined");
    }

    #[test]
    fn a_problem_cannot_drive_the_terminal() {
        let text = in_words(&problem(json!({"type": "t", "title": "a\u{1b}[2Jb", "detail": "c\u{9b}d"})));
        assert_eq!(text, "a\u{fffd}[2Jb. c\u{fffd}d");
    }

    #[test]
    fn exit_codes_tell_what_happened() {
        let failed = job(json!({"state": "failed", "done": true, "attempt": 3, "error": {"type": "t", "title": "No"}}));
        let failed = Failure::NoOutput(Box::new(failed));
        assert!(failed.to_string().ends_with("has failed after 3 attempts: No"), "{failed}");
        assert_eq!(failed.exit_code(), 1);
        assert_eq!(Failure::Usage("no".into()).exit_code(), 2);
        let refused = ClientError::Refused(Box::new(problem(json!({"type": "t"}))));
        assert_eq!(Failure::from(refused).exit_code(), 2);
        let full = ClientError::Refused(Box::new(problem(json!({"type": "t", "status": 503}))));
        assert_eq!(Failure::from(full).exit_code(), 3);
        let server = "http://127.0.0.1:1".parse::<url::Url>().unwrap();
        let away = ClientError::Unreachable { server, reason: "refused".into(), in_doubt: false };
        assert_eq!(Failure::from(away).exit_code(), 3);
    }
}
