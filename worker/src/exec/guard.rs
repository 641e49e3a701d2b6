//! The guard of one program: a process between it and the worker, which sees to it that nothing of a run outlives it.
//!
//! A worker cannot do that itself. It may be killed at any time, and what a program started may have left its process
//! group, or have lost its parent. The guard is the one to whom such orphans fall, and it notices when the worker is gone.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, kill_process_group, set_child_subreaper, wait,
};
use tempfile::TempDir;

use super::launch::{self, Complaint};
use super::order::{Order, Report, line};

/// What a process is called that is a guard.
pub(super) const NAME: &str = "buzzer-guard";
/// How long those that a program left behind may take to be gone once they are killed.
const SWEEP_LIMIT: Duration = Duration::from_secs(5);
/// How soon the guard looks again.
const LOOK: Duration = Duration::from_millis(2);

/// Whether this process can be started again as a guard.
static GUARDS: AtomicBool = AtomicBool::new(false);

/// Does the work of a guard where this process was started as one, and tells how it ended. The same for the step from
/// there to the program.
///
/// A program that is to run kinds of `exec` calls this first in its `main`, before it starts any thread: workers start
/// the same program once more beside each run.
pub fn guard() -> Option<ExitCode> {
    match std::env::args_os().next() {
        Some(name) if name == NAME => Some(match run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: a worker alone can start the guard of a program: {error}");
                ExitCode::FAILURE
            }
        }),
        Some(name) if name == launch::NAME => Some(launch::launch()),
        _ => {
            GUARDS.store(true, Ordering::Relaxed);
            None
        }
    }
}

/// Whether [`guard`] was called, so that guards can be started.
pub(super) fn is_possible() -> bool {
    GUARDS.load(Ordering::Relaxed)
}

/// What the guard waits for.
#[derive(Debug)]
enum Event {
    /// The worker wants an end, or is gone.
    Stop,
    Ended(WaitStatus),
}

/// A program that was started, and what is there for its run alone.
struct Begun {
    running: Running,
    directory: TempDir,
    complaint: Complaint,
}

/// A program that runs.
struct Running {
    id: Pid,
    events: Receiver<Event>,
    grace: Duration,
}

fn run() -> io::Result<()> {
    let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut orders = BufReader::new(control.try_clone()?);
    let (order, input) = Order::read(&mut orders)?;
    // Nobody may be there any more to be told: then there is nothing to tell.
    let mut tell = |report: &Report| control.write_all(&line(report)?);
    let report = match begin(&order, input, orders) {
        Ok(Begun { running, directory, complaint }) => {
            let _ = tell(&Report::Started { id: running.id.as_raw_nonzero().get() });
            let status = running.end();
            let left_behind = directory.close().err().map(|error| error.to_string());
            match complaint.read() {
                Some(reason) => Report::NotStarted { reason },
                None => Report::Ended { status: status.as_raw(), left_behind },
            }
        }
        Err(reason) => Report::NotStarted { reason },
    };
    let _ = tell(&report);
    Ok(())
}

/// Starts the program. The error says why it cannot be, and what to do.
fn begin(order: &Order, input: Vec<u8>, orders: BufReader<UnixStream>) -> Result<Begun, String> {
    let no_room =
        |error| format!("no directory could be made for the run ({error}); set TMPDIR to where the worker may write");
    let directory = tempfile::Builder::new().prefix("buzzer-run-").tempdir_in(&order.directories).map_err(no_room)?;
    let complaint = Complaint::none_in(&order.directories).map_err(no_room)?;
    set_child_subreaper(Some(getpid())).map_err(|error| format!("its orphans would be nobody's: {error}"))?;
    let mut command = launch::command(order, directory.path(), &complaint).map_err(|error| error.to_string())?;
    let mut child = command.stdin(Stdio::piped()).spawn().map_err(|error| error.to_string())?;
    let id = Pid::from_child(&child);
    let events = helpers(id, child.stdin.take(), input, orders);
    let running = Running { id, events, grace: Duration::from_millis(order.grace_ms) };
    Ok(Begun { running, directory, complaint })
}

/// Threads: one to hand the program its input, one to hear the worker, one to hear of the program's end.
fn helpers(id: Pid, stdin: Option<ChildStdin>, input: Vec<u8>, mut orders: BufReader<UnixStream>) -> Receiver<Event> {
    // A program may end without having read its input.
    thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let (stop, events) = mpsc::channel();
    let ended = stop.clone();
    thread::spawn(move || {
        // One word, or the end of it all: both mean the same.
        let _ = orders.read_until(b'\n', &mut Vec::new());
        let _ = stop.send(Event::Stop);
    });
    thread::spawn(move || ended.send(Event::Ended(end_of(id))));
    events
}

/// Waits for the end of a child, and sees its orphans off meanwhile.
fn end_of(id: Pid) -> WaitStatus {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((child, status))) if child == id => return status,
            // Nobody else waits for it, so it cannot be gone; and a signal may interrupt.
            Ok(_) | Err(_) => {}
        }
    }
}

impl Running {
    /// Waits for the end, brings it about when the worker wants it, and leaves nothing that the program started.
    fn end(self) -> WaitStatus {
        let status = match self.events.recv() {
            Ok(Event::Ended(status)) => status,
            Ok(Event::Stop) | Err(_) => self.stop(),
        };
        sweep(self.id);
        status
    }

    /// Asks it to stop, and kills it when it does not.
    fn stop(&self) -> WaitStatus {
        let _ = kill_process_group(self.id, Signal::TERM);
        let mut patience = self.grace;
        loop {
            match self.events.recv_timeout(patience) {
                Ok(Event::Ended(status)) => return status,
                Ok(Event::Stop) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    let _ = kill_process_group(self.id, Signal::KILL);
                    patience = SWEEP_LIMIT;
                }
            }
        }
    }
}

/// Kills what is left of the program's group, and then whoever falls to us, until nobody is left.
fn sweep(group: Pid) {
    let _ = kill_process_group(group, Signal::KILL);
    let until = Instant::now() + SWEEP_LIMIT;
    while Instant::now() < until {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => {
                for child in children() {
                    let _ = kill_process(child, Signal::KILL);
                }
                thread::sleep(LOOK);
            }
            Err(_) => return,
        }
    }
}

fn children() -> Vec<Pid> {
    let Ok(all) = procfs::process::all_processes() else { return Vec::new() };
    let own = getpid().as_raw_nonzero().get();
    // One that has ended meanwhile cannot be read.
    let stats = all.filter_map(Result::ok).filter_map(|process| process.stat().ok());
    stats.filter(|stat| stat.ppid == own).filter_map(|stat| Pid::from_raw(stat.pid)).collect()
}
