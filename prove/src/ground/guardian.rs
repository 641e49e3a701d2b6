//! Cleans up behind our process, however that ends.
//!
//! A process may be killed, and a test that fails may abort: then nothing of ours would stop what it started. A guardian
//! is a small shell at the other end of a pipe. When the pipe closes without a word, our process is gone, and the
//! guardian does what was asked of it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Watches over one thing.
#[derive(Debug)]
pub struct Guardian {
    shell: Child,
    at_the_end: AtTheEnd,
}

/// What becomes of a guardian that is dropped while our process goes on.
#[derive(Debug, PartialEq, Eq)]
enum AtTheEnd {
    /// Whoever dropped it has cleaned up.
    Dismissed,
    /// It does what it would do were our process gone.
    Acts,
}

impl Guardian {
    /// Kills the process with this id once ours is gone.
    pub fn of_process(id: u32) -> std::io::Result<Self> {
        Self::start(AtTheEnd::Dismissed, "read -r _ || kill -9 \"$1\"", &id.to_string())
    }

    /// Removes the directory once our process is gone. Waits for those who still write there to be killed.
    pub fn of_directory(path: &Path) -> std::io::Result<Self> {
        let script = "read -r _ || { sleep 2; rm -rf -- \"$1\"; }";
        Self::start(AtTheEnd::Dismissed, script, &path.to_string_lossy())
    }

    /// Unmounts what is mounted there once our process is gone.
    pub fn of_mount(path: &Path) -> std::io::Result<Self> {
        Self::start(AtTheEnd::Dismissed, "read -r _ || umount -l -- \"$1\"", &path.to_string_lossy())
    }

    /// Takes a Compose project down with its volumes once it is dropped, or our process is gone.
    pub fn of_compose_project(name: &str) -> std::io::Result<Self> {
        let down = "docker compose --project-name \"$1\" --profile '*' down --volumes --remove-orphans --timeout 5";
        Self::start(AtTheEnd::Acts, &format!("read -r _ || {down}"), name)
    }

    /// Runs a script once our process is gone, or it is dropped; and once more when a container that was asked to stop
    /// meanwhile has done so.
    pub fn of_containers(script: &str) -> std::io::Result<Self> {
        Self::start(AtTheEnd::Acts, "read -r _ || { sh -c \"$1\"; sleep 70; sh -c \"$1\"; }", script)
    }

    /// Lets it go: there is nothing to clean up.
    pub fn dismiss(mut self) {
        self.at_the_end = AtTheEnd::Dismissed;
    }

    fn start(at_the_end: AtTheEnd, script: &str, argument: &str) -> std::io::Result<Self> {
        let script = format!("trap '' INT TERM HUP; {script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "guardian", argument]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { shell: command.spawn()?, at_the_end })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let (AtTheEnd::Dismissed, Some(mut pipe)) = (&self.at_the_end, self.shell.stdin.take()) {
            // Were the guardian gone already, there would be nobody to dismiss.
            let _ = pipe.write_all(b"dismissed\n");
        }
        // Closes the pipe, too.
        let _ = self.shell.wait();
    }
}
