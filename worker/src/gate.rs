//! Who may start beside whom: as a rule all beside all, but a suspect only by itself.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use buzzer_shared::kind::Kind;
use tokio::sync::{Mutex, OwnedMutexGuard, OwnedRwLockWriteGuard, RwLock};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// So long a suspect waits for the runs that go on to end. Meanwhile nothing starts, so it must not be long: after two
/// crashes, all that the worker held are suspects.
pub(crate) const ALONE_PATIENCE: Duration = Duration::from_secs(1);
/// So long anybody waits at a shut gate; then another worker may have room. Far below the time after which RabbitMQ
/// takes a request back that is not acknowledged.
const GATE_PATIENCE: Duration = Duration::from_secs(60);

/// The gate of a worker, through which every run goes as it begins.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Read for an instant by who goes through, written by a suspect for as long as it is to be alone. Fair: whoever
    /// comes to a shut gate stands in line.
    door: Arc<RwLock<()>>,
    suspects: Suspects,
    /// What goes on behind the gate. Always closed, which for this type only means that it can be waited for.
    inside: TaskTracker,
}

/// Suspects wait for each other here, and one at a time stands in line at the door. So whoever is no suspect waits for one
/// of them at most, however many there are. One of each kind at a time stands in line for that, so a kind of slow ones
/// does not hold up another's.
#[derive(Debug, Default)]
struct Suspects {
    turn: Arc<Mutex<()>>,
    lines: std::sync::Mutex<BTreeMap<Kind, Arc<Mutex<()>>>>,
}

/// It is this suspect's turn, and the next of its kind stands behind it.
#[derive(Debug)]
struct Turn {
    _turn: OwnedMutexGuard<()>,
    _line: OwnedMutexGuard<()>,
}

/// Somebody runs. To be kept until the handler is really gone: a CPU-bound function may outlive its run.
#[derive(Debug)]
pub(crate) struct Company {
    _token: TaskTrackerToken,
}

/// The right to run alone: nobody else starts until it is dropped.
#[derive(Debug)]
pub(crate) struct Alone {
    /// Whether nothing else went on as it began.
    pub(crate) undisturbed: bool,
    _door: OwnedRwLockWriteGuard<()>,
    _turn: Turn,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let inside = TaskTracker::new();
        inside.close();
        Self { door: Arc::default(), suspects: Suspects::default(), inside }
    }

    /// Goes through beside whoever is inside. `None` when the gate is shut for too long.
    pub(crate) async fn enter(&self) -> Option<Company> {
        if let Ok(_open) = self.door.try_read() {
            return Some(self.company());
        }
        let _open = timeout(GATE_PATIENCE, self.door.read()).await.ok()?;
        Some(self.company())
    }

    /// Shuts the gate and goes through once nobody is inside, or after [`ALONE_PATIENCE`] all the same. `None` when
    /// others keep the gate shut for too long.
    pub(crate) async fn enter_alone(&self, kind: &Kind) -> Option<(Alone, Company)> {
        let (turn, door) = timeout(GATE_PATIENCE, async {
            let turn = self.suspects.turn(kind).await;
            (turn, Arc::clone(&self.door).write_owned().await)
        })
        .await
        .ok()?;
        let undisturbed = timeout(ALONE_PATIENCE, self.inside.wait()).await.is_ok();
        Some((Alone { undisturbed, _door: door, _turn: turn }, self.company()))
    }

    fn company(&self) -> Company {
        Company { _token: self.inside.token() }
    }
}

impl Suspects {
    async fn turn(&self, kind: &Kind) -> Turn {
        let line = {
            // Nobody panics while it is held; and if so, a line that was put in is a line.
            let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(lines.entry(kind.clone()).or_default())
        };
        let line = line.lock_owned().await;
        Turn { _turn: Arc::clone(&self.turn).lock_owned().await, _line: line }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;
    use futures_util::FutureExt;
    use tokio::time::Instant;

    static SLOW: LazyLock<Kind> = LazyLock::new(|| "video.shrink".parse().unwrap());
    static FAST: LazyLock<Kind> = LazyLock::new(|| "mail.send".parse().unwrap());

    #[tokio::test(start_paused = true)]
    async fn all_go_in_beside_each_other() {
        let gate = Gate::new();
        let all: Vec<_> = (0..1_000).map(|_| gate.enter().now_or_never().flatten().unwrap()).collect();
        assert_eq!(gate.inside.len(), all.len());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_waits_for_the_others_and_then_keeps_them_out() {
        let gate = Gate::new();
        let other = gate.enter().await;
        let mut alone = Box::pin(gate.enter_alone(&SLOW));
        assert!(alone.as_mut().now_or_never().is_none());
        // While it waits, nothing starts.
        let mut next = Box::pin(gate.enter());
        assert!(next.as_mut().now_or_never().is_none());

        drop(other);
        let (right, company) = alone.await.unwrap();
        assert!(right.undisturbed);
        assert!(next.as_mut().now_or_never().is_none());
        // Its own function may go on: then it is company like any other.
        drop(right);
        assert!(next.await.is_some());
        let (second, _) = gate.enter_alone(&SLOW).await.unwrap();
        assert!(!second.undisturbed);
        drop(company);
    }

    #[tokio::test(start_paused = true)]
    async fn it_begins_all_the_same_when_others_go_on() {
        let gate = Gate::new();
        let _stubborn = gate.enter().await;
        let before = Instant::now();
        let (right, _) = gate.enter_alone(&SLOW).await.unwrap();
        assert!(!right.undisturbed);
        assert_eq!(before.elapsed().as_secs(), ALONE_PATIENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_is_alone_and_those_between_two_get_in() {
        let gate = Gate::new();
        let first = gate.enter_alone(&SLOW).await;
        let (mut between, mut second) = (Box::pin(gate.enter()), Box::pin(gate.enter_alone(&SLOW)));
        assert!(between.as_mut().now_or_never().is_none() && second.as_mut().now_or_never().is_none());
        drop(first);
        assert!(second.as_mut().now_or_never().is_none(), "it overtook who came before");
        assert!(between.now_or_never().is_some());
        assert!(second.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_no_suspect_waits_for_one_of_them_at_most() {
        let gate = Gate::new();
        let first = gate.enter_alone(&SLOW).await;
        let mut others: Vec<_> = (0..100).map(|_| Box::pin(gate.enter_alone(&SLOW))).collect();
        assert!(others.iter_mut().all(|other| other.as_mut().now_or_never().is_none()), "the first is alone");
        let mut late = Box::pin(gate.enter());
        assert!(late.as_mut().now_or_never().is_none());
        drop(first);
        assert!(late.now_or_never().flatten().is_some(), "a hundred suspects were there before it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspect_waits_for_one_of_each_other_kind_at_most() {
        let gate = Gate::new();
        let first = gate.enter_alone(&SLOW).await;
        let mut others: Vec<_> = (0..100).map(|_| Box::pin(gate.enter_alone(&SLOW))).collect();
        assert!(others.iter_mut().all(|other| other.as_mut().now_or_never().is_none()), "the first is alone");
        let mut late = Box::pin(gate.enter_alone(&FAST));
        assert!(late.as_mut().now_or_never().is_none());
        drop(first);
        assert!(late.now_or_never().flatten().is_some(), "a hundred of another kind were there before it");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_at_a_shut_gate_for_ever_and_who_leaves_opens_it() {
        let gate = Gate::new();
        let first = gate.enter_alone(&SLOW).await;
        let before = Instant::now();
        assert!(gate.enter().await.is_none() && gate.enter_alone(&SLOW).await.is_none());
        assert_eq!(before.elapsed().as_secs(), 2 * GATE_PATIENCE.as_secs());
        drop(first);

        let _inside = gate.enter().await;
        let mut waits = Box::pin(gate.enter_alone(&SLOW));
        assert!(waits.as_mut().now_or_never().is_none());
        drop(waits);
        assert!(gate.enter().now_or_never().is_some());
    }
}
