//! Cleans up behind a test process, however that ends.
//!
//! Rust drops no statics, a failing test may abort, and a test run may be killed: then nothing of ours would stop
//! what it started. A guardian is a small shell at the other end of a pipe. When the pipe closes without a word, our
//! process is gone, and the guardian does what was asked of it.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Watches over one thing. Dropped, it is dismissed.
#[derive(Debug)]
pub struct Guardian(Child);

impl Guardian {
    /// Kills the process with this id once ours is gone.
    pub fn of_process(id: u32) -> std::io::Result<Self> {
        Self::start("read -r _ || kill -9 \"$1\"", &id.to_string())
    }

    /// Removes the directory once our process is gone. Waits for those who still write there to be killed.
    pub fn of_directory(path: &Path) -> std::io::Result<Self> {
        Self::start("read -r _ || { sleep 2; rm -rf -- \"$1\"; }", &path.to_string_lossy())
    }

    fn start(script: &str, argument: &str) -> std::io::Result<Self> {
        let script = format!("trap '' INT TERM HUP; {script}");
        let mut command = Command::new("sh");
        command.args(["-c", &script, "guardian", argument]);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(Self)
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            // Were the guardian gone already, there would be nobody to dismiss.
            let _ = pipe.write_all(b"dismissed\n");
        }
        let _ = self.0.wait();
    }
}
