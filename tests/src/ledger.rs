//! What a client was promised, and whether it was kept.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use serde_json::{Value, json};

use crate::client::Client;

/// For everything to be healed and done, on a busy machine.
pub const HEALED: Duration = Duration::from_secs(90);
/// So many submissions are under way at a time.
const AT_ONCE: usize = 16;

/// The accepted jobs, each with its input.
#[derive(Debug, Default)]
pub struct Ledger(pub BTreeMap<String, Value>);

impl Ledger {
    /// Hands in `count` jobs, several at a time. Only what was answered with a `202` is written down.
    pub async fn submit(&mut self, client: &Client, kind: &str, count: usize, input: impl Fn(usize) -> Value) {
        let start = self.0.len();
        let submissions = (start..start + count).map(|n| {
            let input = input(n);
            async move {
                let answer = client.submit(kind, &input, None).await.ok()?;
                let accepted = answer.status.as_u16() == 202;
                accepted.then(|| (answer.json()["id"].as_str().expect("an id").to_owned(), input))
            }
        });
        let accepted: Vec<_> = stream::iter(submissions).buffer_unordered(AT_ONCE).collect().await;
        self.0.extend(accepted.into_iter().flatten());
    }

    /// Every promise was kept: each job has ended well, in its first attempt, and `output` fits its input.
    ///
    /// # Panics
    /// When one was not.
    pub async fn audit(&self, client: &Client, output: impl Fn(&Value, &Value) -> bool) {
        assert!(!self.0.is_empty(), "nothing was accepted");
        for (id, input) in &self.0 {
            let job = client.done(id, HEALED).await;
            assert_eq!((&job["state"], &job["attempt"]), (&json!("succeeded"), &json!(1)), "{job}");
            assert!(output(input, &job["output"]), "{job}");
        }
    }

    /// The same for jobs whose output is their input.
    ///
    /// # Panics
    /// As [`audit`](Self::audit).
    pub async fn audit_echo(&self, client: &Client) {
        self.audit(client, |input, output| input == output).await;
    }
}
