use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};

/// `demo.crash`: brings its worker down.
pub(crate) struct Crash;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {}

impl Handler for Crash {
    const KIND: &'static str = "demo.crash";
    type Input = Input;
    /// Never made.
    type Output = ();

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
            .title("Crash")
            .description(
                "Aborts the process of its worker: to see that other jobs are none the worse for it, and that this one \
                 is not run again for ever.",
            )
            .example(serde_json::json!({}))
    }

    async fn run(&self, _: JobContext, _: Input) -> Result<(), JobError> {
        std::process::abort()
    }
}
