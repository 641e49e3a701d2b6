//! What comes of a run of a program: pure.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use buzzer_shared::problem::program;
use buzzer_shared::text::shorten;
use rustix::process::Signal;

use super::line::{NotALine, Reported, Told};
use super::program::Limits;
use super::tail::Tail;
use crate::error::JobError;
use crate::handler::RawJson;

/// So much of a line that cannot be read is shown.
const SHOWN: usize = 200;
/// So much of a problem's type is kept.
const TYPE_MAX: usize = 256;

/// How a program broke the rules of its standard output. The run is ended for it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Breach {
    #[error(
        "line {number} of its stdout is none of `progress`, `log`, `output`, `result`, `error` ({reason}): `{line}`{}",
        reason.advice.map(|advice| format!(". {advice}")).unwrap_or_default()
    )]
    NotALine { number: u64, line: String, reason: NotALine },
    #[error("line {number} of its stdout has more than {most} bytes; `line` in its table can allow more")]
    LongLine { number: u64, most: usize },
    #[error("it wrote more than {most} bytes to its stdout; `stdout` in its table can allow more")]
    TooMuch { most: usize },
    #[error("line {number} of its stdout tells a second end, after a `result` or an `error`")]
    SecondEnd { number: u64 },
    #[error("its stdout cannot be read: {0}")]
    Unreadable(std::io::Error),
}

impl Breach {
    pub(super) fn not_a_line(number: u64, line: &[u8], reason: NotALine) -> Self {
        let line = String::from_utf8_lossy(line.trim_ascii()).into_owned();
        Self::NotALine { number, line: shorten(line, SHOWN), reason }
    }
}

/// The output of a program that told `told` on its standard output and ended with `status`, or why there is none.
pub(super) fn verdict(
    told: Result<Option<Told>, Breach>,
    status: ExitStatus,
    tail: &Tail,
    limits: &Limits,
) -> Result<RawJson, JobError> {
    match told {
        Err(breach) => Err(broken(format!("The program was ended: {breach}.{}", tail.sentence()))),
        Ok(Some(Told::Error(reported))) => Err(reported.into()),
        Ok(Some(Told::Result(output))) if status.success() => {
            RawJson::try_from(output).map_err(|error| broken(format!("The result cannot be read: {error}.")))
        }
        Ok(Some(Told::Result(_))) => {
            Err(failed(format!("The program gave a result, and then {}.{}", ended(status, limits), tail.sentence())))
        }
        Ok(None) if status.success() => Err(broken(format!(
            "The program ended without a result: it must write a line like {{\"result\": …}} to stdout.{}",
            tail.sentence()
        ))),
        Ok(None) => Err(failed(format!("The program {}.{}", ended(status, limits), tail.sentence()))),
    }
}

/// It could not be started. Another time, or another worker, may be better.
pub(super) fn not_started(reason: &str) -> JobError {
    let detail = format!("The program could not be started: {reason}.");
    JobError::retry(detail).with_type(program::NOT_STARTED).with_title("The program could not be started")
}

/// Nobody knows how it ended.
pub(super) fn unguarded() -> JobError {
    failed("The program's guard was killed, and the program with it. The system's log may say why.".into())
}

/// It does what it must not, and would do so again.
pub(crate) fn broken(detail: String) -> JobError {
    JobError::fail(detail).with_type(program::OUTPUT).with_title("The program's output cannot be read")
}

fn failed(detail: String) -> JobError {
    JobError::retry(detail).with_type(program::FAILED).with_title("The program failed")
}

fn ended(status: ExitStatus, limits: &Limits) -> String {
    match (status.code(), status.signal(), limits.cpu) {
        (_, Some(signal), Some(seconds)) if signal == Signal::XCPU.as_raw() => {
            format!("had used up its {seconds} s of a processor (`cpu` in its table)")
        }
        (Some(code), _, _) => format!("ended with exit code {code}"),
        // Like `signal: 9 (SIGKILL)`.
        _ => format!("was ended by a signal ({status})"),
    }
}

impl From<Reported> for JobError {
    fn from(reported: Reported) -> Self {
        let Reported { r#type, detail, retry, retry_after } = reported;
        let error = match retry_after {
            Some(wait) => Self::retry_after(wait.0, detail),
            None if retry => Self::retry(detail),
            None => Self::fail(detail),
        };
        match r#type.filter(|r#type| !r#type.is_empty()) {
            Some(r#type) => error.with_type(shorten(r#type, TYPE_MAX)),
            None => error.with_type(program::FAILED).with_title("The program failed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::line::Wait;
    use super::*;
    use buzzer_shared::message::{Retry, RunResult};

    const LIMITS: Limits =
        Limits { memory: None, cpu: Some(2), files: 64, stdout: 100, line: 10, grace: Duration::ZERO };

    fn exit(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn problem(told: Result<Option<Told>, Breach>, status: ExitStatus) -> (String, String, Retry) {
        let mut tail = Tail::default();
        tail.push("cannot open x");
        match verdict(told, status, &tail, &LIMITS).unwrap_err().into_result() {
            RunResult::Failed { problem, retry } => (problem.r#type, problem.detail.unwrap(), retry),
            other => panic!("{other:?}"),
        }
    }

    fn result() -> Option<Told> {
        Some(Told::Result("1.50".into()))
    }

    #[test]
    fn a_result_and_a_good_end_is_the_output() {
        let output = verdict(Ok(result()), exit(0), &Tail::default(), &LIMITS).unwrap();
        assert_eq!(&output.as_bytes()[..], b"1.50");
    }

    #[test]
    fn a_bad_end_is_told_with_the_last_words_and_tried_again() {
        for (told, status, part) in [
            (None, exit(3), "ended with exit code 3."),
            (None, ExitStatus::from_raw(9), "ended by a signal (signal: 9 (SIGKILL))"),
            (None, ExitStatus::from_raw(Signal::XCPU.as_raw()), "used up its 2 s of a processor"),
            (result(), exit(1), "gave a result, and then ended with exit code 1"),
        ] {
            let (r#type, detail, retry) = problem(Ok(told), status);
            assert_eq!((r#type.as_str(), retry), (program::FAILED, Retry::Policy), "{detail}");
            assert!(detail.contains(part) && detail.ends_with("on stderr:\ncannot open x"), "{detail}");
        }
    }

    #[test]
    fn who_breaks_the_rules_is_not_run_again() {
        let line = |line: &[u8]| Breach::not_a_line(2, line, crate::exec::line::Line::read(line).unwrap_err());
        let most = 7;
        for (told, part) in [
            (Ok(None), "without a result"),
            (Err(line(b"hello\n")), "line 2 of its stdout is none of `progress`"),
            (Err(line(b"hello\n")), ": `hello`. What is for people belongs on stderr"),
            (Err(line(&[b'x'; 1000])), "xxx…`"),
            (Err(Breach::LongLine { number: 4, most }), "line 4 of its stdout has more than 7 bytes"),
            (Err(Breach::TooMuch { most }), "more than 7 bytes to its stdout"),
            (Err(Breach::SecondEnd { number: 3 }), "line 3 of its stdout tells a second end"),
        ] {
            let (r#type, detail, retry) = problem(told, exit(0));
            assert_eq!((r#type.as_str(), retry), (program::OUTPUT, Retry::Never), "{detail}");
            assert!(detail.contains(part) && detail.len() < 1000, "{detail}");
        }
    }

    #[test]
    fn a_reported_error_counts_whatever_the_exit_code() {
        let reported = |retry, retry_after: Option<u64>, r#type: &str| {
            let retry_after = retry_after.map(|seconds| Wait(Duration::from_secs(seconds)));
            Some(Told::Error(Reported { r#type: Some(r#type.into()), detail: "sold out".into(), retry, retry_after }))
        };
        for (told, expected) in [
            (reported(false, None, "mine"), ("mine", Retry::Never)),
            (reported(true, None, ""), (program::FAILED, Retry::Policy)),
            (reported(false, Some(7), "mine"), ("mine", Retry::After(Duration::from_secs(7)))),
        ] {
            for code in [0, 1] {
                let (r#type, detail, retry) = problem(Ok(told.clone()), exit(code));
                assert_eq!(((r#type.as_str(), retry), detail.as_str()), (expected, "sold out"));
            }
        }
        let (r#type, ..) = problem(Ok(reported(false, None, &"x".repeat(1000))), exit(0));
        assert!(r#type.len() < TYPE_MAX + 4);
    }
}
