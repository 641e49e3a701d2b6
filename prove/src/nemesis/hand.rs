//! Does what the schedule says, and puts it right again.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::fault::{BrokerFault, Fault, Line, Part};
use super::planted::Planted;
use crate::ground::{Ground, GroundError};
use crate::ledger::{Entry, Ledger};

/// A worker that is killed right after its start has begun to connect by then.
const JUST_STARTED: Duration = Duration::from_millis(250);
/// Whoever restarts one after the other waits so long for each: another fault may keep it from being there.
const ROLL_PATIENCE: Duration = Duration::from_secs(10);

/// The hand of the nemesis, on a system.
#[derive(Debug, Clone, Copy)]
pub struct Hand<'a> {
    pub ground: &'a dyn Ground,
    pub ledger: &'a Ledger,
}

impl Hand<'_> {
    /// Does it.
    ///
    /// # Errors
    /// When the system cannot be harmed so: then it is not as it was thought to be.
    pub async fn strike(self, fault: Fault) -> Result<(), GroundError> {
        match fault {
            Fault::Kill(part) | Fault::KillTwice(part) => self.ground.kill(part).await,
            Fault::Freeze(part) => self.ground.freeze(part).await,
            Fault::Stop(part) => self.stop(part).await,
            Fault::RollApis => self.roll(self.apis()).await,
            Fault::RollWorkers => self.roll(self.workers()).await,
            Fault::ScaleUp => self.ground.add_worker().await,
            Fault::ScaleDown => {
                for part in self.workers().skip(1) {
                    self.stop(part).await?;
                }
                Ok(())
            }
            Fault::Line(..) | Fault::CutOff(_) | Fault::Broker(_) | Fault::DiskFull(_) | Fault::ClockStep(..) => {
                for Planted { mark, is_confirmed } in self.ground.strike(fault).await? {
                    self.ledger.write(Entry::Planted { mark, is_confirmed });
                }
                Ok(())
            }
        }
    }

    /// Puts it right again. Answers once the part is there; that all works is for others to find out.
    ///
    /// # Errors
    /// When a part does not come back.
    pub async fn heal(self, fault: Fault) -> Result<(), GroundError> {
        match fault {
            Fault::Kill(part) | Fault::Stop(part) => self.start(part).await,
            Fault::KillTwice(part) => {
                self.start(part).await?;
                if let Part::Worker(_) = part {
                    sleep(JUST_STARTED).await;
                }
                self.ground.kill(part).await?;
                self.start(part).await
            }
            Fault::Freeze(part) => self.ground.thaw(part).await,
            Fault::RollApis => {
                for part in self.apis() {
                    self.ground.is_there(part).await?;
                }
                Ok(())
            }
            Fault::RollWorkers => Ok(()),
            Fault::ScaleUp => {
                let ended = self.ground.remove_worker().await?;
                self.note_end(Part::Worker(self.workers().count()), ended);
                Ok(())
            }
            Fault::ScaleDown => {
                for part in self.workers().skip(1) {
                    self.start(part).await?;
                }
                Ok(())
            }
            Fault::Line(..) | Fault::CutOff(_) | Fault::Broker(_) | Fault::DiskFull(_) | Fault::ClockStep(..) => {
                self.ground.heal(fault).await
            }
        }
    }

    /// Starts again what has ended by itself, and writes that down: nothing should.
    ///
    /// # Errors
    /// When it does not start.
    pub async fn revive(self) -> Result<(), GroundError> {
        for (part, how) in self.ground.ended().await? {
            self.ledger.write(Entry::Died { part, how: format!("ended by itself: {how}") });
            self.start(part).await?;
        }
        Ok(())
    }

    fn apis(&self) -> impl Iterator<Item = Part> + use<> {
        (0..self.ground.shape().apis).map(Part::Api)
    }

    fn workers(&self) -> impl Iterator<Item = Part> + use<> {
        (0..self.ground.shape().workers).map(Part::Worker)
    }

    /// Stops each and starts it again before the next.
    async fn roll(&self, parts: impl Iterator<Item = Part>) -> Result<(), GroundError> {
        for part in parts {
            self.stop(part).await?;
            self.ground.start(part).await?;
            // In time or not: healing waits for it.
            let _ = timeout(ROLL_PATIENCE, self.ground.is_there(part)).await;
        }
        Ok(())
    }

    async fn start(&self, part: Part) -> Result<(), GroundError> {
        self.ground.start(part).await?;
        self.ground.is_there(part).await
    }

    async fn stop(&self, part: Part) -> Result<(), GroundError> {
        let ended = self.ground.stop(part).await?;
        self.note_end(part, ended);
        Ok(())
    }

    /// Whoever is asked to stop ends well.
    fn note_end(&self, part: Part, ended: Option<String>) {
        if let Some(how) = ended {
            self.ledger.write(Entry::Died { part, how: format!("was asked to stop, and ended with {how}") });
        }
    }
}

/// Whether queues were made anew. RabbitMQ 3.10 damages a quorum queue that was made a second or two before it is killed:
/// that is a fault of its own, and no other is to bring it about by chance.
pub fn makes_queues(fault: Fault) -> bool {
    use BrokerFault::{DeclareOtherwise, Delete, DeleteAndKill};
    matches!(fault, Fault::Broker(Delete | DeleteAndKill | DeclareOtherwise))
        || matches!(fault, Fault::Line(Line::ApiBroker, _))
}

#[cfg(test)]
mod tests;
