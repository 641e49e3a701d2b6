use buzzer_shared::id::JobId;
use clap::Args;

use crate::client::{Client, Said};
use crate::failure::Failure;
use crate::job::Job;
use crate::{follow, output, submit};

/// Look after a job.
///
/// Shows the job as it is; with `--wait`, once it is done. With `--output`, prints its output and nothing else.
#[derive(Debug, Args)]
pub struct Get {
    /// The job's id, as `buzzer submit` printed it.
    id: JobId,

    /// Wait until the job is done. Exit code 1 unless it has succeeded.
    #[arg(long, short)]
    wait: bool,

    /// Print the output alone, byte for byte. Exit code 1 when there is none.
    #[arg(long, short, conflicts_with = "json")]
    output: bool,

    /// Print the whole job as JSON.
    #[arg(long)]
    json: bool,
}

impl Get {
    pub async fn run(self, client: &Client) -> Result<(), Failure> {
        let mut job = client.job(self.id).await?;
        if self.wait {
            job = follow::until_done(client, job).await?;
        }
        if self.output {
            return submit::print_end(job, false);
        }
        self.show(&job)?;
        if self.wait && job.value.output().is_none() {
            return Err(Failure::NoOutput(Box::new(job.value)));
        }
        Ok(())
    }

    fn show(&self, job: &Said<Job>) -> std::io::Result<()> {
        if self.json { output::line(&job.json) } else { output::line(job.value.describe()) }
    }
}
