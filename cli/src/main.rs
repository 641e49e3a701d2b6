//! The command `buzzer`. One file per command ([`submit`], [`get`], [`list`], [`cancel`], [`retry`], [`parked`]); all of
//! them talk through [`client`], know
//! a job as [`job`] has it, wait for one by [`follow`], and end as [`failure`] says.

mod cancel;
mod client;
mod failure;
mod follow;
mod get;
mod job;
mod list;
mod output;
mod parked;
mod retry;
mod submit;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::client::{Client, ServerConfig};
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Buzzer: hand in slow work over HTTP, learn the result when it is ready.
///
/// Exit codes: 0 when all went well, 1 when a job that was waited for ended otherwise than succeeded, 2 when the command cannot be
/// understood or the server refused it, 3 when the server cannot be reached.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(flatten)]
    server: ServerConfig,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Submit(submit::Submit),
    Get(get::Get),
    List(list::List),
    Cancel(cancel::Cancel),
    Retry(retry::Retry),
    Parked(parked::Parked),
    Up(Box<up::Up>),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Must come before anything that speaks TLS. The only error is that it was done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("buzzer: {failure}");
            failure.exit_code().into()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let client = Client::new(cli.server)?;
    match cli.command {
        Command::Submit(submit) => submit.run(&client).await,
        Command::Get(get) => get.run(&client).await,
        Command::List(list) => list.run(&client).await,
        Command::Cancel(cancel) => cancel.run(&client).await,
        Command::Retry(retry) => retry.run(&client).await,
        Command::Parked(parked) => parked.run(&client).await,
        Command::Up(up) => Ok(up.run().await?),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_server_may_be_named_before_or_after_the_command() {
        for line in ["buzzer --server http://a get ID", "buzzer get --server http://a ID"] {
            let line = line.replace("ID", "01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10");
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
