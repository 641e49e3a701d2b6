//! Hears what other replicas on the same store did, and wakes those who wait here.

use std::sync::Arc;

use buzzer_shared::shutdown::Shutdown;

use crate::store::{Hint, Store};
use crate::wake::Wake;

/// Passes the store's hints on. What goes out next and how much is out, each replica asks the store about once a second.
#[derive(Debug)]
pub struct Replicas {
    pub store: Arc<dyn Store>,
    pub wake: Wake,
}

impl Replicas {
    /// Until shutdown is requested.
    pub async fn run(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                hint = self.store.hint() => self.step(hint),
            }
        }
    }

    fn step(&self, hint: Hint) {
        match hint {
            Hint::News { jobs, tenants } => {
                jobs.into_iter().for_each(|job| self.wake.changed(job));
                tenants.iter().for_each(|tenant| self.wake.feed_grew(tenant));
            }
            Hint::Any => self.wake.everybody(),
        }
    }
}
