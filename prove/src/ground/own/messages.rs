//! What an operator, or somebody who means harm, does to queues and messages.

use std::time::Duration;

use buzzer_shared::broker::Broker;
use buzzer_shared::broker::amqp::AmqpBroker;
use buzzer_shared::id::{RunId, WorkerId};
use buzzer_shared::message::{Outcome, RunResult};
use buzzer_shared::time::Time;
use buzzer_shared::topology::Topology;
use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueBindOptions, QueueDeclareOptions,
    QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::time::{Instant, sleep, timeout};
use url::Url;

use crate::ground::GroundError;
use crate::ground::rabbitmq::RabbitMq;
use crate::nemesis::planted::{self, Planted};
use crate::wait::eventually;
use crate::work::KINDS;

/// Has a copy of each outcome while it is there.
const TAP: &str = "buzzer-prove.tap";
/// So many are sent again at most.
const REPEATED: usize = 2_000;
/// How long somebody forges.
const FORGING: Duration = Duration::from_secs(2);
const NO_MESSAGE: Duration = Duration::from_millis(10);
/// Whoever does not confirm by then, may or may not have it.
const CONFIRM_LIMIT: Duration = Duration::from_secs(5);
/// For the API to make a queue again.
const AGAIN_LIMIT: Duration = Duration::from_secs(60);
/// The API makes a queue again at once: who wants to be first may have to try.
const TRIES: usize = 50;

/// The queues of one Buzzer on a node of ours.
#[derive(Debug, Clone, Copy)]
pub struct Messages<'a> {
    pub node: &'a RabbitMq,
    pub stranger: &'a Url,
    pub topology: &'a Topology,
}

impl Messages<'_> {
    /// Empties the queues of requests and of replies.
    pub async fn purge(self) -> Result<(), GroundError> {
        let connection = self.node.connect().await?;
        for queue in self.queues() {
            // One that is not there is empty. An error ends the channel.
            let channel = open(&connection).await?;
            let _ = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await;
        }
        close(connection).await;
        Ok(())
    }

    /// Deletes these queues.
    pub async fn delete(self, queues: &[String]) -> Result<(), GroundError> {
        let connection = self.node.connect().await?;
        for queue in queues {
            let channel = open(&connection).await?;
            let _ = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
        }
        close(connection).await;
        Ok(())
    }

    /// Waits until the queue of replies is there again.
    pub async fn made_again(self) -> Result<(), GroundError> {
        let connection = self.node.connect().await?;
        let name = self.topology.replies_queue();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        eventually("the queue of replies to be made again", AGAIN_LIMIT, async || {
            let channel = connection.create_channel().await.ok()?;
            channel.queue_declare((&*name).into(), passive, FieldTable::default()).await.ok()
        })
        .await?;
        close(connection).await;
        Ok(())
    }

    /// Puts a queue of another type in the place of the queue of replies.
    pub async fn declare_otherwise(self) -> Result<(), GroundError> {
        let connection = self.node.connect().await?;
        let name = self.topology.replies_queue();
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        for _ in 0..TRIES {
            let channel = open(&connection).await?;
            let _ = channel.queue_delete((&*name).into(), QueueDeleteOptions::default()).await;
            if channel.queue_declare((&*name).into(), durable, FieldTable::default()).await.is_ok() {
                break;
            }
        }
        close(connection).await;
        Ok(())
    }

    /// From now on, outcomes are copied.
    pub async fn tap(self) -> Result<(), GroundError> {
        let connection = self.node.connect().await?;
        let route = self.topology.outcome();
        self.listen_in(&connection, &[(&route.exchange, &route.key)]).await?;
        close(connection).await;
        Ok(())
    }

    /// Sends what was copied once more, in order, and again from the last to the first. As who sent it first: it is a
    /// repetition, no forgery.
    pub async fn repeat(self) -> Result<(), GroundError> {
        self.node.ctl(&["set_user_tags", self.node.url().username(), "administrator", "impersonator"]).await?;
        let connection = self.node.connect().await?;
        let channel = open(&connection).await?;
        let mut copies = Vec::new();
        while copies.len() < REPEATED
            && let Some(copy) = take(&channel).await?
        {
            copies.push(copy);
        }
        // Past the exchange, so that they are not copied once more.
        let queue = self.topology.replies_queue();
        for copy in copies.iter().chain(copies.iter().rev()) {
            publish(&channel, ("", &queue), copy.delivery.properties.clone(), &copy.delivery.data).await?;
        }
        self.forget_tap(&connection).await?;
        close(connection).await;
        Ok(())
    }

    /// Somebody who is no worker says of every job that goes out that it has succeeded.
    pub async fn forge(self) -> Result<Vec<Planted>, GroundError> {
        let connection = self.node.connect().await?;
        let routes: Vec<_> = kinds().map(|kind| self.topology.request(&kind)).collect();
        let routes: Vec<_> = routes.iter().map(|route| (&*route.exchange, &*route.key)).collect();
        self.listen_in(&connection, &routes).await?;
        let channel = open(&connection).await?;
        let stranger = AmqpBroker::connect(self.stranger.clone(), "stranger");
        let mut planted = Vec::new();
        let began = Instant::now();
        while began.elapsed() < FORGING {
            let Some(request) = take(&channel).await? else {
                sleep(NO_MESSAGE).await;
                continue;
            };
            let id = request.delivery.properties.message_id().as_ref().map(ToString::to_string);
            if let Some(run) = id.and_then(|id| id.parse::<RunId>().ok()) {
                let published = stranger.publish(self.topology.outcome(), forged(run).to_message()).await;
                planted.push(Planted { mark: planted::forged(run), is_confirmed: published.is_ok() });
            }
        }
        stranger.close().await;
        self.forget_tap(&connection).await?;
        close(connection).await;
        Ok(planted)
    }

    /// Puts into each queue what nobody can read. What comes to pulses and signals is not parked: it may be lost.
    pub async fn garbage(self) -> Result<Vec<Planted>, GroundError> {
        let connection = self.node.connect().await?;
        let channel = open(&connection).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(|error| unconfirmed(&error))?;
        let mut planted = Vec::new();
        for queue in self.queues() {
            for (mark, properties, body) in self.garbage_for(&queue) {
                let is_confirmed = publish_confirmed(&channel, &queue, properties, body).await?;
                planted.push(Planted { mark, is_confirmed });
            }
        }
        for queue in [self.topology.pulse_queue(), self.topology.signals_queue()] {
            for (_, properties, body) in self.garbage_for(&queue) {
                publish(&channel, ("", &queue), properties, body).await?;
            }
        }
        close(connection).await;
        Ok(planted)
    }

    /// What nobody can read, each with its mark: from nobody, and from a user who is believed.
    fn garbage_for(&self, queue: &str) -> [(String, BasicProperties, &'static [u8]); 5] {
        let url = self.node.url();
        let marked = |properties: BasicProperties, body: &'static [u8]| {
            let mark = format!("garbage {:016x} in {queue}", fastrand::u64(..));
            let mut headers = FieldTable::default();
            headers.insert(planted::HEADER.into(), AMQPValue::LongString(mark.as_str().into()));
            (mark, properties.with_headers(headers), body)
        };
        let named = |r#type: &str| BasicProperties::default().with_type(r#type.into());
        let believed = |r#type: &str| named(r#type).with_user_id(url.username().into());
        [
            (planted::bare(queue), BasicProperties::default(), b""),
            marked(BasicProperties::default(), b"\xff\xfe\x00"),
            marked(believed("buzzer.outcome.v1"), b"{"),
            marked(named("buzzer.request.v1"), b"[]"),
            marked(believed("buzzer.outcome.v99").with_message_id("?".into()), b"{}"),
        ]
    }

    /// The queues whose messages matter.
    pub fn queues(&self) -> Vec<String> {
        let requests = kinds().map(|kind| self.topology.requests_queue(&kind));
        requests.chain([self.topology.replies_queue()]).map(|queue| queue.to_string()).collect()
    }

    async fn listen_in(&self, connection: &Connection, routes: &[(&str, &str)]) -> Result<(), GroundError> {
        let channel = open(connection).await?;
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let failed = |error| GroundError::said("a queue to listen in", &error);
        channel.queue_declare(TAP.into(), durable, FieldTable::default()).await.map_err(failed)?;
        for (exchange, key) in routes {
            let options = QueueBindOptions::default();
            let bound =
                channel.queue_bind(TAP.into(), (*exchange).into(), (*key).into(), options, FieldTable::default());
            bound.await.map_err(failed)?;
        }
        Ok(())
    }

    async fn forget_tap(&self, connection: &Connection) -> Result<(), GroundError> {
        let channel = open(connection).await?;
        let deleted = channel.queue_delete(TAP.into(), QueueDeleteOptions::default()).await;
        deleted.map(drop).map_err(|error| GroundError::said("the queue to listen in", &error))
    }
}

fn kinds() -> impl Iterator<Item = buzzer_shared::kind::Kind> {
    KINDS.iter().filter_map(|kind| kind.parse().ok())
}

/// An outcome with the right job and dispatch, from nobody.
fn forged(run: RunId) -> Outcome {
    Outcome {
        run,
        worker: WorkerId::new(Time::from_millis(1)),
        started_at: None,
        told: Vec::new(),
        result: RunResult::Succeeded("\"forged\"".into()),
    }
}

async fn open(connection: &Connection) -> Result<Channel, GroundError> {
    connection.create_channel().await.map_err(|error| GroundError::said("a channel to RabbitMQ", &error))
}

async fn take(channel: &Channel) -> Result<Option<BasicGetMessage>, GroundError> {
    let taken = channel.basic_get(TAP.into(), BasicGetOptions { no_ack: true }).await;
    taken.map_err(|error| GroundError::said("the queue to listen in", &error))
}

async fn publish(
    channel: &Channel,
    (exchange, key): (&str, &str),
    properties: BasicProperties,
    body: &[u8],
) -> Result<(), GroundError> {
    let options = BasicPublishOptions::default();
    let published = channel.basic_publish(exchange.into(), key.into(), options, body, properties).await;
    published.map(drop).map_err(|error| GroundError::said("a message to RabbitMQ", &error))
}

/// Whether RabbitMQ has said that the queue has it. One after the other: where several are on their way, a message that
/// comes back may be taken for another.
async fn publish_confirmed(
    channel: &Channel,
    queue: &str,
    properties: BasicProperties,
    body: &[u8],
) -> Result<bool, GroundError> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let published = channel.basic_publish("".into(), queue.into(), options, body, properties).await;
    let confirmation = published.map_err(|error| unconfirmed(&error))?;
    // A damaged queue says nothing.
    let confirmed = timeout(CONFIRM_LIMIT, confirmation).await;
    Ok(matches!(confirmed, Ok(Ok(Confirmation::Ack(None)))))
}

fn unconfirmed(error: &lapin::Error) -> GroundError {
    GroundError::said("a message to RabbitMQ", error)
}

async fn close(connection: Connection) {
    // One that was closed by somebody else is closed.
    let _ = connection.close(200, "OK".into()).await;
}
