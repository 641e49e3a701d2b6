//! Queues that RabbitMQ brought back damaged.
//!
//! RabbitMQ 3.10, killed within some two seconds after a quorum queue was declared, may bring that queue back such that
//! it is declared gladly, and then confirms nothing and gives nothing out, for ever. Only deleting it helps. What was
//! in it is lost either way; the store sends it again.
//!
//! A queue of a cluster that has lost its majority is as silent, and must not be deleted: so this is done only to
//! queues that this process made, and not long ago. Others are told of.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use lapin::options::{BasicGetOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::codec::short;
use super::connection::{Address, Connection, Errand, Failed, within};
use super::declare::Declarations;

/// A queue was silent for the deadline of one operation when it is noted; so much longer it may take. Most that is slow
/// for once is over by then.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks after the queues that this process declares.
#[derive(Debug)]
pub(super) struct Healer {
    pub(super) declarations: Arc<Declarations>,
    pub(super) address: Address,
    /// The process's, as RabbitMQ shows it.
    pub(super) name: String,
    pub(super) closed: CancellationToken,
}

/// What came of one question to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Answered,
    /// No answer within the deadline.
    Silent,
    /// Not possible.
    Failed,
}

impl Healer {
    pub(super) async fn run(self) {
        let healing = async {
            loop {
                self.declarations.fell_silent().await;
                tokio::time::sleep(PATIENCE).await;
                let queues = self.declarations.take_silent();
                if queues.is_empty() {
                    continue;
                }
                if let Err(reason) = self.look_at(queues).await {
                    info!(reason, "queues that do not answer could not be looked at");
                }
            }
        };
        self.closed.run_until_cancelled(healing).await;
    }

    /// On a connection of its own, since whatever touches a stuck queue gets stuck as well.
    async fn look_at(&self, queues: HashSet<Arc<str>>) -> Result<(), String> {
        let opened = Errand::open(&self.address, &format!("{} probe", self.name)).await;
        let connection = opened.map_err(|unopened| unopened.to_string())?;
        let looking = queues.iter().map(async |queue| {
            if is_stuck(probe(&connection, queue).await) {
                self.heal(&connection, queue).await;
            }
        });
        // At once: after a crash there may be many, and each costs a deadline.
        join_all(looking).await;
        Ok(())
    }

    async fn heal(&self, connection: &Connection, queue: &str) {
        if self.declarations.made_lately(queue) {
            self.replace(connection, queue).await;
        } else {
            warn!(
                queue,
                "the queue neither takes nor gives messages: if its cluster has a majority, and RabbitMQ crashed right \
                 after it was made, delete it; what was in it is sent again from the store"
            );
        }
    }

    async fn replace(&self, connection: &Connection, queue: &str) {
        warn!(
            queue,
            "the queue neither takes nor gives messages, as after a crash of RabbitMQ right after it was made: it is \
             deleted and made again, and what was in it is sent again from the store"
        );
        let deleting = async {
            let channel = connection.channel().await.map_err(Failed::Refused)?;
            let name = short("the queue", queue).map_err(|error| Failed::Refused(error.to_string()))?;
            within(channel.queue_delete(name, QueueDeleteOptions::default())).await
        };
        match deleting.await {
            Ok(_) => self.declarations.is_missing(),
            Err(reason) => warn!(queue, %reason, "the queue could not be deleted: delete it by hand"),
        }
    }
}

/// Whether the broker knows the queue and says that it is empty, whether that gives something out, and whether the
/// broker still answers.
async fn probe(connection: &Connection, queue: &str) -> [Asked; 3] {
    [look(connection, queue).await, take(connection, queue).await, look(connection, queue).await]
}

/// A slow broker is slow with everything: only a queue that is silent while the broker answers is stuck.
fn is_stuck(asked: [Asked; 3]) -> bool {
    asked == [Asked::Answered, Asked::Silent, Asked::Answered]
}

async fn look(connection: &Connection, queue: &str) -> Asked {
    let (Ok(queue), Ok(channel)) = (short("the queue", queue), connection.channel().await) else {
        return Asked::Failed;
    };
    let options = QueueDeclareOptions::default().passive();
    match within(channel.queue_declare(queue, options, FieldTable::default())).await {
        // What would be taken from it would be delivered once more, and counted.
        Ok(found) if found.message_count() > 0 => Asked::Failed,
        answer => asked(&answer),
    }
}

/// Takes a message, or hears that there is none. It is given back when the connection goes.
async fn take(connection: &Connection, queue: &str) -> Asked {
    let (Ok(queue), Ok(channel)) = (short("the queue", queue), connection.channel().await) else {
        return Asked::Failed;
    };
    asked(&within(channel.basic_get(queue, BasicGetOptions::default())).await)
}

fn asked<T>(answer: &Result<T, Failed>) -> Asked {
    match answer {
        Ok(_) => Asked::Answered,
        Err(Failed::Silent) => Asked::Silent,
        Err(Failed::Refused(_)) => Asked::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_queue_that_is_silent_while_the_broker_answers_is_stuck() {
        use Asked::{Answered, Failed, Silent};
        let all = [Answered, Silent, Failed];
        let combinations = all.into_iter().flat_map(|a| all.into_iter().flat_map(move |b| all.map(|c| [a, b, c])));
        let stuck: Vec<_> = combinations.filter(|asked| is_stuck(*asked)).collect();
        assert_eq!(stuck, [[Answered, Silent, Answered]]);
    }
}
