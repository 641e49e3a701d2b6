//! Asks for the addresses of a name. It waits for others most of the time, so it is an async function.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::Duration;

use buzzer_worker::{HandlerOptions, JobContext, JobError, RetryPolicy};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub const KIND: &str = "name.lookup";

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Name {
    /// The name of a machine, like `example.com`.
    #[schemars(length(min = 1, max = 253))]
    name: String,
}

#[derive(Debug, Serialize, JsonSchema)]
pub struct Addresses {
    /// All that the name stands for, IPv4 first.
    addresses: BTreeSet<IpAddr>,
}

pub fn options() -> HandlerOptions {
    HandlerOptions::new()
        .title("Look up a name")
        .description("Asks for the addresses that the name of a machine stands for.")
        .example(serde_json::json!({ "name": "localhost" }))
        .timeout(Duration::from_secs(30))
        .retry(RetryPolicy { max_attempts: 3, ..RetryPolicy::default() })
}

pub async fn look_up(ctx: JobContext, input: Name) -> Result<Addresses, JobError> {
    ctx.log(format!("asking for {}, attempt {}", input.name, ctx.attempt()));
    let found = tokio::net::lookup_host((input.name.as_str(), 0)).await.map_err(failure)?;
    Ok(Addresses { addresses: found.map(|address| address.ip()).collect() })
}

/// What cannot be a name never will be one. All else, like a server that does not answer, may go well another time.
fn failure(error: std::io::Error) -> JobError {
    match error.kind() {
        ErrorKind::InvalidInput => JobError::fail(error),
        _ => JobError::retry(error),
    }
}

#[cfg(test)]
mod tests {
    use buzzer_worker::Retry;
    use buzzer_worker::testing::{Ended, Trial};
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn this_machine_is_found_and_the_attempt_is_in_the_log() {
        let trial = Trial::of(crate::worker(), KIND).unwrap().attempt(2);
        let tried = trial.run(json!({ "name": "127.0.0.1" })).await;
        assert_eq!(tried.output(), Some(&json!({ "addresses": ["127.0.0.1"] })));
        assert_eq!(tried.log(), ["asking for 127.0.0.1, attempt 2"]);
    }

    #[tokio::test]
    async fn a_name_that_is_not_found_may_be_tried_again() {
        let tried = Trial::of(crate::worker(), KIND).unwrap().run(json!({ "name": "nobody.invalid" })).await;
        assert!(matches!(tried.ended, Ended::Failed { retry: Retry::Policy, .. }), "{tried:?}");
    }
}
