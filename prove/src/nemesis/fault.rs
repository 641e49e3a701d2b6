//! The faults, as data.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::proxy::{Trouble, Way};

/// One process of the system, or its container. APIs and workers are numbered from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    Api(usize),
    Worker(usize),
    Broker,
    /// PostgreSQL.
    Store,
    /// What stands before several APIs.
    Proxy,
}

/// A line between two parts; all of that sort are disturbed together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    ClientApi,
    ApiBroker,
    WorkerBroker,
    ApiStore,
}

/// What happens to queues, messages, connections and resources inside RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BrokerFault {
    /// The queues of requests and of replies are emptied.
    Purge,
    /// The queues of requests and of replies are deleted.
    Delete,
    /// They are deleted, and RabbitMQ is killed as soon as they are made again.
    DeleteAndKill,
    /// The queue of replies is deleted and made by somebody else, with other arguments.
    DeclareOtherwise,
    CloseConnections,
    /// The password is changed, and every connection closed.
    ChangePassword,
    MemoryAlarm,
    DiskAlarm,
    /// Outcomes come again: at once, in another order, and after the fault.
    Repeat,
    /// Somebody who is no worker sends outcomes of jobs that are there.
    Forge,
    /// What nobody can read comes into every queue.
    Garbage,
}

/// Whose disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    Sqlite,
    Postgres,
    Broker,
}

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9`, and started again when it heals.
    Kill(Part),
    /// The same, and killed once more right after its start.
    KillTwice(Part),
    /// Frozen with open sockets (`SIGSTOP`).
    Freeze(Part),
    /// Asked to stop (`SIGTERM`), and started again when it heals.
    Stop(Part),
    /// Each API is asked to stop and started again, one after the other.
    RollApis,
    /// The same for the workers.
    RollWorkers,
    /// One worker more.
    ScaleUp,
    /// All workers but one are asked to stop.
    ScaleDown,
    Line(Line, Trouble),
    /// Taken off the networks on which it meets the broker and the store.
    CutOff(Part),
    Broker(BrokerFault),
    /// No room is left on a disk.
    DiskFull(Disk),
    /// The clock of a part jumps by so many hours, and back.
    ClockStep(Part, i8),
}

/// What a fault is about: of two that come together, each is about something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    // In this order they heal: who needs the others comes last.
    Store,
    Broker,
    Lines,
    Apis,
    Workers,
    Proxy,
}

impl Part {
    pub fn subject(self) -> Subject {
        match self {
            Self::Api(_) => Subject::Apis,
            Self::Worker(_) => Subject::Workers,
            Self::Broker => Subject::Broker,
            Self::Store => Subject::Store,
            Self::Proxy => Subject::Proxy,
        }
    }
}

impl Fault {
    pub fn subject(self) -> Subject {
        match self {
            Self::Kill(part)
            | Self::KillTwice(part)
            | Self::Freeze(part)
            | Self::Stop(part)
            | Self::CutOff(part)
            | Self::ClockStep(part, _) => part.subject(),
            Self::RollApis => Subject::Apis,
            Self::RollWorkers | Self::ScaleUp | Self::ScaleDown => Subject::Workers,
            Self::Line(..) => Subject::Lines,
            Self::Broker(_) | Self::DiskFull(Disk::Broker) => Subject::Broker,
            Self::DiskFull(Disk::Sqlite | Disk::Postgres) => Subject::Store,
        }
    }

    /// How soon a job must succeed once it is healed.
    pub fn patience(self) -> Duration {
        let seconds = match self {
            // A damaged quorum queue is found by a probe after half a minute; see docs/reliability.md.
            Self::Broker(BrokerFault::DeleteAndKill) => 90,
            Self::Line(Line::ClientApi, _) => 5,
            // Off its networks, a part has lost these lines.
            Self::Line(..) | Self::CutOff(_) => 15,
            _ => match self.subject() {
                Subject::Apis | Subject::Workers | Subject::Proxy => 5,
                Subject::Broker | Subject::Store | Subject::Lines => 15,
            },
        };
        Duration::from_secs(seconds)
    }

    /// Whether it is over as soon as it was done, so that it need not be held.
    pub fn is_instant(self) -> bool {
        match self {
            Self::RollApis | Self::RollWorkers | Self::Line(_, Trouble::Cut) => true,
            Self::Broker(fault) => matches!(
                fault,
                BrokerFault::Purge
                    | BrokerFault::Delete
                    | BrokerFault::DeleteAndKill
                    | BrokerFault::CloseConnections
                    | BrokerFault::Forge
                    | BrokerFault::Garbage
            ),
            _ => false,
        }
    }

    /// Whether what is in RabbitMQ's queues may be gone after it.
    pub fn empties_queues(self) -> bool {
        use BrokerFault::{DeclareOtherwise, Delete, DeleteAndKill, Purge};
        // After a full disk, a queue with a damaged log is deleted.
        matches!(self, Self::Broker(Purge | Delete | DeleteAndKill | DeclareOtherwise) | Self::DiskFull(Disk::Broker))
    }

    /// Its name without the number of the part: faults of one name are told together.
    pub fn name(self) -> String {
        let role = |part: Part| match part {
            Part::Api(_) => "API",
            Part::Worker(_) => "worker",
            Part::Broker => "RabbitMQ",
            Part::Store => "PostgreSQL",
            Part::Proxy => "proxy",
        };
        match self {
            Self::Kill(part) => format!("kill -9: {}", role(part)),
            Self::KillTwice(part) => format!("kill -9, and again after its start: {}", role(part)),
            Self::Freeze(part) => format!("frozen: {}", role(part)),
            Self::Stop(part) => format!("SIGTERM: {}", role(part)),
            Self::RollApis => "rolling restart: APIs".into(),
            Self::RollWorkers => "rolling restart: workers".into(),
            Self::ScaleUp => "scaled up: workers".into(),
            Self::ScaleDown => "scaled down: workers".into(),
            Self::Line(line, trouble) => format!("line {line}: {trouble}"),
            Self::CutOff(part) => format!("off the network: {}", role(part)),
            Self::Broker(fault) => fault.to_string(),
            Self::DiskFull(Disk::Sqlite) => "disk full: SQLite".into(),
            Self::DiskFull(Disk::Postgres) => "disk full: PostgreSQL".into(),
            Self::DiskFull(Disk::Broker) => "disk full: RabbitMQ".into(),
            Self::ClockStep(part, hours) => format!("clock {hours:+} h: {}", role(part)),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name())?;
        match self {
            Self::Kill(part)
            | Self::KillTwice(part)
            | Self::Freeze(part)
            | Self::Stop(part)
            | Self::CutOff(part)
            | Self::ClockStep(part, _) => match part {
                Part::Api(at) | Part::Worker(at) => write!(f, " {}", at + 1),
                Part::Broker | Part::Store | Part::Proxy => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClientApi => "client to API",
            Self::ApiBroker => "API to RabbitMQ",
            Self::WorkerBroker => "worker to RabbitMQ",
            Self::ApiStore => "API to PostgreSQL",
        })
    }
}

impl fmt::Display for BrokerFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Purge => "queues purged",
            Self::Delete => "queues deleted",
            Self::DeleteAndKill => "queues deleted, RabbitMQ killed as they come back",
            Self::DeclareOtherwise => "queue of replies declared otherwise",
            Self::CloseConnections => "every connection closed",
            Self::ChangePassword => "password changed",
            Self::MemoryAlarm => "memory alarm",
            Self::DiskAlarm => "disk alarm",
            Self::Repeat => "replies repeated, reordered, late",
            Self::Forge => "replies forged",
            Self::Garbage => "garbage in every queue",
        })
    }
}

/// How far RabbitMQ is ours to harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BrokerAccess {
    /// It is to be left whole.
    Spared,
    /// It may be killed, and `rabbitmqctl` runs on it.
    Controlled,
    /// Its queues, messages and users are ours, too.
    Owned,
}

/// What a system is made of, as far as it decides which faults it can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub apis: usize,
    pub workers: usize,
    /// There may be one worker more for a while.
    pub spare_worker: bool,
    pub broker: BrokerAccess,
    pub postgres: bool,
    pub proxy: bool,
    /// The lines run through proxies of ours.
    pub lines: bool,
    /// The parts are on networks that they can be taken off.
    pub networks: bool,
    /// The store stands on a disk that can be full.
    pub store_disk: bool,
    /// So does RabbitMQ.
    pub broker_disk: bool,
    /// The clocks of APIs and workers can be stepped.
    pub clocks: bool,
}

impl Shape {
    /// Every fault that such a system can have.
    pub fn faults(self) -> Vec<Fault> {
        let parts = self.parts();
        let all = [Fault::Kill, Fault::KillTwice, Fault::Freeze, Fault::Stop];
        let mut faults: Vec<_> = parts.iter().flat_map(|part| all.map(|fault| fault(*part))).collect();
        faults.extend([Fault::RollApis, Fault::RollWorkers]);
        faults.extend(self.spare_worker.then_some(Fault::ScaleUp));
        faults.extend((self.workers > 1).then_some(Fault::ScaleDown));
        if self.lines {
            faults.extend(self.line_faults());
        }
        if self.networks {
            // A proxy that is off its network is one that nobody reaches: as when it is frozen.
            faults.extend(parts.iter().filter(|part| **part != Part::Proxy).map(|part| Fault::CutOff(*part)));
        }
        let of_broker: &[BrokerFault] = match self.broker {
            BrokerAccess::Spared => &[],
            BrokerAccess::Controlled => &CONTROLLED,
            BrokerAccess::Owned => &OWNED,
        };
        faults.extend(of_broker.iter().map(|fault| Fault::Broker(*fault)));
        if self.clocks {
            // An API on SQLite has no other clock: what it stored by a false one is due by that.
            let go_by_another = parts
                .iter()
                .filter(|part| matches!(part, Part::Worker(_)) || matches!(part, Part::Api(_) if self.postgres));
            faults.extend(go_by_another.flat_map(|part| [1, -1].map(|hours| Fault::ClockStep(*part, hours))));
        }
        let store = if self.postgres { Disk::Postgres } else { Disk::Sqlite };
        let disks = [(self.store_disk, store), (self.broker_disk, Disk::Broker)];
        faults.extend(disks.into_iter().filter(|(there, _)| *there).map(|(_, disk)| Fault::DiskFull(disk)));
        faults
    }

    fn parts(self) -> Vec<Part> {
        let broker = (self.broker > BrokerAccess::Spared).then_some(Part::Broker);
        let store = self.postgres.then_some(Part::Store);
        let proxy = self.proxy.then_some(Part::Proxy);
        let ours = (0..self.apis).map(Part::Api).chain((0..self.workers).map(Part::Worker));
        ours.chain(broker).chain(store).chain(proxy).collect()
    }

    fn line_faults(self) -> impl Iterator<Item = Fault> {
        let store = self.postgres.then_some(Line::ApiStore);
        let lines = [Line::ClientApi, Line::ApiBroker, Line::WorkerBroker].into_iter().chain(store);
        lines.flat_map(|line| TROUBLES.map(|trouble| Fault::Line(line, trouble)))
    }
}

/// What `rabbitmqctl` does, and puts right again.
const CONTROLLED: [BrokerFault; 3] = [BrokerFault::CloseConnections, BrokerFault::MemoryAlarm, BrokerFault::DiskAlarm];

const OWNED: [BrokerFault; 11] = [
    BrokerFault::Purge,
    BrokerFault::Delete,
    BrokerFault::DeleteAndKill,
    BrokerFault::DeclareOtherwise,
    BrokerFault::CloseConnections,
    BrokerFault::ChangePassword,
    BrokerFault::MemoryAlarm,
    BrokerFault::DiskAlarm,
    BrokerFault::Repeat,
    BrokerFault::Forge,
    BrokerFault::Garbage,
];

const TROUBLES: [Trouble; 9] = [
    Trouble::Cut,
    Trouble::Gone,
    Trouble::Freeze,
    Trouble::FreezeOneWay(Way::There),
    Trouble::FreezeOneWay(Way::Back),
    Trouble::Delay(Duration::from_millis(150)),
    Trouble::HalfClose(Way::There),
    Trouble::HalfClose(Way::Back),
    Trouble::Drip,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ALL: Shape = Shape {
        apis: 2,
        workers: 2,
        spare_worker: true,
        broker: BrokerAccess::Owned,
        postgres: true,
        proxy: true,
        lines: true,
        networks: true,
        store_disk: true,
        broker_disk: true,
        clocks: true,
    };

    #[test]
    fn no_fault_comes_twice_and_each_has_its_words() {
        let faults = ALL.faults();
        let words: HashSet<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!((faults.iter().collect::<HashSet<_>>().len(), words.len()), (faults.len(), faults.len()));
    }

    #[test]
    fn a_full_disk_is_that_of_the_store_there_is() {
        let full = |postgres| Shape { postgres, broker_disk: false, ..ALL }.faults();
        let disks = |faults: Vec<Fault>| faults.into_iter().filter(|fault| matches!(fault, Fault::DiskFull(_)));
        assert_eq!(disks(full(true)).collect::<Vec<_>>(), [Fault::DiskFull(Disk::Postgres)]);
        assert_eq!(disks(full(false)).collect::<Vec<_>>(), [Fault::DiskFull(Disk::Sqlite)]);
    }

    #[test]
    fn what_a_system_has_not_is_not_harmed() {
        let bare = Shape {
            broker: BrokerAccess::Spared,
            postgres: false,
            proxy: false,
            lines: false,
            networks: false,
            store_disk: false,
            broker_disk: false,
            ..ALL
        };
        for fault in bare.faults() {
            assert!(matches!(fault.subject(), Subject::Apis | Subject::Workers), "{fault}");
        }
        let controlled = Shape { broker: BrokerAccess::Controlled, ..bare }.faults();
        assert!(controlled.contains(&Fault::Kill(Part::Broker)) && controlled.contains(&Fault::Broker(CONTROLLED[0])));
        assert!(!controlled.contains(&Fault::Broker(BrokerFault::Purge)), "its queues are not ours");
        let without_postgres = Shape { postgres: false, ..ALL }.faults();
        let at_the_store = |fault: &&Fault| {
            matches!(fault, Fault::Line(Line::ApiStore, _)) || matches!(fault, Fault::Kill(Part::Store))
        };
        assert_eq!(without_postgres.iter().filter(at_the_store).count(), 0);
    }

    /// Whoever reads of a fault can give its words to `--only`.
    #[test]
    fn every_name_stands_in_the_documents() {
        // A name may be broken where a line ends.
        let page = include_str!("../../../docs/reliability.md").replace('\n', " ");
        let (_, section) = page.split_once("### Faults").unwrap();
        let (section, _) = section.split_once("### ").unwrap();
        let told: HashSet<_> = section.split('`').skip(1).step_by(2).collect();
        let mut names = HashSet::new();
        for fault in [true, false].into_iter().flat_map(|postgres| Shape { postgres, ..ALL }.faults()) {
            let name = fault.name();
            match name.split_once(": ") {
                Some((what, whom)) => names.extend([what.to_owned(), whom.to_owned()]),
                None => drop(names.insert(name)),
            }
        }
        names.insert("--only WORDS".into());
        names.insert("--clocks".into());
        assert_eq!(told, names.iter().map(String::as_str).collect());
    }
}
