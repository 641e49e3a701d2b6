//! Tells whoever waits for a job that something happened to it.
//!
//! A wake-up is a hint, the store is the truth: register interest first, read the store second, wait third, and read
//! the store again. So nothing is missed, whatever happens in between.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_shared::id::JobId;
use tokio::sync::watch;

/// Who waits for which job. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Mutex<HashMap<JobId, watch::Sender<()>>>>);

/// Interest in one job. Forgotten when dropped.
#[derive(Debug)]
pub struct Listener {
    job: JobId,
    woken: watch::Receiver<()>,
    wake: Wake,
}

impl Wake {
    /// Registers interest in a job. Wake-ups from now on are heard, also before the first wait.
    pub fn listen(&self, job: JobId) -> Listener {
        let woken = self.waiting().entry(job).or_insert_with(|| watch::Sender::new(())).subscribe();
        Listener { job, woken, wake: self.clone() }
    }

    /// Wakes those who wait for `job`.
    pub fn changed(&self, job: JobId) {
        if let Some(sender) = self.waiting().get(&job) {
            sender.send_replace(());
        }
    }

    /// Wakes all who wait: any job may have changed.
    pub fn everybody(&self) {
        for sender in self.waiting().values() {
            sender.send_replace(());
        }
    }

    /// The map is whole after every operation, so a panic elsewhere cannot have left it broken.
    fn waiting(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Which job it listens for.
    pub fn job(&self) -> JobId {
        self.job
    }

    /// Ends at the next wake-up; at once if there was one since the last call.
    pub async fn woken(&mut self) {
        // The sender lives as long as this listener: it cannot be closed.
        let _ = self.woken.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut waiting = self.wake.waiting();
        // This one still counts as a receiver here.
        if waiting.get(&self.job).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.job);
        }
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::time::Time;
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_wake_up_before_the_wait_is_heard() {
        let wake = Wake::default();
        let job = JobId::new(Time::from_millis(1));
        let mut listener = wake.listen(job);
        wake.changed(job);
        listener.woken().await;
        assert!(listener.woken().now_or_never().is_none());
    }

    #[tokio::test]
    async fn everybody_can_be_woken() {
        let wake = Wake::default();
        let [mut one, mut other] = [1, 2].map(|at| wake.listen(JobId::new(Time::from_millis(at))));
        wake.everybody();
        one.woken().await;
        other.woken().await;
    }

    #[test]
    fn the_last_listener_leaves_nothing_behind() {
        let wake = Wake::default();
        let job = JobId::new(Time::from_millis(1));
        let (first, second) = (wake.listen(job), wake.listen(job));
        drop(first);
        assert_eq!(wake.waiting().len(), 1);
        drop(second);
        assert!(wake.waiting().is_empty());
    }
}
