use buzzer_shared::id::JobId;
use clap::Args;

use crate::client::Client;
use crate::failure::Failure;
use crate::output;

/// Stop jobs.
///
/// A job that is not with a worker is canceled at once. One that is out is asked to stop: it ends as `canceled`, unless its
/// work gets done first. Exit code 2 when one of them was done already; the others are canceled all the same.
#[derive(Debug, Args)]
pub struct Cancel {
    /// The jobs' ids.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<JobId>,

    /// Print the jobs as JSON, one on each line.
    #[arg(long)]
    json: bool,
}

impl Cancel {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut first_failure = None;
        for id in self.ids {
            let job = match client.cancel(id).await {
                Ok(job) => job,
                Err(error) => {
                    output::complain(&format!("{id}: {error}"));
                    first_failure = first_failure.or(Some(error));
                    continue;
                }
            };
            let asked = if job.value.done { "" } else { ", asked to stop" };
            let line = format!("{id}  {}{asked}", job.value.state);
            output::line(if self.json { job.json } else { line.into_bytes() })?;
        }
        first_failure.map_or(Ok(()), |error| Err(error.into()))
    }
}
