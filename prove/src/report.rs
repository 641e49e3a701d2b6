//! What a campaign came to, for people and programs.

use std::path::Path;

use serde::Serialize;

use crate::checker::{Class, Verdict};
use crate::ground::GroundError;

const MIB: u64 = 1 << 20;

/// The whole of it. The names are for programs, and stay.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Repeats the schedule, with the same settings.
    pub seed: u64,
    /// Buzzer, broker and store.
    pub versions: Vec<String>,
    pub store: &'static str,
    pub apis: usize,
    pub workers: usize,
    pub faults: usize,
    pub seconds: u64,
    /// What could not be tried, and why.
    pub skipped: Vec<String>,
    /// Whether nothing was left to do in the end.
    pub quiet: bool,
    /// Why a system that is not ours could not be left as it was found. `None`: it was.
    pub left: Option<String>,
    /// Whether every promise was kept, and the system left as it was found.
    pub kept: bool,
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl Report {
    /// The same, of a system that could not be left as it was found.
    pub(crate) fn not_left_as_found(self, error: &GroundError) -> Self {
        Self { left: Some(error.to_string()), kept: false, ..self }
    }

    /// What was found, as lines of two columns: what, and how much.
    pub fn lines(&self) -> Vec<[String; 2]> {
        let verdict = &self.verdict;
        let of = |class| verdict.findings.count(class).to_string();
        let line = |name: &str, value: String| [name.to_owned(), value];
        let mut lines = vec![
            line("seed", self.seed.to_string()),
            line("system", self.system()),
            line("faults", format!("{} in {} s", self.faults, self.seconds)),
            line("submissions", self.submissions()),
            line("ended", self.ends()),
            line("runs begun again", verdict.runs_again.to_string()),
            line("events", format!("{}, read by two from the feed", verdict.events)),
            line("cancels answered", verdict.cancels.to_string()),
            line("parked", self.parked()),
            line("memory of an API, at most", self.memory()),
        ];
        lines.extend(self.skipped.iter().map(|skipped| line("not tried", skipped.clone())));
        for (name, recovery) in &verdict.recoveries {
            let times = format!("{:.1} s, at most {:.1} s", seconds(recovery.median_ms), seconds(recovery.longest_ms));
            lines.push(line(&format!("  {name}"), format!("{} × healed; works again after {times}", recovery.count)));
        }
        lines.extend([line("lost", of(Class::Lost)), line("unfinished", of(Class::Unfinished))]);
        lines.extend([line("unexpected", of(Class::Unexpected)), line("duplicated", of(Class::Duplicated))]);
        let others = verdict.findings.iter().filter(|(class, _)| {
            !matches!(class, Class::Lost | Class::Unfinished | Class::Unexpected | Class::Duplicated)
        });
        let others: Vec<_> = others.map(|(class, finding)| format!("{class} {}", finding.count)).collect();
        let others = if others.is_empty() { "0".to_owned() } else { others.join(", ") };
        lines.push(line("anything else that was promised", others));
        lines
    }

    /// What is not as promised, in words.
    pub fn complaints(&self) -> Vec<String> {
        let classes = self.verdict.findings.iter();
        let mut complaints: Vec<_> = classes
            .flat_map(|(class, finding)| {
                let more = finding.count - finding.told.len();
                let more = (more > 0).then(|| format!("and {more} more"));
                let told = finding.told.iter().cloned().chain(more);
                told.map(move |what| format!("{} {class}: {what}", class.promise())).collect::<Vec<_>>()
            })
            .collect();
        if !self.quiet {
            complaints.push("P1 unfinished: jobs were left to do when all was healed".into());
        }
        complaints.extend(self.left.clone());
        complaints
    }

    /// The last line: whether every promise was kept; if not, which were broken, and where to look.
    pub fn verdict(&self, kept_in: Option<&Path>) -> String {
        if self.kept {
            return "kept: every promise held".into();
        }
        let classes = self.verdict.findings.iter();
        let mut broken: Vec<_> = classes.map(|(class, finding)| format!("{class} {}", finding.count)).collect();
        if !self.quiet {
            broken.push("jobs left to do".into());
        }
        if self.left.is_some() {
            broken.push("not left as it was found".into());
        }
        let place = kept_in.map(|folder| format!(", kept in {}", folder.display())).unwrap_or_default();
        format!("broken: {}; seed {}{place}", broken.join(", "), self.seed)
    }

    fn parked(&self) -> String {
        let Verdict { planted, parked, parked_unseen, .. } = &self.verdict;
        let more = if *parked_unseen > 0 { format!(", {parked_unseen} more behind them") } else { String::new() };
        format!("{parked}{more}; put into queues, of use to nobody: {planted}")
    }

    fn memory(&self) -> String {
        let held = self.verdict.memory.map(|bytes| format!("{} MiB", bytes / MIB));
        held.unwrap_or_else(|| "cannot be seen on this machine".into())
    }

    fn system(&self) -> String {
        format!("{} API, {} workers; {}", self.apis, self.workers, self.versions.join(", "))
    }

    fn submissions(&self) -> String {
        let Verdict { asked, accepted, refused, unsure, recovered, .. } = &self.verdict;
        format!(
            "{asked}: {accepted} accepted, {refused} refused, {unsure} without an answer ({recovered} of those are there)"
        )
    }

    fn ends(&self) -> String {
        let states = self.verdict.states.iter();
        states.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ")
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(kept: bool) -> Report {
        let (seed, versions, store, apis, workers, faults, seconds) = (7, Vec::new(), "sqlite", 1, 2, 6, 60);
        let (skipped, left, verdict) = (Vec::new(), None, Verdict::default());
        Report { seed, versions, store, apis, workers, faults, seconds, skipped, quiet: true, left, kept, verdict }
    }

    #[test]
    fn the_last_line_says_it_plainly() {
        let folder = Path::new("campaign");
        assert_eq!(report(true).verdict(Some(folder)), "kept: every promise held");
        let mut broken = report(false);
        broken.verdict.findings.add(Class::Lost, "a".into());
        broken.verdict.findings.add(Class::Lost, "b".into());
        broken.verdict.findings.add(Class::Late, "c".into());
        assert_eq!(broken.verdict(Some(folder)), "broken: lost 2, late 1; seed 7, kept in campaign");
        broken.quiet = false;
        broken.left = Some("a network is gone".into());
        let last = broken.verdict(None);
        assert_eq!(last, "broken: lost 2, late 1, jobs left to do, not left as it was found; seed 7");
    }

    #[test]
    fn what_is_not_as_promised_is_told_with_its_promise() {
        let mut broken = report(false);
        broken.verdict.findings.add(Class::Vanished, "nothing in a queue".into());
        broken.quiet = false;
        let told = ["P6 vanished: nothing in a queue", "P1 unfinished: jobs were left to do when all was healed"];
        assert_eq!(broken.complaints(), told);
    }

    #[test]
    fn memory_that_cannot_be_seen_is_not_said_to_be_none() {
        let of = |memory| Report { verdict: Verdict { memory, ..Verdict::default() }, ..report(true) }.memory();
        assert_eq!((of(Some(30 << 20)), of(None)), ("30 MiB".into(), "cannot be seen on this machine".into()));
    }
}
