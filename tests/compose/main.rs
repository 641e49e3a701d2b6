//! `docker compose up` as users run it: real images, real containers. Skipped, with a word, where no Docker engine
//! answers.

mod containers;
mod faults;
mod prove;
mod readme;

use buzzer_tests::compose::{Project, docker_answers};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

/// The project that all tests share, one after the other; `None` where there is no Docker. Each leaves it whole.
async fn project() -> Option<MutexGuard<'static, Project>> {
    static PROJECT: OnceCell<Option<Mutex<Project>>> = OnceCell::const_new();
    let project = PROJECT.get_or_init(async || {
        if docker_answers().await {
            Some(Mutex::new(Project::up().await))
        } else {
            eprintln!("SKIPPED: no Docker engine with Compose answers here, so nothing is tried in containers");
            None
        }
    });
    match project.await {
        Some(project) => Some(project.lock().await),
        None => None,
    }
}
