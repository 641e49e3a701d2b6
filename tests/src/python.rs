//! Python with libraries, in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::programs;
use crate::wait::within;

/// To fetch a library.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// A Python that has these libraries. Its environment stays from run to run.
///
/// # Panics
/// When there is no Python, or the libraries cannot be had.
pub async fn with(libraries: &[&str]) -> PathBuf {
    let folder = programs().join("python").join(libraries.join("-"));
    std::fs::create_dir_all(&folder).expect("a folder");
    run(Command::new("python3").args(["-m", "venv", "."]), &folder).await;
    run(Command::new(folder.join("bin/pip")).args(["install", "--quiet"]).args(libraries), &folder).await;
    folder.join("bin/python")
}

async fn run(command: &mut Command, folder: &Path) {
    command.current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    let ran = within("a library", INSTALL_LIMIT, command.output()).await.expect("a program that runs");
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
}
