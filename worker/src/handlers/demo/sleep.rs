use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MAX_SECONDS;
use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};

/// `demo.sleep`: takes its time.
pub(crate) struct Sleep;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// How long to sleep.
    #[schemars(range(min = 0.0, max = 240.0))]
    seconds: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Slept {
    slept_seconds: f64,
}

impl Handler for Sleep {
    const KIND: &'static str = "demo.sleep";
    type Input = Input;
    type Output = Slept;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
            .title("Sleep")
            .description("Does nothing for some seconds, at most 240.")
            .example(serde_json::json!({ "seconds": 2.5 }))
    }

    async fn run(&self, ctx: JobContext, input: Input) -> Result<Slept, JobError> {
        let seconds = input.seconds.clamp(0.0, MAX_SECONDS);
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs_f64(seconds)) => Ok(Slept { slept_seconds: seconds }),
            () = ctx.canceled() => Err(JobError::fail("it was woken: somebody canceled it")),
        }
    }
}
