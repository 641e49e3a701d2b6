use schemars::JsonSchema;
use serde::Deserialize;

use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};

/// `demo.fail`: fails for good.
pub(crate) struct Fail;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// The type of the problem; `/problems/failed` when there is none.
    #[serde(default)]
    r#type: Option<String>,
    /// What the problem says.
    #[serde(default)]
    detail: Option<String>,
}

impl Handler for Fail {
    const KIND: &'static str = "demo.fail";
    type Input = Input;
    /// Never made.
    type Output = ();

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
            .title("Fail")
            .description("Fails with the problem that it is given, and is never tried again.")
            .example(serde_json::json!({ "type": "https://example.com/no-stock", "detail": "Nothing left of it." }))
    }

    async fn run(&self, _: JobContext, input: Input) -> Result<(), JobError> {
        let error = JobError::fail(input.detail.as_deref().unwrap_or("It failed, as it was asked to."));
        Err(match input.r#type {
            Some(r#type) => error.with_type(r#type),
            None => error,
        })
    }
}
