use std::cell::RefCell;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::plan::Amount;
use super::tally::Tally;

const EVERY: Duration = Duration::from_millis(200);

/// How far a bench is, on standard error if that is a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// Shows it until it is dropped.
    pub async fn show(title: &str, amount: Amount, tally: &RefCell<Tally>) {
        if !std::io::stderr().is_terminal() {
            return std::future::pending().await;
        }
        let length = match amount {
            Amount::Jobs(jobs) => jobs,
            Amount::Time(time) => millis(time),
        };
        let bar = Self(ProgressBar::new(length));
        // The template is a constant, and right.
        if let Ok(style) = ProgressStyle::with_template("{prefix} {elapsed} {bar:30} {msg}") {
            bar.0.set_style(style.progress_chars("━╸ "));
        }
        bar.0.set_prefix(title.to_owned());
        let began = Instant::now();
        loop {
            tokio::time::sleep(EVERY).await;
            let Tally { accepted, done, under_way, .. } = *tally.borrow();
            bar.0.set_position(match amount {
                Amount::Jobs(_) => accepted,
                Amount::Time(_) => millis(began.elapsed()),
            });
            bar.0.set_message(format!("{accepted} handed in, {done} done, {under_way} under way"));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
