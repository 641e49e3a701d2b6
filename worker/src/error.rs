//! How a handler says that it failed.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use buzzer_shared::message::{Retry, RunResult};
use buzzer_shared::problem::{Problem, job};
use buzzer_shared::text::shorten;

use crate::retry_after::Again;

/// So much of a detail is kept. A failure must stay small enough to be told, whatever an error's text holds.
const MAX_DETAIL: usize = 8 * 1024;

/// Why a run failed, and whether another attempt may do better.
///
/// Any [`std::error::Error`] becomes one with `?`: tried again as the job's policy has it, its sources in the detail.
/// The client reads type and detail, so neither may hold a secret.
#[derive(Debug)]
pub struct JobError {
    retry: Retry,
    r#type: Cow<'static, str>,
    title: &'static str,
    detail: String,
}

impl JobError {
    /// It may go well another time. The job's policy says when, and how often.
    ///
    /// Takes whatever can be shown, so `map_err(JobError::retry)` works for `anyhow::Error` too.
    pub fn retry(detail: impl fmt::Display) -> Self {
        Self::new(Retry::Policy, &detail)
    }

    /// It may go well, but not before `delay` has passed: a server said `Retry-After`.
    pub fn retry_after(delay: Duration, detail: impl fmt::Display) -> Self {
        Self::new(Retry::After(delay), &detail)
    }

    /// It will never go well: no other attempt.
    pub fn fail(detail: impl fmt::Display) -> Self {
        Self::new(Retry::Never, &detail)
    }

    /// The input cannot be worked on, whether or not the API had it fit the kind's schema.
    pub(crate) fn rejected_input(detail: impl fmt::Display) -> Self {
        Self::fail(detail).reject()
    }

    /// The input is not what this worker says that it takes, though the API has taken it: perhaps another worker says
    /// otherwise, and may run it. Tried again by the policy.
    pub(crate) fn unfit_input(misfit: impl fmt::Display) -> Self {
        let detail = format!("{misfit}. The API took it, perhaps by another contract of the kind.");
        Self::retry(detail).reject()
    }

    fn reject(self) -> Self {
        self.with_type(job::REJECTED_INPUT).with_title("The handler cannot read this input")
    }

    /// A service said no, and [`again`](crate::retry_after::again) when to call it again.
    pub(crate) fn again(when: Again, detail: impl fmt::Display) -> Self {
        match when {
            Again::Never => Self::fail(detail),
            Again::AsThePolicyHasIt => Self::retry(detail),
            Again::After(wait) => Self::retry_after(wait, detail),
        }
    }

    /// The same with a problem type of your own, which the client gets verbatim; `/problems/failed` otherwise.
    #[must_use]
    pub fn with_type(mut self, r#type: impl Into<Cow<'static, str>>) -> Self {
        self.r#type = r#type.into();
        self
    }

    /// What every failure of its type is called; the type's page has the same.
    #[must_use]
    pub(crate) fn with_title(mut self, title: &'static str) -> Self {
        self.title = title;
        self
    }

    fn new(retry: Retry, detail: &dyn fmt::Display) -> Self {
        // The alternate form of an `anyhow::Error` tells its causes too.
        let detail = shorten(format!("{detail:#}"), MAX_DETAIL);
        Self { retry, r#type: job::FAILED.into(), title: "The handler failed", detail }
    }

    pub(crate) fn into_result(self) -> RunResult {
        let problem = Problem::new(self.r#type, self.title, self.detail);
        RunResult::Failed { problem, retry: self.retry }
    }
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for JobError {
    fn from(error: E) -> Self {
        let mut detail = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            detail = format!("{detail}: {cause}");
            source = cause.source();
        }
        Self::retry(detail)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(error: JobError) -> (Problem, Retry) {
        match error.into_result() {
            RunResult::Failed { problem, retry } => (problem, retry),
            other => panic!("not a failure: {other:?}"),
        }
    }

    #[test]
    fn any_error_converts_and_tells_its_causes() {
        #[derive(Debug, thiserror::Error)]
        #[error("the page did not load")]
        struct Outer(#[source] std::io::Error);

        fn run() -> Result<(), JobError> {
            Err(Outer(std::io::Error::other("cable cut")))?;
            Ok(())
        }
        let (problem, retry) = problem(run().unwrap_err());
        assert_eq!(problem.detail.as_deref(), Some("the page did not load: cable cut"));
        assert_eq!((problem.r#type.as_str(), retry), (job::FAILED, Retry::Policy));
    }

    #[test]
    fn anyhow_tells_its_causes_too() {
        let error = anyhow::anyhow!("cable cut").context("the page did not load");
        assert_eq!(JobError::retry(error).to_string(), "the page did not load: cable cut");
    }

    #[test]
    fn a_failure_keeps_its_own_type() {
        let (problem, retry) = problem(JobError::fail("no such card").with_type("https://example.com/card"));
        assert_eq!((problem.r#type.as_str(), retry), ("https://example.com/card", Retry::Never));
        let delay = Duration::from_secs(7);
        assert_eq!(self::problem(JobError::retry_after(delay, "busy")).1, Retry::After(delay));
    }

    #[test]
    fn a_detail_is_cut_between_characters() {
        assert!(JobError::fail("x".repeat(1 << 20)).to_string().len() < MAX_DETAIL + 4);
    }
}
