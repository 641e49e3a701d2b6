//! What processes take: CPU time and memory, each with all that descend from it.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::failure::Failure;

/// How often memory is looked at.
const EVERY: Duration = Duration::from_millis(200);

/// A process that is watched under a name. Written like `api=4711`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watched {
    pub name: String,
    pub pid: i32,
}

impl FromStr for Watched {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').filter(|(name, _)| !name.is_empty());
        let watched = parts.and_then(|(name, pid)| Some(Self { name: name.into(), pid: pid.parse().ok()? }));
        watched.filter(|watched| watched.pid > 0).ok_or_else(|| "expected NAME=PID, like api=4711".into())
    }
}

impl Watched {
    /// This process, which is the client.
    pub fn client() -> Self {
        // The number of a process fits, or it would not run.
        Self { name: "client".into(), pid: std::process::id().cast_signed() }
    }
}

/// A name that several of them have: they could not be told apart.
pub fn used_twice(watched: &[Watched]) -> Option<&str> {
    let mut names = HashSet::new();
    watched.iter().map(|watched| watched.name.as_str()).find(|name| !names.insert(*name))
}

/// What a process and its descendants took.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    pub name: String,
    pub cpu_seconds: f64,
    /// Bytes at the end.
    pub memory: u64,
    /// The most at any look.
    pub memory_peak: u64,
}

/// Looks at processes on a thread of its own until it is stopped.
#[derive(Debug)]
pub struct Watcher {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<Result<Vec<Usage>, Failure>>,
}

impl Watcher {
    /// # Errors
    /// When one of them is not there, or this machine is no Linux.
    pub fn start(all: Vec<Watched>) -> Result<Self, Failure> {
        let before = all.iter().map(look).collect::<Result<Vec<_>, _>>()?;
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || watch(&all, &before, &stopped));
        Ok(Self { stop, thread })
    }

    /// What they took since the start.
    ///
    /// # Errors
    /// When one of them has ended meanwhile.
    pub fn stop(self) -> Result<Vec<Usage>, Failure> {
        // One that has failed listens no more.
        let _ = self.stop.send(());
        let gone = |_| Failure::Unwatched { name: "the processes".into(), reason: "the watching thread died".into() };
        self.thread.join().map_err(gone)?
    }
}

fn watch(all: &[Watched], before: &[Sample], stopped: &mpsc::Receiver<()>) -> Result<Vec<Usage>, Failure> {
    let mut peaks: Vec<_> = before.iter().map(|sample| sample.memory).collect();
    loop {
        let is_over = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
        let now = all.iter().map(look).collect::<Result<Vec<_>, _>>()?;
        for (peak, sample) in peaks.iter_mut().zip(&now) {
            *peak = sample.memory.max(*peak);
        }
        if is_over {
            let usages =
                all.iter().zip(before).zip(now).zip(peaks).map(|(((watched, before), now), memory_peak)| Usage {
                    name: watched.name.clone(),
                    cpu_seconds: now.cpu_seconds - before.cpu_seconds,
                    memory: now.memory,
                    memory_peak,
                });
            return Ok(usages.collect());
        }
    }
}

/// CPU seconds of this process so far.
///
/// # Errors
/// When this machine is no Linux.
pub fn own_cpu_seconds() -> Result<f64, Failure> {
    Ok(look(&Watched::client())?.cpu_seconds)
}

/// A process and its descendants at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    cpu_seconds: f64,
    memory: u64,
}

/// A line of the table of processes.
#[derive(Debug, Clone, Copy)]
struct Row {
    parent: i32,
    /// Its own, and that of its children that have ended.
    cpu_seconds: f64,
    memory: u64,
}

fn look(watched: &Watched) -> Result<Sample, Failure> {
    let failed = |reason: String| Failure::Unwatched { name: watched.name.clone(), reason };
    let table = table().map_err(failed)?;
    together(&table, watched.pid).ok_or_else(|| failed(format!("there is no process {}", watched.pid)))
}

/// The sum over a process and all that descend from it.
fn together(table: &HashMap<i32, Row>, pid: i32) -> Option<Sample> {
    let mut sum = Sample { cpu_seconds: 0.0, memory: 0 };
    table.get(&pid)?;
    for row in table.iter().filter(|(other, _)| descends(table, **other, pid)).map(|(_, row)| row) {
        sum.cpu_seconds += row.cpu_seconds;
        sum.memory += row.memory;
    }
    Some(sum)
}

fn descends(table: &HashMap<i32, Row>, pid: i32, from: i32) -> bool {
    // Rows are read one after the other, so that numbers used anew could make a ring.
    let line = std::iter::successors(Some(pid), |pid| table.get(pid).map(|row| row.parent));
    line.take(table.len() + 1).any(|pid| pid == from)
}

#[cfg(target_os = "linux")]
fn table() -> Result<HashMap<i32, Row>, String> {
    let ticks = procfs::ticks_per_second() as f64;
    let page = procfs::page_size();
    let processes = procfs::process::all_processes().map_err(|error| error.to_string())?;
    // One that has ended since is not there any more.
    let stats = processes.filter_map(|process| process.ok()?.stat().ok());
    let row = |stat: procfs::process::Stat| {
        let children = u64::try_from(stat.cutime + stat.cstime).unwrap_or_default();
        let cpu_seconds = (stat.utime + stat.stime + children) as f64 / ticks;
        (stat.pid, Row { parent: stat.ppid, cpu_seconds, memory: stat.rss * page })
    };
    Ok(stats.map(row).collect())
}

#[cfg(not(target_os = "linux"))]
fn table() -> Result<HashMap<i32, Row>, String> {
    Err("only Linux tells what processes take".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_watched_under_a_name() {
        assert_eq!("api=4711".parse(), Ok(Watched { name: "api".into(), pid: 4711 }));
        for bad in ["", "api", "=1", "api=", "api=x", "api=-1", "api=0"] {
            assert!(bad.parse::<Watched>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_used_once() {
        let watched: Vec<Watched> = ["api=1", "worker=2"].map(|text| text.parse().unwrap()).into();
        assert_eq!(used_twice(&watched), None);
        assert_eq!(used_twice(&[watched, vec!["api=3".parse().unwrap()]].concat()), Some("api"));
    }

    #[test]
    fn descendants_count_and_others_do_not() {
        let row = |parent| Row { parent, cpu_seconds: 1.0, memory: 10 };
        let table = HashMap::from([(1, row(0)), (2, row(1)), (3, row(2)), (4, row(1)), (5, row(5))]);
        let sum = |pid| together(&table, pid).map(|sample| sample.memory);
        assert_eq!([sum(1), sum(2), sum(3), sum(5), sum(9)], [Some(40), Some(20), Some(10), Some(10), None]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_memory_and_a_child_adds_to_it() {
        let alone = look(&Watched::client()).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let table = table().unwrap();
        assert!(alone.memory > 0 && descends(&table, child.id().cast_signed(), Watched::client().pid));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_is_not_there_is_named() {
        let refused = Watcher::start(vec![Watched { name: "api".into(), pid: i32::MAX }]).unwrap_err().to_string();
        assert!(refused.contains("api") && refused.contains("no process"), "{refused}");
    }
}
