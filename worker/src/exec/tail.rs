//! The last lines that a program wrote on its standard error. Pure.

use std::collections::VecDeque;

/// So many lines are kept, with so many bytes in all.
const LINES: usize = 20;
const BYTES: usize = 2 * 1024;

#[derive(Debug, Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    pub(super) fn push(&mut self, line: &str) {
        // Of a line that is too long the end says more than the beginning.
        let from = line.ceil_char_boundary(line.len().saturating_sub(BYTES));
        self.bytes += line.len() - from;
        self.lines.push_back(line[from..].to_owned());
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(first) = self.lines.pop_front() else { break };
            self.bytes -= first.len();
        }
    }

    /// The lines as a sentence to put behind another; empty when there are none.
    pub(super) fn sentence(&self) -> String {
        let lines: Vec<_> = self.lines.iter().map(String::as_str).collect();
        if lines.is_empty() { String::new() } else { format!(" Its last words on stderr:\n{}", lines.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_in_their_order() {
        let mut tail = Tail::default();
        assert_eq!(tail.sentence(), "");
        for n in 0..100 {
            tail.push(&format!("line {n}"));
        }
        let sentence = tail.sentence();
        assert!(sentence.ends_with("line 98\nline 99") && sentence.contains("line 80\n"), "{sentence}");
        assert!(!sentence.contains("line 79"), "{sentence}");
    }

    #[test]
    fn long_lines_are_cut_at_their_beginning() {
        let mut tail = Tail::default();
        tail.push("first");
        tail.push(&format!("{}end", "ä".repeat(BYTES)));
        assert!(tail.bytes <= BYTES);
        let sentence = tail.sentence();
        assert!(sentence.ends_with("äend") && !sentence.contains("first"), "{sentence}");
    }
}
