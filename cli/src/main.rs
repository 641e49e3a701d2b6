//! The command `buzzer`. One file per command ([`submit`], [`get`], [`list`], [`cancel`], [`retry`], [`watch`],
//! [`listen`], [`webhooks`], [`parked`]); these talk through [`client`], know a job as [`job`] has it, and follow one by
//! [`follow`]. [`keys`] works on the store itself, [`doctor`] looks whether all can run, [`mod@bench`] measures how fast,
//! with a client of its own, [`prove`] checks what is promised, [`worker_test`] what a worker must do, and [`up`] runs it.
//! All end as [`failure`] says.

mod bench;
mod cancel;
mod client;
mod doctor;
mod failure;
mod follow;
mod get;
mod job;
mod keys;
mod list;
mod listen;
mod output;
mod parked;
mod prove;
mod report;
mod retry;
mod submit;
mod up;
mod watch;
mod webhooks;
mod worker_test;

use std::process::ExitCode;

use buzzer_shared::{command_line, environment};
use clap::{Parser, Subcommand};

use crate::client::{Client, ServerConfig};
use crate::failure::Failure;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Buzzer: hand in slow work over HTTP, learn the result when it is ready.
///
/// Exit codes: 0 when all went well, 1 when a job that was waited for ended otherwise than succeeded or not at all, 2
/// when the command cannot be understood or the server refused it, 3 when the server or the store cannot be reached, or has no
/// room now.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, arg_required_else_help = true)]
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
    Watch(watch::Watch),
    Listen(listen::Listen),
    Bench(Box<bench::Bench>),
    #[command(hide = true)]
    TwoHops(bench::TwoHops),
    Webhooks(webhooks::Webhooks),
    Parked(parked::Parked),
    Doctor(Box<doctor::Doctor>),
    Prove(Box<prove::Prove>),
    WorkerTest(Box<worker_test::WorkerTest>),
    Keys(keys::Keys),
    Up(Box<up::Up>),
}

fn main() -> ExitCode {
    // `buzzer up` runs programs, too.
    match buzzer_worker::guard() {
        Some(ended) => ended,
        None => start(),
    }
}

#[tokio::main]
async fn start() -> ExitCode {
    // Must come before anything that speaks TLS. The only error is that it was done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(command_line::read()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_told() {
                output::complain(&failure.to_string());
            }
            failure.exit_code().into()
        }
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let Cli { server, command } = cli;
    if !matches!(command, Command::Up(_)) {
        // `up` tells them in its log.
        environment::misspelt().iter().for_each(|variable| output::complain(&variable.to_string()));
    }
    // Only who talks to a server needs the key.
    let client = || Client::new(server.clone());
    match command {
        Command::Submit(submit) => submit.run(&client()?).await,
        Command::Get(get) => get.run(&client()?).await,
        Command::List(list) => list.run(&client()?).await,
        Command::Cancel(cancel) => cancel.run(&client()?).await,
        Command::Retry(retry) => retry.run(&client()?).await,
        Command::Watch(watch) => watch.run(&client()?).await,
        Command::Listen(listen) => listen.run(&client()?).await,
        Command::Bench(bench) => bench.run(server).await,
        Command::TwoHops(two_hops) => two_hops.run().await,
        Command::Webhooks(webhooks) => webhooks.run(&client()?).await,
        Command::Parked(parked) => parked.run(&client()?).await,
        Command::Doctor(doctor) => doctor.run().await,
        Command::Prove(prove) => prove.run(server).await,
        Command::WorkerTest(test) => test.run().await,
        Command::Keys(keys) => keys.run().await,
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
    fn each_binary_says_who_is_let_in_unless_told() {
        let up = Cli::command().find_subcommand_mut("up").unwrap().render_long_help().to_string();
        let auth = up.split("--auth <").nth(1).unwrap().split("--").next().unwrap();
        assert!(auth.contains("[default: off]"), "{auth}");
    }

    #[test]
    fn the_server_may_be_named_before_or_after_the_command() {
        for line in ["buzzer --server http://a get ID", "buzzer get --server http://a ID"] {
            let line = line.replace("ID", "01901633-5bb0-7c3c-8f4d-8b1e6b8c9d10");
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
