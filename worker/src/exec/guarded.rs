//! A run of a program, seen from the worker: its guard, and what comes out of it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use super::guard;
use super::order::{Order, Report, STOP, line};

/// No report of a guard has more bytes.
const REPORT_MAX: u64 = 64 * 1024;

/// A guard that was started, and the two streams of its program.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    pub(super) leash: Leash,
    pub(super) reports: Reports,
}

/// By it the program is asked to stop. Once it is dropped the guard does the same by itself.
#[derive(Debug)]
pub(super) struct Leash(OwnedWriteHalf);

/// What the guard tells.
#[derive(Debug)]
pub(super) struct Reports {
    lines: BufReader<OwnedReadHalf>,
    /// The program's group, while it runs.
    group: Option<Pid>,
    /// Once this is dropped, tokio sees the guard off.
    _guard: Child,
}

/// Why nobody knows how a program ended.
#[derive(Debug)]
pub(super) enum NoEnd {
    NotStarted(String),
    /// The guard was killed. The program is, too, as far as it can be found.
    Unguarded,
}

impl Guarded {
    /// Starts a guard, and has it start the program.
    ///
    /// # Errors
    /// When there are no processes, files or memory to be had.
    pub(super) async fn start(order: &Order, input: &[u8]) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = theirs.into_std()?;
        theirs.set_nonblocking(false)?;
        // This very program, even where another has taken its place on the disk.
        let mut command = Command::new("/proc/self/exe");
        command.arg0(guard::NAME).env_clear().stdin(OwnedFd::from(theirs));
        // A Ctrl-C is for the worker, which lets its jobs finish.
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut guard = command.spawn()?;
        // It holds the guard's end of the socket: were it kept, nobody would notice that the guard is gone.
        drop(command);
        let (Some(stdout), Some(stderr)) = (guard.stdout.take(), guard.stderr.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let (reports, mut orders) = ours.into_split();
        orders.write_all(&line(order)?).await?;
        orders.write_all(input).await?;
        let reports = Reports { lines: BufReader::new(reports), group: None, _guard: guard };
        Ok(Self { stdout, stderr, leash: Leash(orders), reports })
    }
}

impl Leash {
    /// Asks the program to stop. It is killed when it does not.
    pub(super) async fn pull(&mut self) {
        // A guard that is gone has taken its program with it.
        let _ = self.0.write_all(STOP.as_bytes()).await;
    }
}

impl Reports {
    /// Waits until the program has ended, and all that it started.
    ///
    /// # Errors
    /// See [`NoEnd`]. Then the streams of the program may stay open, for somebody may still hold them.
    pub(super) async fn end(&mut self) -> Result<ExitStatus, NoEnd> {
        loop {
            match self.next().await {
                Some(Report::Started { id }) => self.group = Pid::from_raw(id),
                Some(Report::NotStarted { reason }) => return Err(NoEnd::NotStarted(reason)),
                Some(Report::Ended { status, left_behind }) => {
                    self.group = None;
                    if let Some(error) = left_behind {
                        tracing::warn!(%error, "the directory of a run could not be removed");
                    }
                    return Ok(ExitStatus::from_raw(status));
                }
                None => {
                    if let Some(group) = self.group.take() {
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                    return Err(NoEnd::Unguarded);
                }
            }
        }
    }

    async fn next(&mut self) -> Option<Report> {
        let mut line = Vec::new();
        (&mut self.lines).take(REPORT_MAX).read_until(b'\n', &mut line).await.ok()?;
        serde_json::from_slice(&line).ok()
    }
}
