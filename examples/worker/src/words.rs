//! Counts the words of a text. It keeps a core busy, so it is a plain function.

use std::collections::HashMap;

use buzzer_worker::{HandlerOptions, JobContext, JobError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "text.words";
/// So many words are counted between two looks at whether somebody wants it to stop.
const STRIDE: usize = 1_000;

/// What is to be counted. The comments stand in the documents, and what is optional is so there, too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Text {
    /// The text, in any language that puts spaces between its words.
    text: String,
    /// How many of the most frequent words are told.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 1_000))]
    top: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Words {
    /// How many words the text has.
    words: usize,
    /// The most frequent first, those that are as frequent by the alphabet.
    top: Vec<Word>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Word {
    word: String,
    times: usize,
}

fn ten() -> usize {
    10
}

pub fn options() -> HandlerOptions {
    HandlerOptions::new()
        .title("Count words")
        .description("Counts the words of a text, and tells the most frequent ones.")
        .example(serde_json::json!({ "text": "To be, or not to be", "top": 2 }))
}

pub fn count(ctx: JobContext, input: Text) -> Result<Words, JobError> {
    let words = input.text.split_whitespace().map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
    let words: Vec<_> = words.filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        // No other attempt would find any. The type is for programs, the text for people.
        return Err(JobError::fail("the text has no words").with_type("https://example.com/problems/no-words"));
    }
    let mut times = HashMap::new();
    for (at, part) in words.chunks(STRIDE).enumerate() {
        if ctx.is_canceled() {
            return Err(JobError::fail("asked to stop"));
        }
        for word in part {
            *times.entry(word.to_lowercase()).or_insert(0_usize) += 1;
        }
        ctx.progress(percent((at + 1) * STRIDE, words.len()), "counting");
    }
    let mut top: Vec<_> = times.into_iter().map(|(word, times)| Word { word, times }).collect();
    top.sort_by(|one, other| other.times.cmp(&one.times).then_with(|| one.word.cmp(&other.word)));
    top.truncate(input.top);
    Ok(Words { words: words.len(), top })
}

fn percent(done: usize, all: usize) -> f64 {
    100.0 * done.min(all) as f64 / all as f64
}

#[cfg(test)]
mod tests {
    use buzzer_worker::testing::{Ended, Trial};
    use serde_json::json;

    use super::*;

    fn trial() -> Trial {
        Trial::of(crate::worker(), KIND).unwrap()
    }

    #[tokio::test]
    async fn the_most_frequent_words_come_first() {
        let tried = trial().run(json!({ "text": "To be, or not to be: that", "top": 3 })).await;
        let top = json!([{ "word": "be", "times": 2 }, { "word": "to", "times": 2 }, { "word": "not", "times": 1 }]);
        assert_eq!(tried.output(), Some(&json!({ "words": 7, "top": top })));
        assert_eq!(tried.progress(), [(Some(100.0), Some("counting"))]);
    }

    #[tokio::test]
    async fn a_text_without_words_fails_for_good() {
        let tried = trial().run(json!({ "text": " … " })).await;
        assert_eq!(tried.problem().unwrap().r#type, "https://example.com/problems/no-words");
    }

    #[tokio::test]
    async fn what_is_no_input_is_rejected() {
        let tried = trial().run(json!({ "txt": "a" })).await;
        assert_eq!(tried.problem().unwrap().r#type, "/problems/rejected-input");
    }

    #[tokio::test]
    async fn who_asks_it_to_stop_is_heard() {
        let long = "word ".repeat(3_000_000);
        let tried = trial().cancel_at(0.001).run(json!({ "text": long })).await;
        assert_eq!(tried.ended, Ended::Canceled);
    }
}
