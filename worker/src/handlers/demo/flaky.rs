use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::context::JobContext;
use crate::error::JobError;
use crate::handler::{Handler, HandlerOptions};

/// `demo.flaky`: fails for a while, then succeeds.
pub(crate) struct Flaky;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Input {
    /// How many attempts fail.
    fail_times: u32,
}

#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Succeeded {
    /// The attempt that succeeded.
    attempt: u32,
}

impl Handler for Flaky {
    const KIND: &'static str = "demo.flaky";
    type Input = Input;
    type Output = Succeeded;

    fn options(&self) -> HandlerOptions {
        HandlerOptions::new()
            .title("Fail at first")
            .description("Fails so many attempts, then succeeds: to see how a job is tried again.")
            .example(serde_json::json!({ "fail_times": 2 }))
    }

    async fn run(&self, ctx: JobContext, input: Input) -> Result<Succeeded, JobError> {
        if ctx.attempt() <= input.fail_times {
            return Err(JobError::retry(format!("attempt {} fails, as it was asked to", ctx.attempt())));
        }
        Ok(Succeeded { attempt: ctx.attempt() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use buzzer_shared::id::JobId;
    use buzzer_shared::time::Time;
    use std::time::Duration;

    #[tokio::test]
    async fn it_fails_as_often_as_it_was_asked_to() {
        let attempt = |attempt| {
            let ctx = JobContext::detached(JobId::new(Time::from_millis(1)), attempt, Duration::from_secs(1));
            async move { Flaky.run(ctx, Input { fail_times: 2 }).await }
        };
        assert!(attempt(1).await.is_err());
        assert!(attempt(2).await.is_err());
        assert_eq!(attempt(3).await.unwrap().attempt, 3);
    }
}
