use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The longest that a step takes: enough for others to come in between.
const STEP_MAX: u64 = 4;

/// The life of one process, step by step: wherever it waits for the store or the broker. It may be killed at any of its
/// steps, and does nothing more from then on. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Life(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    killed: CancellationToken,
    course: Mutex<Course>,
}

#[derive(Debug)]
struct Course {
    dice: fastrand::Rng,
    /// `None`: it lives for as long as it likes.
    death: Option<Death>,
    /// How often the store fails it, from 0 to 1.
    stumbles: f64,
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Death {
    /// After so many steps of those that count.
    pub(super) left: u32,
    /// Only steps of this name count. `None`: all do.
    pub(super) at: Option<&'static str>,
}

impl Life {
    pub(super) fn new(dice: fastrand::Rng, stumbles: f64) -> Self {
        Self(Arc::new(Inner {
            killed: CancellationToken::new(),
            course: Mutex::new(Course { dice, death: None, stumbles }),
        }))
    }

    /// Takes a step of this name, and a moment for it. Never ends in a process that was killed, or is killed by it.
    pub(super) async fn step(&self, name: &str) {
        let moment = {
            let mut course = self.course();
            match course.death.as_mut().filter(|death| death.at.is_none_or(|at| at == name)) {
                Some(Death { left: 0, .. }) => self.0.killed.cancel(),
                Some(death) => death.left -= 1,
                None => {}
            }
            // Most take none; then the others only get their turn.
            if course.dice.u8(..4) == 0 { course.dice.u64(1..=STEP_MAX) } else { 0 }
        };
        if self.is_over() {
            pending::<()>().await;
        }
        match moment {
            0 => tokio::task::yield_now().await,
            millis => tokio::time::sleep(Duration::from_millis(millis)).await,
        }
        if self.is_over() {
            pending::<()>().await;
        }
    }

    /// Whether the store fails it now.
    pub(super) fn stumbles(&self) -> bool {
        let mut course = self.course();
        let rate = course.stumbles;
        rate > 0.0 && course.dice.f64() < rate
    }

    /// Settles when it is killed.
    pub(super) fn doom(&self, death: Death) {
        self.course().death = Some(death);
    }

    /// From now on nothing befalls it by itself.
    pub(super) fn spare(&self) {
        let mut course = self.course();
        course.death = None;
        course.stumbles = 0.0;
    }

    pub(super) fn kill(&self) {
        self.0.killed.cancel();
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.killed.is_cancelled()
    }

    pub(super) fn end(&self) -> CancellationToken {
        self.0.killed.clone()
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        self.0.course.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
