//! Hands in jobs at a steady rate, whether or not they are taken.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Door;
use super::submission::Submission;
use crate::ledger::{Ledger, Number};
use crate::work;

/// So many clients are under way at most: then the next one waits for one of them.
const CLIENTS: usize = 256;

/// How much is handed in.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// At least so many jobs.
    pub jobs: u64,
    /// Time between two of them, while faults go on.
    pub between: Duration,
}

/// Hands in jobs as long as `faults_go_on`, and then as fast as they are taken until it is enough. Tells `count` how many.
pub async fn run(
    seed: u64,
    rate: Rate,
    (door, ledger): (Arc<Door>, Arc<Ledger>),
    faults_go_on: watch::Receiver<bool>,
    count: watch::Sender<u64>,
) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = JoinSet::new();
    let mut tick = interval(rate.between);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut n: Number = 0;
    loop {
        if *faults_go_on.borrow() {
            tick.tick().await;
        } else if n >= rate.jobs {
            break;
        }
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
        n += 1;
        let (door, ledger) = (Arc::clone(&door), Arc::clone(&ledger));
        clients.spawn(async move {
            Submission { door: &door, ledger: &ledger, n }.run(&work::work(seed, n)).await;
            drop(place);
        });
        count.send_replace(n);
        // What has ended need not be kept.
        while clients.try_join_next().is_some() {}
    }
    clients.join_all().await;
}
