//! What a client is sent.

use buzzer_shared::id::JobId;
use buzzer_shared::problem::Problem;
use schemars::JsonSchema;
use serde::Serialize;

use super::command::Request;
use crate::problem::ApiError;
use crate::view::{self, EventView, JobView};

/// A frame that a client is sent.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Frame {
    /// A command was carried out. Answers come in the order of the commands.
    Answer {
        /// As the command had it.
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<Request>,
        #[serde(flatten)]
        answer: Answer,
    },
    /// Something happened to a job that is followed.
    Event { event: EventView },
    /// A command was not carried out; or, where it names no request, a frame could not be read, or a job that was followed is
    /// gone.
    Problem {
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<Request>,
        problem: Problem,
    },
}

#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// The job as `GET` shows it.
    Job(Box<JobView>),
    /// The job that is followed no longer, if it was.
    JobId(JobId),
}

impl Frame {
    pub(super) fn problem(request: Option<Request>, error: &ApiError) -> Self {
        error.log();
        Self::Problem { request, problem: Problem::from(error) }
    }

    /// As one line of JSON: programs that show a line for each message are thankful.
    ///
    /// # Errors
    /// Never, as far as anybody knows: all of it is plain data.
    pub(super) fn to_line(&self) -> Result<String, ApiError> {
        view::to_line(self)
    }
}
