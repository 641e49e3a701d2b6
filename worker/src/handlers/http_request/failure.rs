use std::time::Duration;

use buzzer_shared::problem::{http, job};
use buzzer_shared::time::Time;
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use super::call::Call;
use crate::egress::EgressError;
use crate::error::JobError;
use crate::handlers::retry_after::retry_after;

/// A service that asks for more patience than this is asked again after it.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

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

/// When a refused call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    Never,
    AsThePolicyHasIt,
    After(Duration),
}

impl Failure {
    pub(super) fn rejected(detail: String) -> Self {
        Self::Rejected(detail)
    }

    pub(super) fn no_answer(call: &Call, error: &EgressError) -> Self {
        let detail = format!("{}: {error}", call.name());
        match error {
            EgressError::Unreachable(_) => Self::Unreachable(detail),
            EgressError::WrongScheme | EgressError::Credentials | EgressError::NotAllowed => Self::Forbidden(detail),
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
            Self::Rejected(detail) => {
                JobError::fail(detail).with_type(job::REJECTED_INPUT).with_title("The handler cannot read this input")
            }
            Self::Forbidden(detail) => {
                JobError::fail(detail).with_type(http::FORBIDDEN_ADDRESS).with_title("This address may not be called")
            }
            Self::Unreachable(detail) => {
                JobError::retry(detail).with_type(http::UNREACHABLE).with_title("The service could not be reached")
            }
            Self::Status { detail, retry } => {
                let error = match retry {
                    Again::Never => JobError::fail(detail),
                    Again::AsThePolicyHasIt => JobError::retry(detail),
                    Again::After(wait) => JobError::retry_after(wait, detail),
                };
                error.with_type(http::STATUS).with_title("The service said no")
            }
            Self::TooLarge(detail) => {
                JobError::fail(detail).with_type(http::RESPONSE_TOO_LARGE).with_title("The response is too large")
            }
        }
    }
}

/// Whether and when a call that was answered so may do better. A service that is busy or broken gets another chance;
/// one that does not want the call as it is does not.
fn again(status: StatusCode, headers: &HeaderMap, now: Time) -> Again {
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return Again::Never;
    }
    // A wait of nothing is no wish: the policy spreads out what failed together.
    match retry_after(headers, now).filter(|wait| !wait.is_zero()) {
        Some(wait) => Again::After(wait.min(MAX_WAIT)),
        None => Again::AsThePolicyHasIt,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{HeaderValue, RETRY_AFTER};

    /// 2026-11-22T17:14:00Z.
    const NOW: Time = Time::from_millis(1_795_367_640_000);

    fn waits(status: u16, retry_after: Option<&'static str>) -> Again {
        let header = retry_after.map(|text| (RETRY_AFTER, HeaderValue::from_static(text)));
        again(StatusCode::from_u16(status).unwrap(), &header.into_iter().collect(), NOW)
    }

    #[test]
    fn a_busy_or_broken_service_is_called_again() {
        for status in [429, 500, 502, 503, 504, 599] {
            assert_eq!(waits(status, None), Again::AsThePolicyHasIt, "{status}");
            assert_eq!(waits(status, Some("7")), Again::After(Duration::from_secs(7)), "{status}");
        }
        for status in [400, 401, 403, 404, 408, 409, 410, 422, 425, 451] {
            assert_eq!(waits(status, Some("7")), Again::Never, "{status}");
        }
    }

    #[test]
    fn retry_after_has_seconds_or_a_date_and_is_believed_for_a_day() {
        let wait = |text| waits(503, Some(text));
        assert_eq!(wait("Sun, 22 Nov 2026 17:15:30 GMT"), Again::After(Duration::from_secs(90)));
        for (text, seconds) in [("86400", 86400), ("86401", 86400), ("18446744073709551615", 86400), (" 3 ", 3)] {
            assert_eq!(wait(text), Again::After(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Again::After(MAX_WAIT));
        for text in ["0", "Sun, 22 Nov 2026 17:13:59 GMT", "soon", "-1", "1.5", "", "99999999999999999999"] {
            assert_eq!(wait(text), Again::AsThePolicyHasIt, "{text}");
        }
    }
}
