//! A browser without a window.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

/// Chromium, which keeps all that it has in `profile` and logs what pages say to its standard error. It ends when its handle
/// is dropped.
///
/// # Panics
/// When there is none.
pub fn chromium(profile: &Path) -> Command {
    let mut browser = Command::new(program());
    browser.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]);
    browser.arg(format!("--user-data-dir={}", profile.display()));
    browser.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    browser
}

fn program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("chromium"));
    programs.find(|program| program.exists()).expect("no chromium in PATH: install it; `./test` does so on Debian")
}
