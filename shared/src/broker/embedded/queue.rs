use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::consumer::Consumer;
use super::state::Id;
use crate::message::Message;
use crate::time::Time;
use crate::topology::{self, Argument};

/// The priority of a message that names none, as RabbitMQ 4.3 has it.
const USUAL_PRIORITY: u8 = 4;

/// A queue: what waits in it, and who takes from it.
///
/// Whenever a method returns, either nothing waits or no consumer has room.
pub(super) struct Queue {
    pub(super) spec: topology::Queue,
    /// The line or subscriber with which an exclusive queue vanishes.
    pub(super) owner: Option<Id>,
    limits: Limits,
    ready: BTreeMap<Place, Entry>,
    /// What of `ready` expires, soonest first: so that what expired in the middle does not stay in memory.
    expiring: BTreeSet<(Time, Place)>,
    consumers: Vec<Consumer>,
    /// Who is asked first when the next message goes out.
    turn: usize,
    arrivals: u64,
    /// What is to be dead-lettered.
    dead: Vec<Published>,
}

/// Where a message stands in its queue, the same after a redelivery: higher priority first, then older first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<u8>,
    arrival: u64,
}

/// A message on its way to queues.
#[derive(Clone)]
pub(super) struct Published {
    pub(super) exchange: Arc<str>,
    pub(super) key: Arc<str>,
    pub(super) message: Message,
    /// The queues that dead-lettered it: it comes to none of them again, or it could go round for ever.
    pub(super) died_in: Vec<Arc<str>>,
}

/// A message in a queue.
pub(super) struct Entry {
    place: Place,
    expires_at: Option<Time>,
    pub(super) redeliveries: u32,
    published: Published,
}

impl Entry {
    pub(super) fn tag(&self) -> u64 {
        self.place.arrival
    }

    pub(super) fn message(&self) -> &Message {
        &self.published.message
    }

    pub(super) fn into_message(self) -> Message {
        self.published.message
    }
}

impl Queue {
    /// # Errors
    /// Why the arguments cannot be understood.
    pub(super) fn new(spec: topology::Queue, owner: Option<Id>) -> Result<Self, String> {
        let limits = Limits::read(&spec.arguments)?;
        Ok(Self {
            spec,
            owner,
            limits,
            ready: BTreeMap::new(),
            expiring: BTreeSet::new(),
            consumers: Vec::new(),
            turn: 0,
            arrivals: 0,
            dead: Vec::new(),
        })
    }

    /// Whether it refuses one more message now.
    pub(super) fn refuses(&mut self, now: Time) -> bool {
        self.drop_expired(now);
        self.limits.overflow == Overflow::RejectPublish && self.is_full()
    }

    /// Takes a message that it does not refuse, and hands it on if somebody has room.
    pub(super) fn accept(&mut self, published: Published, now: Time) {
        self.drop_expired(now);
        self.arrivals += 1;
        let message = &published.message;
        let priority = Reverse(message.priority.unwrap_or(USUAL_PRIORITY));
        let ttl = [message.expiration, self.limits.ttl].into_iter().flatten().min();
        let entry = Entry {
            place: Place { priority, arrival: self.arrivals },
            expires_at: ttl.map(|ttl| now + ttl),
            redeliveries: 0,
            published,
        };
        self.wait(entry);
        // First hand out, then look at the length: what somebody has room for does not make the queue longer.
        self.hand_out(now);
        while self.limits.max_length.is_some_and(|max| self.ready.len() > max) {
            let Some(oldest) = self.first() else { break };
            self.bury(oldest, "maxlen");
        }
    }

    pub(super) fn attach(&mut self, consumer: Consumer, now: Time) {
        consumer.set_attached(true);
        self.consumers.push(consumer);
        self.hand_out(now);
    }

    /// Gives back what the consumer has not acknowledged, each message in its old place.
    pub(super) fn detach(&mut self, id: Id, now: Time) -> Option<Consumer> {
        let index = self.consumers.iter().position(|consumer| consumer.id == id)?;
        let mut consumer = self.consumers.remove(index);
        for mut entry in consumer.take_unacknowledged() {
            entry.redeliveries += 1;
            if self.limits.delivery_limit.is_some_and(|limit| entry.redeliveries > limit) {
                self.bury(entry, "delivery_limit");
            } else {
                self.wait(entry);
            }
        }
        self.hand_out(now);
        Some(consumer)
    }

    pub(super) fn acknowledge(&mut self, id: Id, tag: u64, now: Time) {
        if self.consumers.iter_mut().any(|consumer| consumer.id == id && consumer.acknowledge(tag)) {
            self.hand_out(now);
        }
    }

    pub(super) fn consumers(&self) -> &[Consumer] {
        &self.consumers
    }

    pub(super) fn consumer(&mut self, id: Id) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id)
    }

    /// Whoever took from it, now that it vanishes.
    pub(super) fn into_consumers(self) -> Vec<Consumer> {
        self.consumers
    }

    /// Gives what waits to whoever has room, in turn.
    pub(super) fn hand_out(&mut self, now: Time) {
        while !self.ready.is_empty() {
            let Some(index) = self.next_with_room() else { break };
            let Some(entry) = self.first() else { break };
            if entry.expires_at.is_some_and(|at| at <= now) {
                self.bury(entry, "expired");
            } else if let Err(entry) = self.consumers[index].give(entry) {
                // Its taker has just gone, or waits for room: either way it asks again, and nobody must spin here.
                self.wait(*entry);
                break;
            }
        }
    }

    /// What is to be dead-lettered since this was last asked.
    pub(super) fn take_dead(&mut self) -> Vec<Published> {
        std::mem::take(&mut self.dead)
    }

    pub(super) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many wait, and how many of them expire.
    #[cfg(test)]
    pub(super) fn lengths(&self) -> (usize, usize) {
        (self.ready.len(), self.expiring.len())
    }

    fn is_full(&self) -> bool {
        self.limits.max_length.is_some_and(|max| self.ready.len() >= max)
    }

    fn next_with_room(&mut self) -> Option<usize> {
        let count = self.consumers.len();
        let index = (self.turn..self.turn + count).map(|i| i % count).find(|&i| self.consumers[i].has_room())?;
        self.turn = index + 1;
        Some(index)
    }

    fn wait(&mut self, entry: Entry) {
        if let Some(at) = entry.expires_at {
            self.expiring.insert((at, entry.place));
        }
        self.ready.insert(entry.place, entry);
    }

    fn first(&mut self) -> Option<Entry> {
        let (place, entry) = self.ready.pop_first()?;
        if let Some(at) = entry.expires_at {
            self.expiring.remove(&(at, place));
        }
        Some(entry)
    }

    fn drop_expired(&mut self, now: Time) {
        while let Some(&(at, place)) = self.expiring.first()
            && at <= now
        {
            self.expiring.pop_first();
            if let Some(entry) = self.ready.remove(&place) {
                self.bury(entry, "expired");
            }
        }
    }

    /// Dead-letters a message, or drops it where the queue has no dead-letter exchange.
    fn bury(&mut self, entry: Entry, reason: &'static str) {
        let Some(exchange) = &self.limits.dead_letter_exchange else { return };
        let mut letter = entry.published;
        let from = std::mem::replace(&mut letter.exchange, Arc::clone(exchange));
        // A letter that expired again where it was dead-lettered to would be lost.
        letter.message.expiration = None;
        if letter.died_in.is_empty() {
            let (queue, from) = (self.spec.name.as_ref(), from.as_ref());
            letter.message.headers.extend([
                ("x-first-death-reason".into(), reason.into()),
                ("x-first-death-queue".into(), queue.into()),
                ("x-first-death-exchange".into(), from.into()),
            ]);
        }
        letter.died_in.push(Arc::clone(&self.spec.name));
        self.dead.push(letter);
    }
}

/// What a queue's arguments say, as far as it concerns this broker.
#[derive(Debug, Default)]
struct Limits {
    max_length: Option<usize>,
    overflow: Overflow,
    ttl: Option<Duration>,
    delivery_limit: Option<u32>,
    dead_letter_exchange: Option<Arc<str>>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    #[default]
    DropHead,
    RejectPublish,
}

impl Limits {
    /// Arguments that mean nothing here are left alone, as RabbitMQ does.
    fn read(arguments: &[(&'static str, Argument)]) -> Result<Self, String> {
        let mut limits = Self::default();
        for (name, argument) in arguments {
            match (*name, argument) {
                ("x-max-length", Argument::Int(max)) => limits.max_length = Some(number(name, *max)?),
                ("x-message-ttl", Argument::Int(ms)) => limits.ttl = Some(Duration::from_millis(number(name, *ms)?)),
                ("x-delivery-limit", Argument::Int(limit)) => limits.delivery_limit = Some(number(name, *limit)?),
                ("x-dead-letter-exchange", Argument::Text(exchange)) => {
                    limits.dead_letter_exchange = Some(exchange.as_str().into());
                }
                ("x-overflow", Argument::Text(overflow)) => {
                    limits.overflow = match overflow.as_str() {
                        "drop-head" => Overflow::DropHead,
                        "reject-publish" => Overflow::RejectPublish,
                        other => return Err(format!("x-overflow cannot be {other:?}")),
                    }
                }
                (
                    "x-max-length" | "x-message-ttl" | "x-delivery-limit" | "x-dead-letter-exchange" | "x-overflow",
                    other,
                ) => return Err(format!("{name} cannot be {other:?}")),
                _ => {}
            }
        }
        Ok(limits)
    }
}

fn number<N: TryFrom<i64>>(name: &str, value: i64) -> Result<N, String> {
    N::try_from(value).map_err(|_| format!("{name} cannot be {value}"))
}
