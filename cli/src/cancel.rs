use buzzer_shared::id::JobId;
use clap::Args;

use crate::client::{Client, ClientError};
use crate::failure::{Failure, in_words};
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
        let (count, mut refused) = (self.ids.len(), 0);
        for id in self.ids {
            let job = match client.cancel(id).await {
                Ok(job) => job,
                Err(ClientError::Refused(problem)) if count > 1 => {
                    output::complain(&format!("{id}: {}", in_words(&problem)));
                    refused += 1;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            let asked = if job.value.done { "" } else { ", asked to stop" };
            let line = format!("{id}  {}{asked}", job.value.state);
            output::line(if self.json { job.json } else { line.into_bytes() })?;
        }
        if refused > 0 {
            return Err(Failure::Usage(format!("{refused} of {count} were not canceled")));
        }
        Ok(())
    }
}
