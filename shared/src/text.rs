//! Texts that somebody else wrote, and that may be too long.

/// The text, cut to at most `max` bytes between two characters; an ellipsis then tells so.
pub fn shorten(mut text: String, max: usize) -> String {
    if text.len() > max {
        let end = (0..=max).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_two_characters() {
        assert_eq!(shorten("aä".into(), 2), "a…");
        assert_eq!(shorten("ab".into(), 2), "ab");
    }
}
