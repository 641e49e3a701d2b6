//! What happens to a system of our own, and how it is put right.

use std::process::ExitStatus;
use std::time::Duration;

use async_trait::async_trait;
use buzzer_shared::kind::Kind;

use super::messages::Messages;
use super::{Broker, LEASE, OwnSystem, Service};
use crate::ground::disk::SmallDisk;
use crate::ground::postgres::Postgres;
use crate::ground::rabbitmq::{self, RabbitMq};
use crate::ground::{Ground, GroundError, Make};
use crate::nemesis::fault::{BrokerAccess, BrokerFault, Disk, Fault, Part, Shape};
use crate::nemesis::planted::Planted;
use crate::proxy::Proxy;
use crate::wait::eventually;

/// So little memory that RabbitMQ has more at once, and what it may have otherwise.
const LITTLE_MEMORY: &str = "0.00001";
const ENOUGH_MEMORY: &str = "0.4";
/// More than any disk has free, and what is enough otherwise.
const MUCH_DISK: &str = "1000000GB";
const LITTLE_DISK: &str = "50MB";
/// A queue that is not back by then, after RabbitMQ is, does not come back.
const QUEUES_LIMIT: Duration = Duration::from_secs(10);

#[async_trait(?Send)]
impl Ground for OwnSystem {
    fn shape(&self) -> Shape {
        let broker = if self.node().is_some() { BrokerAccess::Owned } else { BrokerAccess::Spared };
        Shape {
            apis: self.apis.len(),
            workers: self.workers.len(),
            spare_worker: self.workers.len() > 1,
            broker,
            postgres: self.postgres.is_some(),
            proxy: false,
            lines: true,
            networks: false,
            store_disk: self.disks.store.is_some(),
            broker_disk: self.disks.broker.is_some(),
            clocks: self.clocks,
        }
    }

    fn doors(&self) -> Vec<String> {
        self.doors.iter().map(|door| format!("http://{}", door.address())).collect()
    }

    async fn every_door(&self) -> Result<Vec<String>, GroundError> {
        Ok(self.doors())
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn lease(&self) -> Duration {
        LEASE
    }

    fn skipped(&self) -> &[String] {
        &self.skipped
    }

    async fn make(&self) -> Result<Make, GroundError> {
        let broker = match self.node() {
            Some(node) => format!("RabbitMQ {}", node.version().await?),
            None => "a RabbitMQ that was given".into(),
        };
        let (store, version) = match &self.postgres {
            Some(postgres) => ("postgres", format!("PostgreSQL {}", postgres.version().await?)),
            None => ("sqlite", "SQLite".into()),
        };
        let versions = vec![format!("buzzer {}", env!("CARGO_PKG_VERSION")), broker, version];
        Ok(Make { store, versions })
    }

    async fn memory(&self) -> Vec<(usize, u64)> {
        self.apis.iter().enumerate().filter_map(|(at, api)| Some((at, api.memory()?))).collect()
    }

    async fn kill(&self, part: Part) -> Result<(), GroundError> {
        match part {
            Part::Broker => self.node().into_iter().for_each(RabbitMq::kill),
            Part::Store => self.postgres.iter().for_each(Postgres::kill),
            _ => self.service(part)?.kill(),
        }
        Ok(())
    }

    async fn freeze(&self, part: Part) -> Result<(), GroundError> {
        match part {
            Part::Broker => self.node().into_iter().for_each(RabbitMq::pause),
            Part::Store => self.postgres.iter().for_each(Postgres::pause),
            _ => self.service(part)?.pause(),
        }
        Ok(())
    }

    async fn thaw(&self, part: Part) -> Result<(), GroundError> {
        match part {
            Part::Broker => self.node().into_iter().for_each(RabbitMq::resume),
            Part::Store => self.postgres.iter().for_each(Postgres::resume),
            _ => self.service(part)?.resume(),
        }
        Ok(())
    }

    async fn stop(&self, part: Part) -> Result<Option<String>, GroundError> {
        match (part, self.node(), &self.postgres) {
            (Part::Broker, Some(node), _) => node.stop().await.map(|()| None),
            (Part::Store, _, Some(postgres)) => postgres.stop().await.map(|()| None),
            _ => Ok(unwell(self.service(part)?.stop().await?)),
        }
    }

    async fn start(&self, part: Part) -> Result<(), GroundError> {
        match (part, self.node(), &self.postgres) {
            (Part::Broker, Some(node), _) => node.start_again().await,
            (Part::Store, _, Some(postgres)) => postgres.start_again().await,
            _ => self.service(part)?.start(),
        }
    }

    async fn is_there(&self, part: Part) -> Result<(), GroundError> {
        match part {
            Part::Api(at) => self.api_listens(at).await,
            // Broker and store have answered when they were started.
            Part::Worker(_) | Part::Broker | Part::Store | Part::Proxy => Ok(()),
        }
    }

    async fn add_worker(&self) -> Result<(), GroundError> {
        self.spare.start()
    }

    async fn remove_worker(&self) -> Result<Option<String>, GroundError> {
        Ok(unwell(self.spare.stop().await?))
    }

    async fn strike(&self, fault: Fault) -> Result<Vec<Planted>, GroundError> {
        match fault {
            Fault::Line(line, trouble) => self.line(line).into_iter().for_each(|proxy| proxy.disturb(trouble)),
            Fault::Broker(at_broker) => return self.strike_broker(at_broker).await,
            Fault::DiskFull(disk) => self.disk(disk).map_or(Ok(()), SmallDisk::fill)?,
            Fault::ClockStep(part, hours) => self.service(part)?.step_clock(hours)?,
            _ => return Err(GroundError::Unfit(fault)),
        }
        Ok(Vec::new())
    }

    async fn heal(&self, fault: Fault) -> Result<(), GroundError> {
        match fault {
            Fault::Line(line, _) => {
                self.line(line).into_iter().for_each(Proxy::mend);
                Ok(())
            }
            Fault::Broker(at_broker) => self.heal_broker(at_broker).await,
            Fault::ClockStep(part, _) => self.service(part)?.step_clock(0),
            Fault::DiskFull(disk) => {
                self.disk(disk).map_or(Ok(()), SmallDisk::make_room)?;
                match disk {
                    Disk::Sqlite => Ok(()),
                    // It ends where it cannot write its own log.
                    Disk::Postgres => self.start(Part::Store).await,
                    Disk::Broker => self.restart_broker().await,
                }
            }
            _ => Err(GroundError::Unfit(fault)),
        }
    }

    async fn ended(&self) -> Result<Vec<(Part, String)>, GroundError> {
        let apis = self.apis.iter().enumerate().map(|(at, api)| (Part::Api(at), api));
        let workers = self.workers.iter().enumerate().map(|(at, worker)| (Part::Worker(at), worker));
        let ended = apis.chain(workers).filter_map(|(part, service)| Some((part, service.ended()?.to_string())));
        Ok(ended.collect())
    }

    async fn leave(&self, kinds: &[Kind]) -> Result<(), GroundError> {
        let Broker::Given(url) = &self.broker else { return Ok(()) };
        // They would make it again.
        self.apis.iter().chain(&self.workers).chain([&self.spare]).for_each(Service::kill);
        rabbitmq::forget(url, &self.topology, kinds).await
    }
}

impl OwnSystem {
    fn service(&self, part: Part) -> Result<&Service, GroundError> {
        let service = match part {
            Part::Api(at) => self.apis.get(at),
            Part::Worker(at) => self.workers.get(at),
            Part::Broker | Part::Store | Part::Proxy => None,
        };
        service.ok_or(GroundError::NoPart(part))
    }

    fn node(&self) -> Option<&RabbitMq> {
        match &self.broker {
            Broker::Own { node, .. } => Some(&**node),
            Broker::Given(_) => None,
        }
    }

    fn disk(&self, disk: Disk) -> Option<&SmallDisk> {
        match disk {
            Disk::Sqlite | Disk::Postgres => self.disks.store.as_ref(),
            Disk::Broker => self.disks.broker.as_ref(),
        }
    }

    /// RabbitMQ's own log ends when it cannot be written, and the queues with it, though the node goes on and takes
    /// connections. Only a restart mends that; and where not even that brings a queue back, it is deleted, by hand as
    /// docs/reliability.md has it.
    async fn restart_broker(&self) -> Result<(), GroundError> {
        self.stop(Part::Broker).await?;
        self.start(Part::Broker).await?;
        let Broker::Own { node, stranger, .. } = &self.broker else { return Ok(()) };
        let mut dead = Vec::new();
        let all_back = eventually("every queue to be back", QUEUES_LIMIT, async || {
            dead = node.dead_queues().await.ok()?;
            dead.is_empty().then_some(())
        });
        if all_back.await.is_err() {
            Messages { node, stranger, topology: &self.topology }.delete(&dead).await?;
        }
        Ok(())
    }

    async fn strike_broker(&self, fault: BrokerFault) -> Result<Vec<Planted>, GroundError> {
        let Broker::Own { node, stranger, .. } = &self.broker else { return Ok(Vec::new()) };
        let messages = Messages { node, stranger, topology: &self.topology };
        match fault {
            BrokerFault::Purge => messages.purge().await?,
            BrokerFault::Delete => messages.delete(&messages.queues()).await?,
            BrokerFault::DeleteAndKill => {
                messages.delete(&messages.queues()).await?;
                messages.made_again().await?;
                node.kill();
            }
            BrokerFault::DeclareOtherwise => messages.declare_otherwise().await?,
            BrokerFault::CloseConnections => done(node, &["close_all_connections", "by hand"]).await?,
            BrokerFault::ChangePassword => {
                for user in self.users() {
                    done(node, &["change_password", &user, "another"]).await?;
                }
                done(node, &["close_all_connections", "by hand"]).await?;
            }
            BrokerFault::MemoryAlarm => done(node, &["set_vm_memory_high_watermark", LITTLE_MEMORY]).await?,
            BrokerFault::DiskAlarm => done(node, &["set_disk_free_limit", MUCH_DISK]).await?,
            BrokerFault::Repeat => messages.tap().await?,
            BrokerFault::Forge => return messages.forge().await,
            BrokerFault::Garbage => return messages.garbage().await,
        }
        Ok(Vec::new())
    }

    async fn heal_broker(&self, fault: BrokerFault) -> Result<(), GroundError> {
        let Broker::Own { node, stranger, .. } = &self.broker else { return Ok(()) };
        let messages = Messages { node, stranger, topology: &self.topology };
        match fault {
            BrokerFault::DeleteAndKill => node.start_again().await,
            // The API makes it again, as it should be.
            BrokerFault::DeclareOtherwise => messages.delete(&messages.queues()).await,
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
        match &self.broker {
            Broker::Own { node, worker, .. } => vec![node.url().username().to_owned(), worker.username().to_owned()],
            Broker::Given(_) => Vec::new(),
        }
    }
}

/// Whoever is asked to stop ends well.
fn unwell(ended: Option<ExitStatus>) -> Option<String> {
    ended.filter(|status| !status.success()).map(|status| status.to_string())
}

/// Runs `rabbitmqctl`.
async fn done(node: &RabbitMq, arguments: &[&str]) -> Result<(), GroundError> {
    node.ctl(arguments).await.map(drop)
}
