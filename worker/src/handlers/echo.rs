use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions, RawJson};

/// `echo`: any JSON; its output is its input.
pub(crate) struct Echo;

impl Handler for Echo {
    const KIND: &'static str = "echo";
    type Input = RawJson;
    type Output = RawJson;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
            .title("Give back what came")
            .description("Takes any JSON; its output is its input, byte by byte. To see whether everything works.")
            .example(serde_json::json!({ "hello": "world" }))
    }

    async fn run(&self, _: JobContext, input: RawJson) -> Result<RawJson, JobError> {
        Ok(input)
    }
}
