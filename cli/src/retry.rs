use buzzer_shared::id::JobId;
use clap::Args;

use crate::client::Client;
use crate::failure::Failure;
use crate::{follow, output, submit};

/// Run a job again.
///
/// The next attempt of a job that is `retrying` starts now. Of a job that is done a new one is made, with the same input;
/// prints the id and state of the job that runs now.
#[derive(Debug, Args)]
pub struct Retry {
    /// The job's id.
    id: JobId,

    /// Wait for the end. Prints the output alone, or what went wrong on standard error with exit code 1.
    #[arg(long, short)]
    wait: bool,

    /// A text of your own: asking again under the same key gives the same new job, and no second one.
    #[arg(long, value_name = "TEXT")]
    idempotency_key: Option<String>,

    /// Print the whole job as JSON.
    #[arg(long)]
    json: bool,
}

impl Retry {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let job = client.retry(self.id, self.idempotency_key.as_deref()).await?;
        if self.wait {
            return submit::print_end(follow::until_done(client, job).await?, self.json);
        }
        let line = format!("{}  {}", job.value.id, job.value.state);
        Ok(output::line(if self.json { job.json } else { line.into_bytes() })?)
    }
}
