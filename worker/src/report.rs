//! What a handler tells while it runs, until it is sent. Pure.

use std::collections::VecDeque;

use buzzer_shared::message::SignalBody;

/// What one signal holds at most, in bytes: lines of a log, and pieces of an output, that wait for each other go together.
const LOG_MAX: usize = 4 * 1024;
const OUTPUT_MAX: usize = 8 * 1024;
/// So many bytes of log and output wait at most; what else is told meanwhile is left out.
const WAITING_MAX: usize = 64 * 1024;
/// What each of them counts beside its text: a million empty ones are not nothing.
const ENTRY: usize = 32;

/// The reports of one run that wait for their turn, in the order in which they were made.
#[derive(Debug, Default)]
pub(crate) struct Reports {
    waiting: VecDeque<SignalBody>,
    /// Of what waits, but for the progress.
    bytes: usize,
    /// Bytes of log that found no room since it was last said.
    left_out: usize,
    /// Whether nobody will take anything any more that is told from now on.
    closed: bool,
    /// Whether each report stays by itself, however many there are: in the tests of a handler.
    keeps_all: bool,
}

impl Reports {
    /// Reports of which none is left out and none goes together with another.
    pub(crate) fn keeping_all() -> Self {
        Self { keeps_all: true, ..Self::default() }
    }

    /// Only the latest progress counts: it takes the place of one that still waits, at the end of the line.
    pub(crate) fn progress(&mut self, percent: Option<f64>, message: Option<String>) {
        if self.closed {
            return;
        }
        if !self.keeps_all {
            self.waiting.retain(|report| !matches!(report, SignalBody::Progress { .. }));
        }
        self.waiting.push_back(SignalBody::Progress { percent, message });
    }

    pub(crate) fn log(&mut self, text: &str) {
        if self.closed {
            return;
        }
        for text in pieces(text, LOG_MAX) {
            if !self.take_room(text) {
                self.left_out += text.len();
                continue;
            }
            self.waiting.push_back(SignalBody::Log { text: text.into() });
        }
    }

    pub(crate) fn output(&mut self, chunk: &str) {
        if self.closed {
            return;
        }
        for chunk in pieces(chunk, OUTPUT_MAX) {
            if self.take_room(chunk) {
                self.waiting.push_back(SignalBody::Output { chunk: chunk.into() });
            }
        }
    }

    /// From now on nothing is taken in.
    pub(crate) fn close(&mut self) {
        self.closed = true;
    }

    /// The next signal: what stands first, and what stands behind it and fits in with it.
    pub(crate) fn next(&mut self) -> Option<SignalBody> {
        let Some(mut first) = self.waiting.pop_front() else { return self.complaint() };
        self.free_room(&first);
        while !self.keeps_all
            && let Some(next) = self.waiting.front()
            && append(&mut first, next)
        {
            if let Some(next) = self.waiting.pop_front() {
                self.free_room(&next);
            }
        }
        Some(first)
    }

    /// Says what was left out, behind all that was not.
    fn complaint(&mut self) -> Option<SignalBody> {
        let left_out = std::mem::take(&mut self.left_out);
        let text = || format!("… {left_out} bytes of log left out: more than can be told in time");
        (left_out > 0).then(|| SignalBody::Log { text: text() })
    }

    fn take_room(&mut self, text: &str) -> bool {
        let size = text.len() + ENTRY;
        let fits = self.keeps_all || self.bytes + size <= WAITING_MAX;
        self.bytes += if fits { size } else { 0 };
        fits
    }

    fn free_room(&mut self, report: &SignalBody) {
        if let SignalBody::Log { text } | SignalBody::Output { chunk: text } = report {
            self.bytes -= text.len() + ENTRY;
        }
    }
}

/// Takes a report in that is of the same sort, if it fits.
fn append(to: &mut SignalBody, report: &SignalBody) -> bool {
    match (to, report) {
        (SignalBody::Log { text }, SignalBody::Log { text: more }) if text.len() + 1 + more.len() <= LOG_MAX => {
            text.push('\n');
            text.push_str(more);
            true
        }
        (SignalBody::Output { chunk }, SignalBody::Output { chunk: more })
            if chunk.len() + more.len() <= OUTPUT_MAX =>
        {
            chunk.push_str(more);
            true
        }
        _ => false,
    }
}

/// The text in pieces of at most `max` bytes, cut between characters. An empty text is one piece.
fn pieces(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        if text.len() <= max {
            return rest.take();
        }
        let end = (1..=max).rev().find(|&at| text.is_char_boundary(at))?;
        let (piece, more) = text.split_at(end);
        rest = Some(more);
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(reports: &mut Reports) -> Vec<SignalBody> {
        std::iter::from_fn(|| reports.next()).collect()
    }

    fn log(text: &str) -> SignalBody {
        SignalBody::Log { text: text.into() }
    }

    #[test]
    fn what_is_told_too_late_is_not_kept() {
        let mut reports = Reports::default();
        reports.log("in time");
        reports.close();
        reports.log("late");
        reports.output("late");
        reports.progress(Some(1.0), None);
        assert_eq!(all(&mut reports), [log("in time")]);
    }

    #[test]
    fn reports_come_in_their_order_and_only_the_latest_progress() {
        let mut reports = Reports::default();
        reports.log("one");
        reports.progress(Some(10.0), None);
        reports.log("two");
        reports.output("a");
        reports.output("b");
        reports.progress(Some(20.0), Some("half".into()));
        reports.log("three");
        let expected = [
            log("one\ntwo"),
            SignalBody::Output { chunk: "ab".into() },
            SignalBody::Progress { percent: Some(20.0), message: Some("half".into()) },
            log("three"),
        ];
        assert_eq!(all(&mut reports), expected);
        assert_eq!((reports.bytes, reports.next()), (0, None));
    }

    #[test]
    fn a_long_text_goes_in_pieces_between_its_characters() {
        let mut reports = Reports::default();
        let text = "ü".repeat(OUTPUT_MAX);
        reports.output(&text);
        let pieces: Vec<_> = all(&mut reports)
            .into_iter()
            .map(|piece| match piece {
                SignalBody::Output { chunk } => chunk,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(pieces.iter().all(|piece| piece.len() <= OUTPUT_MAX));
        assert_eq!(pieces.concat(), text);
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        let mut reports = Reports::default();
        for n in 0..100_000 {
            reports.log(&format!("line {n}"));
        }
        let told = all(&mut reports);
        let (complaint, kept) = told.split_last().unwrap();
        let size = |report: &SignalBody| match report {
            SignalBody::Log { text } => text.len(),
            other => panic!("{other:?}"),
        };
        assert!(kept.iter().all(|report| size(report) <= LOG_MAX));
        assert!(kept.iter().map(size).sum::<usize>() <= WAITING_MAX);
        assert!(matches!(complaint, SignalBody::Log { text } if text.contains("bytes of log left out")));
        reports.log("again");
        assert_eq!(all(&mut reports), [log("again")]);
    }
}
