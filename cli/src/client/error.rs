//! Why there is no good answer.

use buzzer_shared::from_file::InvalidFile;
use buzzer_shared::problem::Problem;
use reqwest::StatusCode;
use url::Url;

use crate::failure::in_words;

/// Why there is no good answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("cannot reach {server}: {reason}{}", doubt(*.in_doubt))]
    Unreachable {
        server: Url,
        reason: String,
        /// Whether a job that was handed in may have been accepted all the same.
        in_doubt: bool,
    },
    /// The file that is to hold the API key does not.
    #[error("invalid BUZZER_KEY_FILE (--key-file): {0}")]
    KeyFile(#[from] InvalidFile),
    #[error("{}", in_words(.0))]
    Refused(Box<Problem>),
    #[error("{server} {}; `buzzer keys create` makes one", want(*.had_key))]
    NotLetIn {
        server: Url,
        /// Whether a key was sent: then it is the wrong one.
        had_key: bool,
    },
    /// Somebody answers there, but not Buzzer, or one of another age.
    #[error("{server} does not answer as Buzzer does: {reason}")]
    Strange { server: Url, reason: String },
}

fn doubt(in_doubt: bool) -> &'static str {
    if in_doubt { ". It may have been accepted; with --idempotency-key it is safe to ask again" } else { "" }
}

fn want(had_key: bool) -> &'static str {
    if had_key {
        "does not know this API key, or it was revoked: set BUZZER_KEY to another"
    } else {
        "lets nobody in without an API key: set BUZZER_KEY to one"
    }
}

impl ClientError {
    /// Whether the same request may well be answered a little later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::KeyFile(_) | Self::NotLetIn { .. } => false,
            Self::Refused(problem) => problem.status.is_some_and(|status| status >= 500 || status == 429),
            // A proxy whose server is just being restarted.
            Self::Strange { reason, .. } => reason.starts_with("it answered 5"),
        }
    }

    /// Whether the server has no place left for another stream of events; all else it answers.
    pub fn is_want_of_streams(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.r#type == "/problems/too-many-streams")
    }
}

/// What an answer says that is no success.
pub fn refusal(server: &Url, had_key: bool, status: StatusCode, body: &[u8]) -> ClientError {
    let server = server.clone();
    match serde_json::from_slice::<Problem>(body) {
        Ok(_) if status == StatusCode::UNAUTHORIZED => ClientError::NotLetIn { server, had_key },
        Ok(problem) => ClientError::Refused(Box::new(Problem { status: Some(status.as_u16()), ..problem })),
        Err(_) => ClientError::Strange { server, reason: format!("it answered {status}") },
    }
}

/// Nobody answers there, or not in time, or not to the end.
pub(super) fn unreachable(server: &Url, error: &reqwest::Error, hands_in: bool) -> ClientError {
    let connected = !error.is_connect() && !error.is_builder();
    let reason = if error.is_timeout() { "it does not answer in time".into() } else { root_cause(error) };
    ClientError::Unreachable { server: server.clone(), reason, in_doubt: hands_in && connected }
}

/// The innermost error is the one that says something: `Connection refused`, not `error sending request`.
pub fn root_cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
