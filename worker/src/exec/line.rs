//! What a program says on its standard output: one JSON object a line. Pure.

use std::time::Duration;

use buzzer_shared::time::Span;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::value::RawValue;

/// One line, as it is written: `{"progress": {…}}`, `{"log": "…"}`, `{"output": "…"}`, `{"result": …}` or
/// `{"error": {…}}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line {
    /// How far it is.
    Progress(Progress),
    /// Something to read.
    Log(String),
    /// The next piece of the output, for whoever watches.
    Output(String),
    /// The output.
    Result(Box<RawValue>),
    /// Why there is none.
    Error(Reported),
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `percent` and `message`")]
pub(super) struct Progress {
    /// 0 to 100.
    pub(super) percent: Option<f64>,
    #[serde(default)]
    pub(super) message: String,
}

/// An error that a program reports in so many words. It is final, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with `detail`")]
pub(super) struct Reported {
    /// The problem's type; `/problems/program-failed` unless given.
    pub(super) r#type: Option<String>,
    pub(super) detail: String,
    /// Whether another attempt may do better. `retry_after` says so, too.
    #[serde(default)]
    pub(super) retry: bool,
    /// No other attempt before this has passed.
    pub(super) retry_after: Option<Wait>,
}

/// A length of time: a text like `90s`, or a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Wait(pub(super) Duration);

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a length of time, like \"90s\", or a number of seconds")]
        enum Written {
            Seconds(u64),
            Span(Span),
        }
        Ok(Self(match Written::deserialize(deserializer)? {
            Written::Seconds(seconds) => Duration::from_secs(seconds),
            Written::Span(span) => span.as_duration(),
        }))
    }
}

/// The end that a program has told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    Result(Bytes),
    Error(Reported),
}

/// Why a line is none of those. The text goes into the job's problem.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct NotALine {
    reason: String,
    /// What to do, where it can be told.
    pub(super) advice: Option<&'static str>,
}

fn advice(error: &serde_json::Error, line: &[u8]) -> Option<&'static str> {
    match error.classify() {
        Category::Eof if line.trim_ascii_start().starts_with(b"{") => {
            Some("Write each object on one line, as `jq -c` does")
        }
        Category::Syntax | Category::Eof | Category::Io => Some("What is for people belongs on stderr"),
        Category::Data => None,
    }
}

impl Line {
    /// Reads a line. `None` for one that is blank.
    ///
    /// # Errors
    /// When it is not one of the five.
    pub(super) fn read(line: &[u8]) -> Result<Option<Self>, NotALine> {
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(line)
            .map(Some)
            .map_err(|error| NotALine { advice: advice(&error, line), reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Line {
        Line::read(line.as_bytes()).unwrap().expect("a line that is not blank")
    }

    fn complaint(line: &[u8]) -> String {
        Line::read(line).unwrap_err().to_string()
    }

    #[test]
    fn progress_log_and_output_are_read() {
        for (line, percent, message) in [
            (r#"{"progress": {"percent": 40, "message": "page 2"}}"#, Some(40.0), "page 2"),
            (r#"{"progress": {}}"#, None, ""),
        ] {
            let expected = Progress { percent, message: message.into() };
            assert!(matches!(read(line), Line::Progress(progress) if progress == expected), "{line}");
        }
        assert!(matches!(read(" {\"log\": \"a\\nb\"} \r\n"), Line::Log(text) if text == "a\nb"));
        assert!(matches!(read(r#"{"output": "Once"}"#), Line::Output(chunk) if chunk == "Once"));
    }

    #[test]
    fn a_result_is_kept_as_it_was_written() {
        for output in ["null", r#"{"n": 1.50,  "b": "ä\u0000"}"#, "[ ]", "\"x\"", "18446744073709551616"] {
            let line = format!("{{\"result\": {output}}}");
            assert!(matches!(read(&line), Line::Result(raw) if raw.get() == output), "{output}");
        }
    }

    #[test]
    fn what_is_no_line_is_told_with_what_to_do() {
        let advice = |line: &str| Line::read(line.as_bytes()).unwrap_err().advice.unwrap_or_default();
        assert!(advice("{").contains("on one line"));
        assert!(advice("42 files").contains("stderr"));
        assert_eq!(advice(r#"{"progres": {}}"#), "");
        assert_eq!(advice(r#"{"progress": {"percent": "40%"}}"#), "");
    }

    #[test]
    fn an_error_is_final_unless_it_says_otherwise() {
        let error = |line: &str| match read(line) {
            Line::Error(error) => error,
            other => panic!("{other:?}"),
        };
        let plain = error(r#"{"error": {"detail": "no such page"}}"#);
        assert_eq!(plain, Reported { r#type: None, detail: "no such page".into(), retry: false, retry_after: None });
        let typed = error(r#"{"error": {"type": "busy", "detail": "later", "retry": true}}"#);
        assert_eq!((typed.r#type.as_deref(), typed.retry), (Some("busy"), true));
        for wait in ["90", "\"90s\"", "\"1m 30s\""] {
            let error = error(&format!(r#"{{"error": {{"detail": "later", "retry_after": {wait}}}}}"#));
            assert_eq!(error.retry_after, Some(Wait(Duration::from_secs(90))), "{wait}");
        }
    }

    #[test]
    fn a_blank_line_is_nothing() {
        for line in ["", "\n", " \t\r\n"] {
            assert!(Line::read(line.as_bytes()).unwrap().is_none(), "{line:?}");
        }
    }

    #[test]
    fn anything_else_is_told_with_what_is_wrong() {
        for (line, part) in [
            (&b"hello"[..], "expected value"),
            (b"42", "expected"),
            (b"{}", "expected value"),
            (b"[]", "expected"),
            (br#"{"results": 1}"#, "unknown variant `results`, expected one of `progress`, `log`"),
            (br#"{"log": "a", "output": "b"}"#, "expected"),
            (br#"{"log": "a"} {"log": "b"}"#, "trailing characters"),
            (br#"{"log": 1}"#, "expected a string"),
            (br#"{"progress": 50}"#, "an object with `percent`"),
            (br#"{"progress": {"percentage": 1}}"#, "unknown field `percentage`"),
            (br#"{"error": "broken"}"#, "an object with `detail`"),
            (br#"{"error": {"type": "x"}}"#, "missing field `detail`"),
            (br#"{"error": {"detail": "x", "retry_after": "soon"}}"#, "a length of time"),
            (br#"{"error": {"detail": "x", "retry_after": -1}}"#, "a length of time"),
            (br#"{"result": }"#, "expected value"),
            (b"{\"log\": \"\xff\"}", "invalid unicode"),
            (b"{\"result\": \"\xff\"}", "invalid unicode"),
        ] {
            let told = complaint(line);
            assert!(told.contains(part), "{}: {told}", String::from_utf8_lossy(line));
        }
    }
}
