use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::MAX_SECONDS;
use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};

/// `demo.progress`: takes its time, and tells how far it is.
pub(crate) struct Progress;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// How many steps to take.
    #[schemars(range(min = 1, max = 10000))]
    steps: u32,
    /// How long they take together.
    #[schemars(range(min = 0.0, max = 240.0))]
    seconds: f64,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Done {
    steps: u32,
}

impl Handler for Progress {
    const KIND: &'static str = "demo.progress";
    type Input = Input;
    type Output = Done;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
            .title("Work in steps")
            .description("Takes so many steps in so many seconds, at most 240, and reports its progress after each.")
            .example(serde_json::json!({ "steps": 5, "seconds": 10 }))
    }

    async fn run(&self, ctx: JobContext, input: Input) -> Result<Done, JobError> {
        let steps = input.steps.clamp(1, 10_000);
        let step = Duration::from_secs_f64(input.seconds.clamp(0.0, MAX_SECONDS)) / steps;
        for done in 1..=steps {
            tokio::select! {
                () = tokio::time::sleep(step) => {}
                () = ctx.canceled() => return Err(JobError::fail("it stopped halfway: somebody canceled it")),
            }
            ctx.progress(f64::from(done) / f64::from(steps) * 100.0, format!("step {done} of {steps}"));
        }
        Ok(Done { steps })
    }
}
