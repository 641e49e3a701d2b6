use buzzer_shared::time::{Span, Time};
use buzzer_shared::webhook::Answer;
use serde::{Deserialize, Serialize};

/// One attempt at a delivery, and what came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    pub at: Time,
    pub duration: Span,
    pub answer: Answer,
}

/// Whether the endpoint has taken the event. A redirect is no such word: nobody follows it.
pub fn is_delivered(answer: &Answer) -> bool {
    matches!(answer, Answer::Response { status: 200..=299, .. })
}

/// So many attempts of one delivery are kept; somebody may replay it without end.
pub(super) const KEPT: usize = 50;
