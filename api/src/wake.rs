//! Tells whoever waits for a job, or for a tenant's feed, that something happened.
//!
//! A wake-up is a hint, the store is the truth: register interest first, read the store second, wait third, and read
//! the store again. So nothing is missed, whatever happens in between.

mod lookout;

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_shared::id::{JobId, Tenant};
use tokio::sync::watch;

use lookout::Lookouts;
pub use lookout::{Lookout, News};

/// Who waits for which job, and for which tenant's feed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    jobs: Waiting<JobId>,
    feeds: Waiting<Tenant>,
    lookouts: Lookouts,
}

/// Who waits for what.
#[derive(Debug)]
struct Waiting<K>(Arc<Mutex<HashMap<K, watch::Sender<()>>>>);

/// Interest in one job, or in one feed. Forgotten when dropped.
#[derive(Debug)]
pub struct Listener<K: Eq + Hash> {
    whom: K,
    woken: watch::Receiver<()>,
    waiting: Waiting<K>,
}

impl Wake {
    /// Registers interest in a job. Wake-ups from now on are heard, also before the first wait.
    pub fn listen(&self, job: JobId) -> Listener<JobId> {
        self.jobs.listen(job)
    }

    /// The same for the feed of a tenant.
    pub fn listen_to_feed(&self, tenant: Tenant) -> Listener<Tenant> {
        self.feeds.listen(tenant)
    }

    /// Interest in jobs that are still to be named, as many as you like.
    pub fn lookout(&self) -> Lookout {
        self.lookouts.lookout()
    }

    /// Wakes those who wait for `job`.
    pub fn changed(&self, job: JobId) {
        self.jobs.wake(&job);
        self.lookouts.wake(job);
    }

    /// Wakes those who wait for the feed of `tenant`.
    pub fn feed_grew(&self, tenant: &Tenant) {
        self.feeds.wake(tenant);
    }

    /// Wakes all who wait: anything may have happened.
    pub fn everybody(&self) {
        self.jobs.wake_all();
        self.feeds.wake_all();
        self.lookouts.wake_all();
    }
}

impl<K: Eq + Hash + Clone> Waiting<K> {
    fn listen(&self, whom: K) -> Listener<K> {
        let woken = self.all().entry(whom.clone()).or_insert_with(|| watch::Sender::new(())).subscribe();
        Listener { whom, woken, waiting: self.clone() }
    }
}

impl<K: Eq + Hash> Waiting<K> {
    fn wake(&self, whom: &K) {
        if let Some(sender) = self.all().get(whom) {
            sender.send_replace(());
        }
    }

    fn wake_all(&self) {
        for sender in self.all().values() {
            sender.send_replace(());
        }
    }

    /// The map is whole after every operation, so a panic elsewhere cannot have left it broken.
    fn all(&self) -> MutexGuard<'_, HashMap<K, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K> Clone for Waiting<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for Waiting<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Eq + Hash> Listener<K> {
    /// Ends at the next wake-up; at once if there was one since the last call.
    pub async fn woken(&mut self) {
        // The sender lives as long as this listener: it cannot be closed.
        let _ = self.woken.changed().await;
    }
}

impl<K: Eq + Hash> Drop for Listener<K> {
    fn drop(&mut self) {
        let mut waiting = self.waiting.all();
        // This one still counts as a receiver here.
        if waiting.get(&self.whom).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.whom);
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
        let mut feed = wake.listen_to_feed(Tenant::default());
        wake.everybody();
        one.woken().await;
        other.woken().await;
        feed.woken().await;
    }

    #[tokio::test]
    async fn a_feed_wakes_those_who_wait_for_it_alone() {
        let wake = Wake::default();
        let mut own = wake.listen_to_feed(Tenant::default());
        let mut other = wake.listen_to_feed("other".parse().unwrap());
        wake.feed_grew(&Tenant::default());
        own.woken().await;
        assert!(other.woken().now_or_never().is_none());
    }

    #[test]
    fn the_last_listener_leaves_nothing_behind() {
        let wake = Wake::default();
        let job = JobId::new(Time::from_millis(1));
        let (first, second) = (wake.listen(job), wake.listen(job));
        drop(first);
        assert_eq!(wake.jobs.all().len(), 1);
        drop(second);
        assert!(wake.jobs.all().is_empty());
    }
}
