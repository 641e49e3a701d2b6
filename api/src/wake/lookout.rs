//! Hears of any of many jobs, by one ear.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buzzer_shared::id::JobId;
use tokio::sync::{Notify, watch};

/// Who looks out for which jobs.
#[derive(Debug, Clone, Default)]
pub(super) struct Lookouts(Arc<All>);

#[derive(Debug, Default)]
struct All {
    by_job: Mutex<HashMap<JobId, Vec<Arc<Ear>>>>,
    /// Changes when anything may have happened.
    everybody: watch::Sender<()>,
}

/// What one has heard of, and not been asked about.
#[derive(Debug, Default)]
struct Ear {
    heard: Mutex<HashSet<JobId>>,
    something: Notify,
}

/// Interest in many jobs. Forgotten when dropped.
#[derive(Debug)]
pub struct Lookout {
    jobs: HashSet<JobId>,
    ear: Arc<Ear>,
    everybody: watch::Receiver<()>,
    all: Lookouts,
}

/// What has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// These jobs; some of them may not be looked out for any more.
    Of(HashSet<JobId>),
    /// Anything may have.
    Any,
}

impl Lookouts {
    pub(super) fn lookout(&self) -> Lookout {
        let everybody = self.0.everybody.subscribe();
        Lookout { jobs: HashSet::new(), ear: Arc::default(), everybody, all: self.clone() }
    }

    pub(super) fn wake(&self, job: JobId) {
        for ear in self.by_job().get(&job).into_iter().flatten() {
            ear.hear(job);
        }
    }

    pub(super) fn wake_all(&self) {
        self.0.everybody.send_replace(());
    }

    /// The map is whole after every operation, so a panic elsewhere cannot have left it broken.
    fn by_job(&self) -> MutexGuard<'_, HashMap<JobId, Vec<Arc<Ear>>>> {
        self.0.by_job.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ear {
    fn hear(&self, job: JobId) {
        self.heard().insert(job);
        self.something.notify_one();
    }

    /// The same holds for this set.
    fn heard(&self) -> MutexGuard<'_, HashSet<JobId>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookout {
    /// Registers interest in a job. What happens to it from now on is heard.
    pub fn add(&mut self, job: JobId) {
        if self.jobs.insert(job) {
            self.all.by_job().entry(job).or_default().push(Arc::clone(&self.ear));
        }
    }

    /// Forgets a job.
    pub fn remove(&mut self, job: JobId) {
        if self.jobs.remove(&job) {
            self.leave(&mut self.all.by_job(), job);
        }
    }

    /// Ends at the next wake-up; at once if there was one since the last call. May be dropped at any time.
    pub async fn woken(&mut self) -> News {
        tokio::select! {
            // The sender lives as long as this: it cannot be closed.
            _ = self.everybody.changed() => News::Any,
            () = self.ear.something.notified() => News::Of(std::mem::take(&mut *self.ear.heard())),
        }
    }

    fn leave(&self, by_job: &mut HashMap<JobId, Vec<Arc<Ear>>>, job: JobId) {
        let Some(ears) = by_job.get_mut(&job) else { return };
        ears.retain(|ear| !Arc::ptr_eq(ear, &self.ear));
        if ears.is_empty() {
            by_job.remove(&job);
        }
    }
}

impl Drop for Lookout {
    fn drop(&mut self) {
        let mut by_job = self.all.by_job();
        for job in &self.jobs {
            self.leave(&mut by_job, *job);
        }
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::time::Time;
    use futures_util::FutureExt;

    use super::*;

    fn jobs<const N: usize>() -> [JobId; N] {
        std::array::from_fn(|_| JobId::new(Time::from_millis(1)))
    }

    #[tokio::test]
    async fn wake_ups_before_the_wait_are_heard_together_and_once() {
        let (all, [one, other, third]) = (Lookouts::default(), jobs());
        let mut lookout = all.lookout();
        lookout.add(one);
        lookout.add(other);
        [one, other, one, third].into_iter().for_each(|job| all.wake(job));
        assert_eq!(lookout.woken().await, News::Of([one, other].into()));
        assert_eq!(lookout.woken().now_or_never(), None);
    }

    #[tokio::test]
    async fn each_hears_of_its_own() {
        let (all, [one, other]) = (Lookouts::default(), jobs());
        let (mut first, mut second) = (all.lookout(), all.lookout());
        first.add(one);
        second.add(one);
        second.add(other);
        all.wake(one);
        assert_eq!(first.woken().await, News::Of([one].into()));
        assert_eq!(second.woken().await, News::Of([one].into()));
        second.remove(one);
        all.wake(one);
        assert_eq!(first.woken().await, News::Of([one].into()));
        assert_eq!(second.woken().now_or_never(), None);
        all.wake_all();
        assert_eq!((first.woken().await, second.woken().await), (News::Any, News::Any));
    }

    #[test]
    fn the_last_lookout_leaves_nothing_behind() {
        let (all, [one, other]) = (Lookouts::default(), jobs());
        let (mut first, mut second) = (all.lookout(), all.lookout());
        first.add(one);
        first.add(one);
        second.add(one);
        second.add(other);
        first.remove(one);
        first.remove(other);
        assert_eq!(all.by_job().len(), 2);
        drop(second);
        assert!(all.by_job().is_empty());
    }
}
