//! Looking into a queue, on a connection of its own: so it is over with the connection, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::Channel;
use lapin::options::{BasicAckOptions, BasicGetOptions};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::DEADLINE;
use super::codec::{self, short};
use super::connection::{Address, Errand, Failed, within};
use super::consumer::{ChannelAcknowledger, Said};
use super::declare::Declarations;
use crate::broker::{Acknowledger, BrowseError, Browsed, Browsing, Delivery, Receipt};

/// No more is looked at once the bodies have so many bytes: it is all in memory.
const BYTES_MAX: usize = 64 << 20;
/// A broker that answers each question late would be asked for hours.
const LOOK_DEADLINE: Duration = Duration::from_secs(30);

/// Looks at the oldest messages of a queue, as RabbitMQ's pages show it by a connection called `name`.
pub(super) async fn browse(
    address: &Address,
    name: &str,
    declarations: &Declarations,
    queue: &Arc<str>,
    limit: u16,
) -> Result<Browsed, BrowseError> {
    let opened = Errand::open(address, name).await;
    let line = opened.map_err(|unopened| BrowseError::Away(unopened.to_string()))?;
    let channel = line.channel().await.map_err(BrowseError::Away)?;
    let (acknowledger, acknowledged) = mpsc::unbounded_channel();
    let acknowledger: Arc<dyn Acknowledger> = Arc::new(ChannelAcknowledger(acknowledger));
    let looking = look(&channel, queue, limit, &acknowledger);
    let seen = timeout(LOOK_DEADLINE, looking).await.unwrap_or(Err(Unseen::Failed(Failed::Silent)));
    let (deliveries, waiting) = match seen {
        Ok(seen) => seen,
        Err(Unseen::NoQueue) => return Err(BrowseError::NoQueue(Arc::clone(queue))),
        Err(Unseen::Failed(failed)) => {
            if matches!(failed, Failed::Silent) {
                declarations.nothing_taken(queue);
            }
            return Err(BrowseError::Away(failed.to_string()));
        }
    };
    Ok(Browsed::new(deliveries, waiting, Box::new(Open { line, channel, acknowledged })))
}

/// Why there is nothing to see.
enum Unseen {
    NoQueue,
    Failed(Failed),
}

/// The oldest messages, and how many wait with these.
async fn look(
    channel: &Channel,
    queue: &str,
    limit: u16,
    acknowledger: &Arc<dyn Acknowledger>,
) -> Result<(Vec<Delivery>, usize), Unseen> {
    let name = short("the queue", queue).map_err(|_| Unseen::NoQueue)?;
    let (mut deliveries, mut bytes, mut behind) = (Vec::new(), 0, 0);
    while deliveries.len() < limit.max(1).into() && bytes < BYTES_MAX {
        let got = match within(channel.basic_get(name.clone(), BasicGetOptions::default())).await {
            Ok(Some(got)) => got,
            Ok(None) => break,
            Err(Failed::Refused(reason)) if reason.starts_with("NOT_FOUND") => return Err(Unseen::NoQueue),
            Err(failed) => return Err(Unseen::Failed(failed)),
        };
        behind = got.message_count as usize;
        let got = got.delivery;
        bytes += got.data.len();
        let (message, redeliveries) = codec::message(&got.properties, got.data, got.redelivered);
        let receipt = Receipt::new(got.delivery_tag, Arc::clone(acknowledger));
        deliveries.push(Delivery { message, redeliveries, receipt });
    }
    let waiting = deliveries.len() + behind;
    Ok((deliveries, waiting))
}

/// A queue that is looked into.
#[derive(Debug)]
struct Open {
    line: Errand,
    channel: Channel,
    acknowledged: mpsc::UnboundedReceiver<Said>,
}

#[async_trait]
impl Browsing for Open {
    async fn close(mut self: Box<Self>) -> Result<(), BrowseError> {
        let away = |failed: Failed| BrowseError::Away(failed.to_string());
        while let Ok(said) = self.acknowledged.try_recv() {
            // Whoever waits for all to be settled is told by the end of this.
            let Said::Acknowledged(tag) = said else { continue };
            within(self.channel.basic_ack(tag, BasicAckOptions::default())).await.map_err(away)?;
        }
        // The broker answers this once it has dealt with all that came before.
        within(self.channel.close(200, "OK".into())).await.map_err(away)?;
        // Whether the broker hears the goodbye makes no difference.
        let _ = timeout(DEADLINE, self.line.close()).await;
        Ok(())
    }
}
