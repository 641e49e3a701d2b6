//! A worker with two kinds: one that computes, one that waits for others.

mod lookup;
mod words;

use std::process::ExitCode;

use buzzer_worker::{Worker, WorkerBuilder};

fn main() -> ExitCode {
    worker().run()
}

/// All kinds of this worker. The tests take it, too: so they try what runs.
fn worker() -> WorkerBuilder {
    Worker::builder()
        .version(env!("CARGO_PKG_VERSION"))
        .cpu_handler_with(words::KIND, words::options(), words::count)
        .handler_with(lookup::KIND, lookup::options(), lookup::look_up)
}
