use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{Notify, mpsc, watch};

use super::queue::Entry;
use super::state::Id;
use crate::broker::{Acknowledger, Delivery, Receipt, Receipts, Subscription};

/// One taker of a queue: what it may be given, and what it holds.
pub(super) struct Consumer {
    pub(super) id: Id,
    pub(super) line: Id,
    pub(super) subscription: Subscription,
    acknowledger: Arc<dyn Acknowledger>,
    /// `None` once it was stopped.
    out: Option<mpsc::Sender<Delivery>>,
    attached: watch::Sender<bool>,
    /// Told when its buffer was full, so that somebody waits for room there.
    full: Arc<Notify>,
    unacknowledged: BTreeMap<u64, Entry>,
}

impl Consumer {
    pub(super) fn new(
        id: Id,
        line: Id,
        subscription: Subscription,
        acknowledger: Arc<dyn Acknowledger>,
        out: mpsc::Sender<Delivery>,
        attached: watch::Sender<bool>,
        full: Arc<Notify>,
    ) -> Self {
        let unacknowledged = BTreeMap::new();
        Self { id, line, subscription, acknowledger, out: Some(out), attached, full, unacknowledged }
    }

    /// Whether it may be given one more message now.
    pub(super) fn has_room(&self) -> bool {
        let Some(out) = self.out.as_ref().filter(|out| !out.is_closed()) else { return false };
        match self.subscription.receipts {
            Receipts::Manual { prefetch } => self.unacknowledged.len() < usize::from(prefetch).max(1),
            Receipts::Automatic if out.capacity() == 0 => {
                self.full.notify_one();
                false
            }
            Receipts::Automatic => true,
        }
    }

    /// Gives it a message.
    ///
    /// # Errors
    /// The message, when the subscriber has gone meanwhile.
    pub(super) fn give(&mut self, entry: Entry) -> Result<(), Box<Entry>> {
        let Some(Ok(permit)) = self.out.as_ref().map(mpsc::Sender::try_reserve) else { return Err(Box::new(entry)) };
        let receipt = Receipt::new(entry.tag(), Arc::clone(&self.acknowledger));
        let redeliveries = entry.redeliveries;
        let message = match self.subscription.receipts {
            Receipts::Automatic => entry.into_message(),
            Receipts::Manual { .. } => {
                let message = entry.message().clone();
                self.unacknowledged.insert(entry.tag(), entry);
                message
            }
        };
        permit.send(Delivery { message, redeliveries, receipt });
        Ok(())
    }

    /// Whether it held a message of this tag.
    pub(super) fn acknowledge(&mut self, tag: u64) -> bool {
        self.unacknowledged.remove(&tag).is_some()
    }

    /// Takes back what it has not acknowledged.
    pub(super) fn take_unacknowledged(&mut self) -> impl Iterator<Item = Entry> + use<> {
        std::mem::take(&mut self.unacknowledged).into_values()
    }

    #[cfg(test)]
    pub(super) fn held(&self) -> usize {
        self.unacknowledged.len()
    }

    /// Gives it nothing any more; what it holds stays its own.
    pub(super) fn stop(&mut self) {
        self.out = None;
        self.set_attached(false);
    }

    pub(super) fn set_attached(&self, attached: bool) {
        self.attached.send_replace(attached && self.out.is_some());
    }
}
