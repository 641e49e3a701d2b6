//! What some checks found, and how it is told.

use std::fmt;

use serde::Serialize;

use crate::output::{self, plain};

/// Every check, in the order of the looking.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    #[serde(flatten)]
    finding: Finding,
}

/// What a check found. The text of what is not well says what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub verdict: Verdict,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// It runs, and somebody should look.
    Warn,
    /// It does not run.
    Fail,
    /// Not looked at, since something else is not well or does not apply.
    Skip,
}

impl Finding {
    pub fn ok(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Ok, text: text.into() }
    }

    pub fn warn(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, text: text.into() }
    }

    pub fn fail(text: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, text: text.into() }
    }

    pub fn skip(why: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, text: why.into() }
    }
}

impl Report {
    pub fn add(&mut self, name: &'static str, finding: Finding) {
        self.checks.push(Check { name, finding });
    }

    pub fn skip(&mut self, name: &'static str, why: &str) {
        self.add(name, Finding::skip(why));
    }

    pub fn failures(&self) -> usize {
        self.checks.iter().filter(|check| check.finding.verdict == Verdict::Fail).count()
    }

    pub fn print(&self, json: bool) -> std::io::Result<()> {
        if json {
            return output::line(serde_json::to_string_pretty(self)?);
        }
        output::line(self.to_string().trim_end())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
        for Check { name, finding: Finding { verdict, text } } in &self.checks {
            writeln!(f, "{:<4}  {name:<width$}  {}", verdict.to_string(), plain(text))?;
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_aligned_and_the_json_is_flat() {
        let mut report = Report::default();
        report.add("store", Finding::ok("SQLite"));
        report.add("permissions", Finding::fail("none\nat all"));
        report.skip("parked", "no");
        assert_eq!(
            report.to_string(),
            "ok    store        SQLite\nfail  permissions  none at all\nskip  parked       no\n"
        );
        assert_eq!(report.failures(), 1);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            json["checks"][1],
            serde_json::json!({"name": "permissions", "verdict": "fail", "text": "none\nat all"})
        );
    }
}
