//! What a worker tells of itself: the kinds it runs, and that it is alive.

use std::sync::Arc;

use buzzer_shared::broker::{Broker, Line, Receipts, Subscriber, Subscription};
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::Refusal;
use buzzer_shared::message::{Announce, Beat, Control, Message};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::Span;
use buzzer_shared::topology::{Route, Topology};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::health::Health;
use crate::held::Held;

/// With every so many beats comes an announcement.
const ANNOUNCE_EVERY: u32 = 6;

/// A worker's pulse.
#[derive(Debug)]
pub(crate) struct Pulse {
    broker: Arc<dyn Broker>,
    route: Route,
    control: Subscriber,
    worker: WorkerId,
    announce: Announce,
    held: Held,
    health: Health,
    /// How many beats there were since the last announcement that went out.
    beats: u32,
    /// What the API last said that it does not take.
    refused: Vec<Refusal>,
}

impl Pulse {
    pub(crate) fn new(
        broker: Arc<dyn Broker>,
        topology: &Topology,
        announce: Announce,
        held: Held,
        health: Health,
    ) -> Self {
        let control = broker.subscribe(Subscription {
            queue: topology.control_queue(announce.worker),
            declare: topology.control(announce.worker),
            receipts: Receipts::Automatic,
        });
        let (route, worker) = (topology.pulse(), announce.worker);
        Self { route, control, worker, announce, held, health, broker, beats: 0, refused: Vec::new() }
    }

    /// Announces and beats, each `every`, until `stop`; then beats a last time. From `shutdown` on it runs no kind, and
    /// beats for what it still holds.
    pub(crate) async fn run(mut self, every: Span, shutdown: Shutdown, stop: CancellationToken) {
        let (mut line, mut hears) = (self.broker.line(), self.control.attached());
        hears.mark_changed();
        let mut ticks = interval_at(Instant::now() + every.as_duration(), every.as_duration());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = shutdown.requested(), if !self.announce.kinds.is_empty() => {
                    self.announce.kinds.clear();
                    self.announce().await;
                }
                // A broker that was closed changes no more, and sends no more control messages.
                Ok(()) = line.changed() => {
                    let now = line.borrow_and_update().clone();
                    self.line_changed(&now).await;
                }
                Ok(()) = hears.changed() => {
                    let now = *hears.borrow_and_update();
                    self.hearing_changed(now).await;
                }
                Some(delivery) = self.control.next() => self.obey(&delivery.message).await,
                _ = ticks.tick() => self.beat().await,
            }
        }
        self.publish(self.beat_message(true)).await;
    }

    async fn beat(&mut self) {
        self.health.look(Instant::now());
        self.publish(self.beat_message(false)).await;
        self.beats += 1;
        if self.beats >= ANNOUNCE_EVERY {
            self.announce().await;
        }
    }

    /// The API may have started anew while the line was away: it must hear at once who is here and what is held.
    async fn line_changed(&mut self, line: &Line) {
        self.health.look(Instant::now());
        debug!(?line, "The line to the broker changed");
        if *line == Line::Up {
            self.announce().await;
            self.beat().await;
        }
    }

    /// An API that asks once the worker hears is answered; one that asked before that must be told now.
    async fn hearing_changed(&mut self, hears: bool) {
        if hears {
            self.announce().await;
        }
    }

    async fn obey(&mut self, message: &Message) {
        match Control::read(message) {
            Ok(Control::Announce) => {
                self.announce().await;
                self.beat().await;
            }
            Ok(Control::Cancel { runs }) => self.held.cancel(&runs),
            Ok(Control::Refused { worker, kinds }) if worker == self.worker => self.note_refused(kinds),
            // Another worker's.
            Ok(Control::Refused { .. }) => {}
            // Of a newer API; what it means is not for this worker.
            Err(reason) => debug!(%reason, "A control message cannot be read"),
        }
    }

    /// It is said with each announcement, and logged when it is new.
    fn note_refused(&mut self, refused: Vec<Refusal>) {
        for Refusal { kind, reason } in unheard(&self.refused, &refused) {
            error!(kind, reason, "The API does not take what this worker says of a kind");
        }
        self.refused = refused;
    }

    async fn announce(&mut self) {
        // Not taken yet, for instance before the API has first declared the exchange: again with the next beat.
        self.beats = if self.publish(self.announce.to_message()).await { 0 } else { ANNOUNCE_EVERY };
    }

    fn beat_message(&self, leaving: bool) -> Message {
        Beat { worker: self.worker, held: self.held.runs(), leaving }.to_message()
    }

    /// Whether the broker took it.
    async fn publish(&self, message: Message) -> bool {
        match self.broker.publish(self.route.clone(), message).await {
            Ok(()) => true,
            Err(error) => {
                debug!(%error, "A pulse was lost");
                false
            }
        }
    }
}

/// What is refused now and was not before, or for another reason.
fn unheard<'a>(before: &'a [Refusal], now: &'a [Refusal]) -> impl Iterator<Item = &'a Refusal> {
    now.iter().filter(|refusal| !before.contains(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_logged_once_for_each_reason() {
        let refusal = |kind: &str, reason: &str| Refusal { kind: kind.into(), reason: reason.into() };
        let before = [refusal("a", "too deep"), refusal("b", "too large")];
        let now = [refusal("a", "too deep"), refusal("b", "no schema"), refusal("c", "too deep")];
        assert!(unheard(&before, &now).eq(&now[1..]));
        assert!(unheard(&[], &before).eq(&before));
    }
}
