//! Takes what workers tell of themselves: which kinds they run, that they are alive, and what they hold.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use buzzer_shared::broker::{Broker, DeclareError, Line, Receipts, Subscription};
use buzzer_shared::id::WorkerId;
use buzzer_shared::kind::{Kind, Refusal};
use buzzer_shared::message::{Announce, Beat, Control, Knock, Pulse};
use buzzer_shared::shutdown::Shutdown;
use buzzer_shared::time::{Clock, Time};
use buzzer_shared::topology::Topology;
use tokio::task::{Id, JoinError, JoinSet};

use crate::aside::aside;
use crate::catalog::Catalog;
use crate::contracts;
use crate::hearing::{self, Hearing};
use crate::journal::Journal;
use crate::lifecycle::RunLease;
use crate::senders::Senders;
use crate::store::{self, StoreError};

/// A worker that is not known is asked for its kinds, but not with each of its beats: all workers hear the question.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How soon an alarm of the broker is noticed: well before a lease can end for it.
const KNOCK_EVERY: Duration = Duration::from_secs(5);

/// Consumes the pulse queue.
#[derive(Debug)]
pub struct Pulses {
    pub broker: Arc<dyn Broker>,
    pub topology: Topology,
    pub journal: Journal,
    pub catalog: Catalog,
    pub hearing: Hearing,
    pub senders: Senders,
    pub clock: Arc<dyn Clock>,
    /// How long a run may go without a beat.
    pub lease: Duration,
}

/// What is under way beside the listening.
#[derive(Debug, Default)]
struct Opening {
    declared: JoinSet<Result<(), DeclareError>>,
    kinds: HashMap<Id, Kind>,
    /// Those that could not be made. The next announcement tries them again, or a new line.
    failed: HashSet<Kind>,
    asked_at: Option<Time>,
    /// What was looked at, and need not be again.
    refused: contracts::Refused,
}

impl Pulses {
    /// Asks the workers for their kinds whenever the line comes up, and listens until shutdown is requested.
    pub async fn run(self, shutdown: Shutdown) {
        let mut subscriber = self.broker.subscribe(Subscription {
            queue: self.topology.pulse_queue(),
            declare: Vec::new(),
            receipts: Receipts::Automatic,
        });
        let (mut line, mut attached) = (self.broker.line(), subscriber.attached());
        line.mark_changed();
        let mut opening = Opening::default();
        let mut look = tokio::time::interval(hearing::LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut knock = tokio::time::interval(KNOCK_EVERY);
        knock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => return,
                Ok(()) = line.changed() => {
                    let up = *line.borrow_and_update() == Line::Up;
                    if up {
                        opening.failed.clear();
                        self.ask(&mut opening).await;
                    }
                }
                Ok(()) = attached.changed() => {
                    // It may have changed twice: then something was missed in between.
                    self.note(false);
                    self.note(*attached.borrow_and_update());
                }
                Some(declared) = opening.declared.join_next_with_id() => self.opened(declared, &mut opening),
                delivery = subscriber.next() => {
                    let Some(delivery) = delivery else { return };
                    let kept = match self.senders.read(&delivery.message, Pulse::read) {
                        Ok(pulse) => self.step(pulse, &mut opening).await,
                        Err(reason) => {
                            self.journal.tally.unreadable();
                            tracing::warn!(%reason, "a pulse is dropped");
                            true
                        }
                    };
                    self.note(kept && *attached.borrow());
                }
                _ = knock.tick() => self.knock(),
                _ = look.tick() => {
                    self.note(*attached.borrow());
                    self.open_others(&mut opening);
                }
            }
        }
    }

    /// Whether it was taken. A beat that could not be stored was not heard.
    async fn step(&self, pulse: Pulse, opening: &mut Opening) -> bool {
        let taken = match pulse {
            Pulse::Announce(announce) => self.announced(announce, opening).await,
            Pulse::Beat(beat) => self.beaten(&beat, opening).await,
            Pulse::Knock => Ok(()),
        };
        if let Err(error) = &taken {
            tracing::warn!(%error, "a pulse cannot be stored; the next one will be");
        }
        taken.is_ok()
    }

    /// While the broker takes no messages, the workers cannot beat: their silence says nothing.
    fn note(&self, all_heard: bool) {
        self.hearing.note(all_heard && self.journal.lanes.is_line_up(), self.clock.now());
    }

    /// RabbitMQ tells of an alarm only to who publishes, and an API may have nothing to publish.
    fn knock(&self) {
        let (broker, route) = (Arc::clone(&self.broker), self.topology.pulse());
        // Not waited for: meanwhile beats are taken.
        tokio::spawn(async move { broker.publish(route, Knock.to_message()).await });
    }

    async fn announced(&self, mut announce: Announce, opening: &mut Opening) -> Result<(), StoreError> {
        aside(|| contracts::sift(&mut announce, |spec| self.catalog.knows(spec), &mut opening.refused));
        if announce.kinds.is_empty() && announce.refused.is_empty() && !self.has_heard_of(announce.worker).await? {
            return Ok(());
        }
        let refused_before = self.refused_before(announce.worker);
        self.journal.store.announce(&announce, self.clock.now()).await?;
        self.look_around().await?;
        self.open_all(announce.kinds.iter().map(|spec| &spec.name), opening);
        if !announce.refused.is_empty() {
            self.refuse(announce.worker, announce.refused, &refused_before);
        }
        Ok(())
    }

    /// Whether a worker is kept. One that is not, and runs no kinds, has left, and says so late.
    async fn has_heard_of(&self, worker: WorkerId) -> Result<bool, StoreError> {
        Ok(self.journal.store.workers().await?.iter().any(|known| known.id == worker))
    }

    /// What the store has as refused of a worker.
    fn refused_before(&self, worker: WorkerId) -> Vec<Refusal> {
        let known = self.catalog.workers().into_iter().find(|known| known.id == worker);
        known.map(|known| known.refused).unwrap_or_default()
    }

    /// Tells a worker what of its announcement is not taken. All of them hear it, and one that misses it is told again.
    /// The log says it once: a worker announces itself every half minute.
    fn refuse(&self, worker: WorkerId, kinds: Vec<Refusal>, before: &[Refusal]) {
        for Refusal { kind, reason } in news(&kinds, before) {
            tracing::warn!(%worker, kind, reason, "what a worker says of a kind is not taken");
        }
        let (broker, route) = (Arc::clone(&self.broker), self.topology.to_workers());
        // Not waited for: meanwhile beats are taken.
        tokio::spawn(async move { broker.publish(route, Control::Refused { worker, kinds }.to_message()).await });
    }

    /// Opens the queues of kinds that another replica has heard of.
    fn open_others(&self, opening: &mut Opening) {
        if self.journal.lanes.is_line_up() {
            let slots = self.catalog.slots();
            let others: Vec<_> = slots.keys().filter(|kind| !opening.failed.contains(*kind)).collect();
            self.open_all(others.into_iter(), opening);
        }
    }

    /// Opens the queue of each kind. Not waited for: a broker that is slow to make one queue must not make us deaf for the
    /// beats of all workers.
    fn open_all<'a>(&self, kinds: impl Iterator<Item = &'a Kind>, opening: &mut Opening) {
        for kind in kinds {
            if self.journal.lanes.is_open(kind) || opening.kinds.values().any(|opening| opening == kind) {
                continue;
            }
            let (declarations, broker) = (self.topology.requests(kind), Arc::clone(&self.broker));
            let task = opening.declared.spawn(async move { broker.declare(declarations).await });
            opening.kinds.insert(task.id(), kind.clone());
        }
    }

    /// What is refused or away now is tried again with the next announcement.
    fn opened(&self, declared: Result<(Id, Result<(), DeclareError>), JoinError>, opening: &mut Opening) {
        let id = declared.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(kind) = opening.kinds.remove(&id) else { return };
        let reason = match declared {
            Ok((_, Ok(()))) => return self.journal.lanes.open(&kind),
            Ok((_, Err(error))) => error.to_string(),
            Err(panic) => panic.to_string(),
        };
        tracing::error!(job.kind = %kind, reason, "this kind has no queue yet");
        self.journal.lanes.refused(&kind, reason);
        opening.failed.insert(kind);
    }

    async fn beaten(&self, beat: &Beat, opening: &mut Opening) -> Result<(), StoreError> {
        let now = self.clock.now();
        if beat.leaving {
            self.journal.store.dismiss(Some(beat.worker), Time::from_millis(0)).await?;
            self.look_around().await?;
        } else if !self.journal.store.beat(beat.worker, now).await? {
            self.ask(opening).await;
        }
        if !beat.held.is_empty() {
            self.journal.apply(store::renewals(&beat.held, RunLease::new(now, self.lease))).await?;
        }
        Ok(())
    }

    async fn look_around(&self) -> Result<(), StoreError> {
        self.catalog.refresh(&*self.journal.store, self.clock.now()).await?;
        self.journal.lanes.set_slots(&self.catalog.slots());
        self.journal.lanes.set_early(&self.catalog.early());
        Ok(())
    }

    async fn ask(&self, opening: &mut Opening) {
        let now = self.clock.now();
        if opening.asked_at.is_some_and(|at| now.since(at) < ASK_EVERY) {
            return;
        }
        opening.asked_at = Some(now);
        if let Err(error) = self.broker.publish(self.topology.to_workers(), Control::Announce.to_message()).await {
            tracing::debug!(%error, "the workers could not be asked for their kinds");
        }
    }
}

/// The refusals that were not there before.
fn news<'a>(refused: &'a [Refusal], before: &[Refusal]) -> impl Iterator<Item = &'a Refusal> {
    refused.iter().filter(move |refusal| !before.contains(refusal))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(kind: &str, reason: &str) -> Refusal {
        Refusal { kind: kind.into(), reason: reason.into() }
    }

    #[test]
    fn a_refusal_is_news_once_and_again_for_another_reason() {
        let refused = [refusal("a", "no slots"), refusal("b", "no time")];
        let told = |before: &[Refusal]| news(&refused, before).map(|refusal| refusal.kind.clone()).collect::<Vec<_>>();
        assert_eq!(told(&[]), ["a", "b"]);
        assert_eq!(told(&refused), [""; 0]);
        assert_eq!(told(&[refusal("a", "no attempts"), refusal("b", "no time")]), ["a"]);
    }
}
