//! Taking away what somebody declared for a while.

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use tracing::debug;

use super::codec::short;
use super::connection::{Address, Errand, within};
use super::declare::close;
use crate::topology::Declaration;

/// Deletes these exchanges and queues with all that is in them, the last first. What cannot be deleted stays; the log says
/// so.
pub async fn remove(url: &url::Url, declarations: &[Declaration]) {
    let Ok(errand) = Errand::open(&Address::new(url), "buzzer removal").await else {
        debug!("Nothing was removed: the broker is away");
        return;
    };
    for declaration in declarations.iter().rev() {
        let (name, is_queue) = match declaration {
            Declaration::Queue(queue) => (&queue.name, true),
            Declaration::Exchange { name, .. } => (name, false),
            // Gone with its queue.
            Declaration::Binding { .. } => continue,
        };
        // What is refused ends its channel.
        let (Ok(channel), Ok(it)) = (errand.channel().await, short("a name", name)) else { continue };
        let removed = if is_queue {
            within(channel.queue_delete(it, QueueDeleteOptions::default())).await.map(drop)
        } else {
            within(channel.exchange_delete(it, ExchangeDeleteOptions::default())).await
        };
        if let Err(error) = removed {
            debug!(%name, %error, "It was not removed");
        }
        close(channel).await;
    }
}
