//! The stock worker.

use std::process::ExitCode;

use buzzer_shared::command_line;
use buzzer_worker::{ProcessConfig, StockConfig, lone_stock_worker};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs jobs of Buzzer: takes requests from RabbitMQ, and answers there.
#[derive(Debug, Parser)]
#[command(name = "buzzer-worker", version)]
struct Config {
    #[command(flatten)]
    process: ProcessConfig,
    #[command(flatten)]
    stock: StockConfig,
}

fn main() -> ExitCode {
    if let Some(ended) = buzzer_worker::guard() {
        return ended;
    }
    let config: Config = command_line::read();
    lone_stock_worker(&config.stock).run_with(&config.process)
}
