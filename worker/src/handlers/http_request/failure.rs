use buzzer_shared::problem::http;
use buzzer_shared::time::Time;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::call::Call;
use crate::egress::EgressError;
use crate::error::JobError;
use crate::retry_after::{Again, again};

/// Why a call has no output. The texts hold neither paths nor headers nor bodies, which may hold secrets.
#[derive(Debug)]
pub(super) enum Failure {
    /// The call cannot be made as it is asked for.
    Rejected(String),
    /// It would go where it must not.
    Forbidden(String),
    /// There was no whole answer.
    Unreachable(String),
    /// The answer was a status that says no, for now or for good.
    Status { detail: String, retry: Again },
    /// The answer was too large.
    TooLarge(String),
}

impl Failure {
    pub(super) fn rejected(detail: String) -> Self {
        Self::Rejected(detail)
    }

    pub(super) fn no_answer(call: &Call, error: &EgressError) -> Self {
        let detail = format!("{}: {error}", call.name());
        match error {
            EgressError::Unreachable(_) => Self::Unreachable(detail),
            EgressError::Credentials => Self::Forbidden(detail + ": send an `Authorization` header"),
            EgressError::WrongScheme | EgressError::NotAllowed => Self::Forbidden(detail),
        }
    }

    pub(super) fn status(call: &Call, status: StatusCode, headers: &HeaderMap, now: Time) -> Self {
        Self::Status { detail: format!("{} answered {status}", call.name()), retry: again(status, headers, now) }
    }

    pub(super) fn too_large(call: &Call, most: usize) -> Self {
        Self::TooLarge(format!("{} answered with a body of more than {most} bytes", call.name()))
    }

    pub(super) fn into_job_error(self) -> JobError {
        match self {
            Self::Rejected(detail) => JobError::rejected_input(detail),
            Self::Forbidden(detail) => {
                JobError::fail(detail).with_type(http::FORBIDDEN_ADDRESS).with_title("This address may not be called")
            }
            Self::Unreachable(detail) => {
                JobError::retry(detail).with_type(http::UNREACHABLE).with_title("The service could not be reached")
            }
            Self::Status { detail, retry } => {
                JobError::again(retry, detail).with_type(http::STATUS).with_title("The service said no")
            }
            Self::TooLarge(detail) => {
                JobError::fail(detail).with_type(http::RESPONSE_TOO_LARGE).with_title("The response is too large")
            }
        }
    }
}
