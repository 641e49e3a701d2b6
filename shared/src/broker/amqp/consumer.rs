//! Taking: each subscription is a task with a channel of its own, made afresh as often as it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::{BoxFuture, ready};
use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::DEADLINE;
use super::acks::Outstanding;
use super::backoff::Backoff;
use super::codec::{self, short};
use super::connection::{Connection, Failed, shown, with_way_out, within};
use super::declare::{Declarations, Refusal, close, connected, make};
use crate::broker::{Acknowledger, Delivery, Receipt, Receipts, Subscription, UNREADABLE};

/// A queue that is not there for so long is worth a word: the API makes it when a worker has announced itself.
const PATIENCE: Duration = Duration::from_secs(5);
/// A worker waits for a queue that the API has not made yet: not for long.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// How much an automatic subscription holds. It acknowledges by itself what it hands on, since with AMQP's own
/// `no_ack` nothing would bound what lapin holds.
const AUTOMATIC_PREFETCH: u16 = 1_000;
/// How often a subscription that hears nothing asks whether there is nothing.
const LOOK: Duration = Duration::from_secs(15);
/// Acknowledgements wait for that answer.
const ASK_DEADLINE: Duration = Duration::from_secs(2);
/// So many deliveries are handed on in one turn.
const BATCH: usize = 256;
/// So many acknowledgements are put together.
const ACK_BATCH: usize = 1_024;

/// The task of one subscription.
#[derive(Debug)]
pub(super) struct ConsumeTask {
    pub(super) subscription: Subscription,
    pub(super) current: watch::Receiver<Option<Arc<Connection>>>,
    pub(super) declarations: Arc<Declarations>,
    /// `None` once the subscriber has all that it will ever get.
    pub(super) deliveries: Option<mpsc::Sender<Delivery>>,
    pub(super) attached: watch::Sender<bool>,
    pub(super) stop: CancellationToken,
    pub(super) gone: CancellationToken,
    pub(super) closing: CancellationToken,
}

/// Why a channel was left.
enum Left {
    /// The subscription is over.
    Done,
    /// The queue, the channel or the connection is not there any more.
    Lost(String),
}

pub(super) fn prefetch(receipts: Receipts) -> u16 {
    match receipts {
        // None at all would mean no bound.
        Receipts::Manual { prefetch } => prefetch.max(1),
        Receipts::Automatic => AUTOMATIC_PREFETCH,
    }
}

impl ConsumeTask {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(SHORTEST_WAIT, LONGEST_WAIT);
        let mut told = Told::default();
        while let Some(connection) = self.connection().await {
            let left = self.attach(&connection, &mut backoff, &mut told).await;
            self.attached.send_replace(false);
            let Left::Lost(reason) = left else { return };
            if connection.is_open() {
                self.tell_once(&reason, &mut told);
            }
            let over = self.over();
            let wait = tokio::time::sleep(backoff.next(fastrand::f64()));
            tokio::select! {
                () = over => return,
                () = wait => {}
            }
        }
    }

    /// Ends when there is nothing to take for any more.
    fn over(&self) -> impl Future<Output = ()> + use<> {
        let (stop, gone, closing) = (self.stop.clone(), self.gone.clone(), self.closing.clone());
        async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = gone.cancelled() => {}
                () = closing.cancelled() => {}
            }
        }
    }

    /// Ends when nobody is there to take or to acknowledge.
    async fn left_alone(&self) {
        tokio::select! {
            () = self.gone.cancelled() => {}
            () = self.closing.cancelled() => {}
        }
    }

    async fn connection(&mut self) -> Option<Arc<Connection>> {
        let over = self.over();
        tokio::select! {
            biased;
            () = over => None,
            connection = connected(&mut self.current) => connection,
        }
    }

    /// Consumes on a fresh channel until that ends.
    async fn attach(&mut self, connection: &Connection, backoff: &mut Backoff, told: &mut Told) -> Left {
        let opening = tokio::select! {
            opening = connection.channel() => opening,
            () = self.over() => return Left::Done,
        };
        let channel = match opening {
            Ok(channel) => channel,
            Err(reason) => {
                connection.give_up(&reason);
                return Left::Lost(reason);
            }
        };
        let consumer = tokio::select! {
            consumer = self.consume(&channel) => consumer,
            () = self.over() => {
                close(channel).await;
                return Left::Done;
            }
        };
        let left = match consumer {
            Ok(consumer) => {
                backoff.reset();
                self.declarations.is_taken(&self.subscription.queue);
                if std::mem::take(told).said.is_some() {
                    info!(queue = %self.subscription.queue, "taking from the queue now");
                }
                self.attached.send_replace(true);
                Attached::new(self, connection, &channel).run(consumer).await
            }
            Err(reason) => Left::Lost(reason),
        };
        close(channel).await;
        left
    }

    async fn consume(&self, channel: &Channel) -> Result<Consumer, String> {
        let queue = short("the queue", &self.subscription.queue).map_err(|error| error.to_string())?;
        let (_, failure) = make(channel, &self.subscription.declare).await;
        if let Some(failure) = failure {
            return Err(failure.to_string());
        }
        let prefetch = prefetch(self.subscription.receipts);
        let limiting = within(channel.basic_qos(prefetch, BasicQosOptions::default())).await;
        limiting.map_err(|failed| failed.to_string())?;
        // A fresh tag each time: 3.10 stumbles over one that was cancelled while deliveries were under way.
        let tag = ShortString::from(format!("buzzer-{:016x}", fastrand::u64(..)));
        let consumer = channel.basic_consume(queue, tag, BasicConsumeOptions::default(), FieldTable::default());
        let consumer = within(consumer).await;
        match &consumer {
            Err(Failed::Silent) => self.declarations.nothing_taken(&self.subscription.queue),
            Err(Failed::Refused(reason)) if reason.starts_with("NOT_FOUND") => self.declarations.is_missing(),
            _ => {}
        }
        consumer.map_err(|failed| failed.to_string())
    }

    fn tell_once(&self, reason: &str, told: &mut Told) {
        let queue = &self.subscription.queue;
        let is_missing = reason.starts_with("NOT_FOUND");
        let refusal = reason.starts_with("ACCESS_REFUSED").then(|| self.declarations.is_refused(queue));
        if let Some(Refusal::Still(queues)) = &refusal {
            let (queues, reason) = (queues.join(", "), with_way_out(reason));
            warn!(queues, reason, "taking from these queues is refused still; trying again until it works");
            return;
        }
        if told.said.as_deref() == Some(reason) || (is_missing && !told.patience_is_over()) {
            return;
        }
        if is_missing {
            info!(%queue, "there is no such queue yet, an API makes it; trying again until it is there");
        } else if refusal == Some(Refusal::Another) {
            debug!(%queue, reason, "taking from this queue too is refused");
        } else {
            let reason = with_way_out(reason);
            warn!(%queue, reason, "taking from the queue failed; trying again until it works");
        }
        told.said = Some(reason.into());
    }
}

/// What was said of a subscription that takes nothing.
#[derive(Debug, Default)]
struct Told {
    said: Option<String>,
    missing_since: Option<Instant>,
}

impl Told {
    fn patience_is_over(&mut self) -> bool {
        self.missing_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE
    }
}

/// A subscription while a channel feeds it.
struct Attached<'a> {
    task: &'a mut ConsumeTask,
    connection: &'a Connection,
    channel: &'a Channel,
    /// Since the last look something came, or there was no room for it.
    fed: bool,
    /// At the last look there was something that should have come.
    starving: bool,
    outstanding: Outstanding,
    acknowledger: Arc<ChannelAcknowledger>,
    acknowledged: mpsc::UnboundedReceiver<Said>,
}

impl<'a> Attached<'a> {
    fn new(task: &'a mut ConsumeTask, connection: &'a Connection, channel: &'a Channel) -> Self {
        let (sender, acknowledged) = mpsc::unbounded_channel();
        let acknowledger = Arc::new(ChannelAcknowledger(sender));
        let outstanding = Outstanding::default();
        Self { task, connection, channel, fed: true, starving: false, outstanding, acknowledger, acknowledged }
    }

    async fn run(mut self, mut consumer: Consumer) -> Left {
        let tag = consumer.tag();
        let mut look = tokio::time::interval(LOOK);
        let mut acks = Vec::with_capacity(ACK_BATCH);
        // Taken from the channel, with no room for it yet.
        let mut held: Option<Delivery> = None;
        let (mut stopping, mut ended) = (false, false);
        loop {
            tokio::select! {
                biased;
                () = self.task.left_alone() => {
                    let waiting = self.leave();
                    self.flush(tag).await;
                    // Not before: whoever waits may run what must not come again.
                    drop(waiting);
                    return Left::Done;
                }
                count = self.acknowledged.recv_many(&mut acks, ACK_BATCH) => {
                    if count > 0 {
                        self.settle(&mut acks).await;
                    }
                }
                () = self.task.stop.cancelled(), if !stopping => {
                    stopping = true;
                    self.task.attached.send_replace(false);
                    let canceled = self.channel.basic_cancel(tag.clone(), BasicCancelOptions::default());
                    if let Some(Err(reason)) = self.cancel(canceled).await {
                        return Left::Lost(reason);
                    }
                }
                () = room(self.task.deliveries.as_ref()), if held.is_some() => {
                    held = held.and_then(|delivery| self.offer(delivery));
                }
                first = consumer.next(), if held.is_none() && !ended => {
                    // What has come with it is handed on in the same turn: a turn costs as much as a delivery.
                    let mut next = Some(first);
                    let mut left = BATCH;
                    while let Some(delivery) = next {
                        match delivery {
                            Some(Ok(delivery)) => held = self.hand_on(delivery),
                            Some(Err(error)) => return Left::Lost(shown(&error)),
                            None if stopping => ended = true,
                            None => return Left::Lost("the broker ended the subscription".into()),
                        }
                        left -= 1;
                        let more = held.is_none() && !ended && left > 0;
                        next = if more { consumer.next().now_or_never() } else { None };
                    }
                }
                _ = look.tick(), if !stopping => {
                    self.declare_again().await;
                    if self.is_forgotten().await {
                        return Left::Lost("the queue has messages, and the broker sends none".into());
                    }
                }
            }
            if ended && held.is_none() {
                return self.linger().await;
            }
        }
    }

    /// Makes what the subscription declares once more: somebody may have deleted the exchange that it is bound to, and
    /// nothing tells.
    async fn declare_again(&self) {
        let declare = &self.task.subscription.declare;
        if declare.is_empty() {
            return;
        }
        let declaring = async {
            let channel = self.connection.channel().await.ok()?;
            let (_, failure) = make(&channel, declare).await;
            close(channel).await;
            failure
        };
        if let Ok(Some(reason)) = timeout(ASK_DEADLINE, declaring).await {
            debug!(queue = %self.task.subscription.queue, %reason, "what a subscription needs could not be made again");
        }
    }

    /// Whether the broker has forgotten this consumer: twice in a row there were messages for it, none came, and it had
    /// room. RabbitMQ 3.10 does so to one whose queue was deleted and made again at once.
    async fn is_forgotten(&mut self) -> bool {
        let full = self.outstanding.count() >= prefetch(self.task.subscription.receipts).into();
        let hungry = !std::mem::replace(&mut self.fed, full) && !full;
        let starving = hungry && self.has_messages().await;
        std::mem::replace(&mut self.starving, starving) && starving
    }

    /// Whether messages wait in the queue. On a channel of its own, which dies when the queue is gone.
    async fn has_messages(&self) -> bool {
        let Ok(queue) = short("the queue", &self.task.subscription.queue) else { return false };
        let asking = async {
            let channel = self.connection.channel().await.ok()?;
            let options = QueueDeclareOptions::default().passive();
            let found = channel.queue_declare(queue, options, FieldTable::default()).await.ok();
            close(channel).await;
            found.map(|queue| queue.message_count())
        };
        matches!(timeout(ASK_DEADLINE, asking).await, Ok(Some(count)) if count > 0)
    }

    /// The broker's answer to a cancel. Acknowledgements wait meanwhile, which is a round trip.
    async fn cancel(&self, canceled: impl Future<Output = lapin::Result<()>>) -> Option<Result<(), String>> {
        tokio::select! {
            answer = within(canceled) => Some(answer.map_err(|failed| failed.to_string())),
            () = self.task.gone.cancelled() => None,
        }
    }

    /// After a stop: nothing more comes, but acknowledgements go out as long as somebody has the subscriber.
    async fn linger(mut self) -> Left {
        self.task.deliveries = None;
        let mut acks = Vec::with_capacity(ACK_BATCH);
        let mut look = tokio::time::interval(DEADLINE);
        loop {
            tokio::select! {
                biased;
                () = self.task.left_alone() => {
                    drop(self.leave());
                    return Left::Done;
                }
                count = self.acknowledged.recv_many(&mut acks, ACK_BATCH) => {
                    if count > 0 {
                        self.settle(&mut acks).await;
                    }
                }
                _ = look.tick() => if !self.channel.status().connected() {
                    return Left::Done;
                }
            }
        }
    }

    /// Sends what was acknowledged before the end. The channel is closed next, behind these frames. Returns who waits
    /// until the broker has them.
    fn leave(&mut self) -> Vec<oneshot::Sender<()>> {
        let mut acks: Vec<_> = std::iter::from_fn(|| self.acknowledged.try_recv().ok()).collect();
        self.send_acks(&mut acks)
    }

    /// Waits until a quorum queue has what was acknowledged. When it is behind by 32 acknowledgements, RabbitMQ keeps
    /// further ones in the channel, and forgets them with it (`rabbit_fifo_client:settle`). A cancel is answered once
    /// the queue has caught up. Where it was cancelled before, that says nothing: of a subscription that was stopped,
    /// what was acknowledged in its last moment may come again.
    async fn flush(&self, tag: ShortString) {
        let canceled = self.channel.basic_cancel(tag, BasicCancelOptions::default());
        // Without an answer they come again, as after any loss of the line.
        let _ = timeout(ASK_DEADLINE, canceled).await;
    }

    /// Decodes a delivery and offers it to the subscriber; gives it back when that has no room.
    fn hand_on(&mut self, delivery: lapin::message::Delivery) -> Option<Delivery> {
        let tag = delivery.delivery_tag;
        self.outstanding.delivered(tag);
        self.fed = true;
        let (message, redeliveries) = codec::message(&delivery.properties, delivery.data, delivery.redelivered);
        if let Some(reason) = message.r#type.strip_prefix(UNREADABLE) {
            let queue = &self.task.subscription.queue;
            warn!(%queue, reason, "a message came that nobody of ours can have sent: who else may write to this queue?");
        }
        let acknowledger: Arc<dyn Acknowledger> = match self.task.subscription.receipts {
            Receipts::Manual { .. } => Arc::clone(&self.acknowledger) as Arc<dyn Acknowledger>,
            Receipts::Automatic => {
                self.acknowledger.acknowledge(tag);
                Arc::new(Acknowledged)
            }
        };
        self.offer(Delivery { message, redeliveries, receipt: Receipt::new(tag, acknowledger) })
    }

    /// Puts a delivery into the subscriber's hands; gives it back when these are full.
    fn offer(&self, delivery: Delivery) -> Option<Delivery> {
        match self.task.deliveries.as_ref()?.try_send(delivery) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => None,
            Err(mpsc::error::TrySendError::Full(delivery)) => Some(delivery),
        }
    }

    /// Sends acknowledgements, and tells whoever waits for it that the broker has them. RabbitMQ confirms none of
    /// them, but takes what comes on a channel in its order: once it answers something else, it has taken them, as long
    /// as they are not more than a queue may be behind by (see [`Self::flush`]).
    async fn settle(&mut self, acks: &mut Vec<Said>) {
        let waiting = self.send_acks(acks);
        if waiting.is_empty() {
            return;
        }
        let prefetch = prefetch(self.task.subscription.receipts);
        let answer = within(self.channel.basic_qos(prefetch, BasicQosOptions::default()));
        tokio::select! {
            // When it fails the line is gone, and nobody will know.
            _ = answer => {}
            () = self.task.gone.cancelled() => {}
        }
        for waiting in waiting {
            let _gone = waiting.send(());
        }
    }

    /// Sends acknowledgements. Returns who waits until the broker has them.
    fn send_acks(&mut self, acks: &mut Vec<Said>) -> Vec<oneshot::Sender<()>> {
        let (mut tags, mut waiting) = (Vec::with_capacity(acks.len()), Vec::new());
        for ack in acks.drain(..) {
            match ack {
                Said::Acknowledged(tag) => tags.push(tag),
                Said::Settle(sender) => waiting.push(sender),
            }
        }
        for ack in self.outstanding.acknowledge(&tags) {
            let options = BasicAckOptions { multiple: ack.multiple };
            // One poll puts the frame into lapin's line; that it was written is not worth waiting for. When the
            // channel is gone, so are its deliveries, and the stream says so.
            let _ = self.channel.basic_ack(ack.tag, options).now_or_never();
        }
        waiting
    }
}

/// Ends when the subscriber has room, or is gone.
async fn room(deliveries: Option<&mpsc::Sender<Delivery>>) {
    if let Some(deliveries) = deliveries {
        // Nobody else sends, so the room stays there. Whether it is gone, the next offer says.
        let _ = deliveries.reserve().await;
    }
}

/// What a taker says about the deliveries of one channel.
#[derive(Debug)]
pub(super) enum Said {
    Acknowledged(u64),
    /// To be told once the broker has taken all that was acknowledged before.
    Settle(oneshot::Sender<()>),
}

/// Takes what is said about one channel's deliveries. Bounded by the prefetch; deaf once the channel is gone.
#[derive(Debug)]
pub(super) struct ChannelAcknowledger(pub(super) mpsc::UnboundedSender<Said>);

impl Acknowledger for ChannelAcknowledger {
    fn acknowledge(&self, tag: u64) {
        // The channel is gone: the message comes again.
        let _ = self.0.send(Said::Acknowledged(tag));
    }

    fn settled(&self) -> BoxFuture<'static, ()> {
        let (settle, settled) = oneshot::channel();
        let sent = self.0.send(Said::Settle(settle));
        Box::pin(async move {
            if sent.is_ok() {
                let _ = timeout(DEADLINE, settled).await;
            }
        })
    }
}

/// For what was acknowledged as it went out.
#[derive(Debug)]
struct Acknowledged;

impl Acknowledger for Acknowledged {
    fn acknowledge(&self, _: u64) {}

    fn settled(&self) -> BoxFuture<'static, ()> {
        Box::pin(ready(()))
    }
}
