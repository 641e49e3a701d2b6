//! Does what the schedule says, and puts it right again.

use std::time::Duration;

use tokio::time::sleep;

use super::fault::{BrokerFault, Disk, Fault, Line, Part};
use super::messages::Messages;
use crate::ground::disk::SmallDisk;
use crate::ground::postgres::Postgres;
use crate::ground::rabbitmq::RabbitMq;
use crate::ground::{Broker, Ground, GroundError, Service};
use crate::ledger::{Entry, Ledger};

/// A worker that is killed right after its start has begun to connect by then.
const JUST_STARTED: Duration = Duration::from_millis(250);
/// So little memory that RabbitMQ has more at once, and what it may have otherwise.
const LITTLE_MEMORY: &str = "0.00001";
const ENOUGH_MEMORY: &str = "0.4";
/// More than any disk has free, and what is enough otherwise.
const MUCH_DISK: &str = "1000000GB";
const LITTLE_DISK: &str = "50MB";

/// The hand of the nemesis, on a system.
#[derive(Debug, Clone, Copy)]
pub struct Hand<'a> {
    pub ground: &'a Ground,
    pub ledger: &'a Ledger,
}

impl Hand<'_> {
    /// Does it.
    ///
    /// # Errors
    /// When the system cannot be harmed so: then it is not as it was thought to be.
    pub async fn strike(self, fault: Fault) -> Result<(), GroundError> {
        match fault {
            Fault::Kill(part) | Fault::KillTwice(part) => self.kill(part),
            Fault::Freeze(part) => self.freeze(part),
            Fault::Stop(part) => self.stop(part).await?,
            Fault::RollApis => {
                for at in 0..self.ground.apis.len() {
                    self.stop(Part::Api(at)).await?;
                    self.start(Part::Api(at)).await?;
                }
            }
            Fault::RollWorkers => {
                for at in 0..self.ground.workers.len() {
                    self.stop(Part::Worker(at)).await?;
                    self.start(Part::Worker(at)).await?;
                }
            }
            Fault::ScaleUp => self.ground.spare.start()?,
            Fault::ScaleDown => {
                for at in 1..self.ground.workers.len() {
                    self.stop(Part::Worker(at)).await?;
                }
            }
            Fault::Line(line, trouble) => {
                for proxy in self.ground.line(line) {
                    proxy.disturb(trouble);
                }
            }
            Fault::Broker(fault) => self.strike_broker(fault).await?,
            Fault::DiskFull(disk) => self.disk(disk).map_or(Ok(()), SmallDisk::fill)?,
            Fault::ClockStep(part, hours) => self.service(part).map_or(Ok(()), |service| service.step_clock(hours))?,
        }
        Ok(())
    }

    /// Puts it right again. Answers once the part is there; that all works is for others to find out.
    ///
    /// # Errors
    /// When a part does not come back.
    pub async fn heal(self, fault: Fault) -> Result<(), GroundError> {
        match fault {
            Fault::Kill(part) | Fault::Stop(part) => self.start(part).await?,
            Fault::KillTwice(part) => {
                self.start(part).await?;
                if let Part::Worker(_) = part {
                    sleep(JUST_STARTED).await;
                }
                self.kill(part);
                self.start(part).await?;
            }
            Fault::Freeze(part) => self.thaw(part),
            Fault::RollApis | Fault::RollWorkers => {}
            Fault::ScaleUp => {
                let ended = self.ground.spare.stop().await?;
                self.note_end(Part::Worker(self.ground.workers.len()), ended);
            }
            Fault::ScaleDown => {
                for at in 1..self.ground.workers.len() {
                    self.start(Part::Worker(at)).await?;
                }
            }
            Fault::Line(line, _) => {
                for proxy in self.ground.line(line) {
                    proxy.mend();
                }
            }
            Fault::Broker(fault) => self.heal_broker(fault).await?,
            Fault::ClockStep(part, _) => self.service(part).map_or(Ok(()), |service| service.step_clock(0))?,
            Fault::DiskFull(disk) => {
                self.disk(disk).map_or(Ok(()), SmallDisk::make_room)?;
                // RabbitMQ's own log ends when it cannot be written, and the queues with it, though the node goes on
                // and takes connections. Only a restart of RabbitMQ mends that.
                if disk == Disk::Broker {
                    self.stop(Part::Broker).await?;
                    self.start(Part::Broker).await?;
                }
            }
        }
        Ok(())
    }

    /// Starts again what has ended by itself, and writes that down: nothing should.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn revive(self) -> Result<(), GroundError> {
        let apis = self.ground.apis.iter().enumerate().map(|(at, api)| (Part::Api(at), api));
        let workers = self.ground.workers.iter().enumerate().map(|(at, worker)| (Part::Worker(at), worker));
        for (part, service) in apis.chain(workers) {
            if let Some(status) = service.ended() {
                self.ledger.write(Entry::Died { part, how: format!("ended by itself: {status}") });
                self.start(part).await?;
            }
        }
        Ok(())
    }

    fn service(&self, part: Part) -> Option<&Service> {
        match part {
            Part::Api(at) => self.ground.apis.get(at),
            Part::Worker(at) => self.ground.workers.get(at),
            Part::Broker | Part::Store => None,
        }
    }

    fn node(&self) -> Option<&RabbitMq> {
        match &self.ground.broker {
            Broker::Own { node, .. } => Some(&**node),
            Broker::Given(_) => None,
        }
    }

    fn disk(&self, disk: Disk) -> Option<&SmallDisk> {
        match disk {
            Disk::Store => self.ground.disks.store.as_ref(),
            Disk::Broker => self.ground.disks.broker.as_ref(),
        }
    }

    fn kill(&self, part: Part) {
        match part {
            Part::Broker => self.node().into_iter().for_each(RabbitMq::kill),
            Part::Store => self.ground.postgres.iter().for_each(Postgres::kill),
            Part::Api(_) | Part::Worker(_) => self.service(part).into_iter().for_each(Service::kill),
        }
    }

    fn freeze(&self, part: Part) {
        match part {
            Part::Broker => self.node().into_iter().for_each(RabbitMq::pause),
            Part::Store => self.ground.postgres.iter().for_each(Postgres::pause),
            Part::Api(_) | Part::Worker(_) => self.service(part).into_iter().for_each(Service::pause),
        }
    }

    fn thaw(&self, part: Part) {
        match part {
            Part::Broker => self.node().into_iter().for_each(RabbitMq::resume),
            Part::Store => self.ground.postgres.iter().for_each(Postgres::resume),
            Part::Api(_) | Part::Worker(_) => self.service(part).into_iter().for_each(Service::resume),
        }
    }

    async fn stop(&self, part: Part) -> Result<(), GroundError> {
        match (self.service(part), part) {
            (Some(service), _) => {
                let ended = service.stop().await?;
                self.note_end(part, ended);
            }
            (None, Part::Store) => {
                if let Some(postgres) = &self.ground.postgres {
                    postgres.stop().await?;
                }
            }
            (None, _) => {
                if let Some(node) = self.node() {
                    node.stop().await?;
                }
            }
        }
        Ok(())
    }

    /// Whoever is asked to stop ends well.
    fn note_end(&self, part: Part, ended: Option<std::process::ExitStatus>) {
        if let Some(status) = ended.filter(|status| !status.success()) {
            self.ledger.write(Entry::Died { part, how: format!("was asked to stop, and ended with {status}") });
        }
    }

    async fn start(&self, part: Part) -> Result<(), GroundError> {
        match part {
            Part::Api(at) => {
                self.ground.apis[at].start()?;
                self.ground.api_listens(at).await
            }
            Part::Worker(at) => self.ground.workers[at].start(),
            Part::Store => match &self.ground.postgres {
                Some(postgres) => postgres.start_again().await,
                None => Ok(()),
            },
            Part::Broker => match self.node() {
                Some(node) => node.start_again().await,
                None => Ok(()),
            },
        }
    }

    async fn strike_broker(self, fault: BrokerFault) -> Result<(), GroundError> {
        let Broker::Own { node, stranger, .. } = &self.ground.broker else { return Ok(()) };
        let messages = Messages { node, stranger, topology: &self.ground.topology };
        match fault {
            BrokerFault::Purge => messages.purge().await,
            BrokerFault::Delete => messages.delete().await,
            BrokerFault::DeleteAndKill => {
                messages.delete().await?;
                messages.made_again().await?;
                node.kill();
                Ok(())
            }
            BrokerFault::DeclareOtherwise => messages.declare_otherwise().await,
            BrokerFault::CloseConnections => done(node, &["close_all_connections", "by hand"]).await,
            BrokerFault::ChangePassword => {
                for user in self.users() {
                    done(node, &["change_password", &user, "another"]).await?;
                }
                done(node, &["close_all_connections", "by hand"]).await
            }
            BrokerFault::MemoryAlarm => done(node, &["set_vm_memory_high_watermark", LITTLE_MEMORY]).await,
            BrokerFault::DiskAlarm => done(node, &["set_disk_free_limit", MUCH_DISK]).await,
            BrokerFault::Repeat => messages.tap().await,
            BrokerFault::Forge => messages.forge().await,
            BrokerFault::Garbage => messages.garbage().await,
        }
    }

    async fn heal_broker(self, fault: BrokerFault) -> Result<(), GroundError> {
        let Broker::Own { node, stranger, .. } = &self.ground.broker else { return Ok(()) };
        let messages = Messages { node, stranger, topology: &self.ground.topology };
        match fault {
            BrokerFault::DeleteAndKill => node.start_again().await,
            // The API makes it again, as it should be.
            BrokerFault::DeclareOtherwise => messages.delete().await,
            BrokerFault::ChangePassword => {
                let password = node.url().password().unwrap_or_default().to_owned();
                for user in self.users() {
                    done(node, &["change_password", &user, &password]).await?;
                }
                Ok(())
            }
            BrokerFault::MemoryAlarm => done(node, &["set_vm_memory_high_watermark", ENOUGH_MEMORY]).await,
            BrokerFault::DiskAlarm => done(node, &["set_disk_free_limit", LITTLE_DISK]).await,
            BrokerFault::Repeat => messages.repeat().await,
            BrokerFault::Purge
            | BrokerFault::Delete
            | BrokerFault::CloseConnections
            | BrokerFault::Forge
            | BrokerFault::Garbage => Ok(()),
        }
    }

    /// The names that APIs and workers have for RabbitMQ.
    fn users(&self) -> Vec<String> {
        match &self.ground.broker {
            Broker::Own { node, worker, .. } => vec![node.url().username().to_owned(), worker.username().to_owned()],
            Broker::Given(_) => Vec::new(),
        }
    }
}

/// Runs `rabbitmqctl`.
async fn done(node: &RabbitMq, arguments: &[&str]) -> Result<(), GroundError> {
    node.ctl(arguments).await.map(drop)
}

/// Whether queues were made anew. RabbitMQ 3.10 damages a quorum queue that was made a second or two before it is killed:
/// that is a fault of its own, and no other is to bring it about by chance.
pub fn makes_queues(fault: Fault) -> bool {
    use BrokerFault::{DeclareOtherwise, Delete, DeleteAndKill};
    matches!(fault, Fault::Broker(Delete | DeleteAndKill | DeclareOtherwise))
        || matches!(fault, Fault::Line(Line::ApiBroker, _))
}
