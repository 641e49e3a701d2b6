use std::collections::HashMap;
use std::sync::Arc;

use super::consumer::Consumer;
use super::queue::{Published, Queue};
use crate::broker::{DeclareError, PublishError};
use crate::message::Message;
use crate::time::Time;
use crate::topology::{self, Declaration, ExchangeType, QueueType, Route};

/// A line or a subscriber.
pub(super) type Id = u64;

/// The whole broker: exchanges, queues, and those who wait for a queue.
#[derive(Default)]
pub(super) struct State {
    exchanges: HashMap<Arc<str>, Exchange>,
    queues: HashMap<Arc<str>, Queue>,
    /// Consumers of queues that are not there yet.
    waiting: Vec<Consumer>,
    last_id: Id,
}

struct Exchange {
    r#type: ExchangeType,
    /// Queues by key. A fanout exchange has them all under the empty key.
    bindings: HashMap<Arc<str>, Vec<Arc<str>>>,
}

impl Exchange {
    fn slot<'a>(&self, key: &'a str) -> &'a str {
        match self.r#type {
            ExchangeType::Direct => key,
            ExchangeType::Fanout => "",
        }
    }
}

impl State {
    pub(super) fn new_id(&mut self) -> Id {
        self.last_id += 1;
        self.last_id
    }

    /// Makes these exist, up to the first that is refused. Exclusive queues vanish with `owner`.
    pub(super) fn declare(&mut self, declarations: &[Declaration], owner: Id, now: Time) -> Result<(), DeclareError> {
        let declared = self.make(declarations, owner);
        self.attach_waiting(now);
        declared
    }

    pub(super) fn publish(&mut self, route: Route, message: Message, now: Time) -> Result<(), PublishError> {
        let Route { exchange, key, mandatory } = route;
        if !self.exchanges.contains_key(&exchange) {
            return Err(PublishError::Returned(format!("there is no exchange {exchange}")));
        }
        let targets = self.targets(&exchange, &key);
        if targets.is_empty() && mandatory {
            return Err(PublishError::Returned(format!("no queue is bound to {exchange} with the key {key:?}")));
        }
        if targets.iter().any(|target| self.queues.get_mut(target).is_some_and(|queue| queue.refuses(now))) {
            return Err(PublishError::Refused);
        }
        self.deliver(targets, Published { exchange, key, message, died_in: Vec::new() }, now);
        Ok(())
    }

    pub(super) fn subscribe(&mut self, consumer: Consumer, now: Time) {
        self.waiting.push(consumer);
        self.attach_waiting(now);
    }

    pub(super) fn acknowledge(&mut self, queue: &str, consumer: Id, tag: u64, now: Time) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.acknowledge(consumer, tag, now);
            let dead = queue.take_dead();
            self.dead_letter(dead, now);
        }
    }

    /// Gives a consumer that has room again what waits for it.
    pub(super) fn feed(&mut self, consumer: Id, now: Time) {
        if let Some(queue) = self.queue_of(consumer) {
            queue.hand_out(now);
            let dead = queue.take_dead();
            self.dead_letter(dead, now);
        }
    }

    pub(super) fn stop(&mut self, consumer: Id) {
        let attached = self.queues.values_mut().find_map(|queue| queue.consumer(consumer));
        if let Some(consumer) = attached.or(self.waiting.iter_mut().find(|waiting| waiting.id == consumer)) {
            consumer.stop();
        }
    }

    /// Takes a consumer away, and its exclusive queues.
    pub(super) fn leave(&mut self, consumer: Id, now: Time) {
        if let Some(queue) = self.queue_of(consumer) {
            queue.detach(consumer, now);
            let dead = queue.take_dead();
            self.dead_letter(dead, now);
        } else {
            self.waiting.retain(|waiting| waiting.id != consumer);
        }
        self.remove_queues_of(consumer);
        // The name of an exclusive queue is free now; somebody may have waited for that.
        self.attach_waiting(now);
    }

    /// Takes all consumers of a line away, and its exclusive queues.
    pub(super) fn close_line(&mut self, line: Id, now: Time) {
        let attached = self.queues.values().flat_map(Queue::consumers);
        let all = attached.chain(&self.waiting).filter(|consumer| consumer.line == line);
        let consumers: Vec<Id> = all.map(|consumer| consumer.id).collect();
        for consumer in consumers {
            self.leave(consumer, now);
        }
        self.remove_queues_of(line);
    }

    /// How many messages wait in a queue for somebody to take them, if there is such a queue.
    pub(super) fn ready(&self, queue: &str) -> Option<usize> {
        self.queues.get(queue).map(Queue::ready)
    }

    #[cfg(test)]
    pub(super) fn lengths(&self, queue: &str) -> (usize, usize) {
        self.queues[queue].lengths()
    }

    /// How many messages the consumers of a queue hold.
    #[cfg(test)]
    pub(super) fn held(&self, queue: &str) -> usize {
        self.queues[queue].consumers().iter().map(Consumer::held).sum()
    }

    fn queue_of(&mut self, consumer: Id) -> Option<&mut Queue> {
        self.queues.values_mut().find(|queue| queue.consumers().iter().any(|own| own.id == consumer))
    }

    fn targets(&self, exchange: &str, key: &str) -> Vec<Arc<str>> {
        let Some(exchange) = self.exchanges.get(exchange) else { return Vec::new() };
        exchange.bindings.get(exchange.slot(key)).cloned().unwrap_or_default()
    }

    fn deliver(&mut self, mut targets: Vec<Arc<str>>, published: Published, now: Time) {
        let last = targets.pop();
        for target in targets {
            self.deliver_to(&target, published.clone(), now);
        }
        if let Some(last) = last {
            self.deliver_to(&last, published, now);
        }
    }

    fn deliver_to(&mut self, target: &str, published: Published, now: Time) {
        if let Some(queue) = self.queues.get_mut(target) {
            queue.accept(published, now);
            let dead = queue.take_dead();
            self.dead_letter(dead, now);
        }
    }

    /// Ends, since no letter comes twice to a queue that it died in.
    fn dead_letter(&mut self, letters: Vec<Published>, now: Time) {
        for letter in letters {
            let mut targets = self.targets(&letter.exchange, &letter.key);
            targets.retain(|target| {
                !letter.died_in.contains(target) && !self.queues.get_mut(target).is_some_and(|queue| queue.refuses(now))
            });
            self.deliver(targets, letter, now);
        }
    }

    /// Attaches those whose queue is there by now. What one declares may be what another waits for.
    fn attach_waiting(&mut self, now: Time) {
        loop {
            let waiting = std::mem::take(&mut self.waiting);
            let before = waiting.len();
            for consumer in waiting {
                self.attach(consumer, now);
            }
            if self.waiting.len() == before {
                break;
            }
        }
    }

    fn attach(&mut self, consumer: Consumer, now: Time) {
        let name = Arc::clone(&consumer.subscription.queue);
        if let Err(error) = self.make(&consumer.subscription.declare, consumer.id) {
            tracing::warn!(queue = %name, %error, "A subscription waits until it can declare what it needs");
            self.waiting.push(consumer);
            return;
        }
        match self.queues.get_mut(&name) {
            Some(queue) => {
                queue.attach(consumer, now);
                let dead = queue.take_dead();
                self.dead_letter(dead, now);
            }
            None => self.waiting.push(consumer),
        }
    }

    fn remove_queues_of(&mut self, owner: Id) {
        let owned: Vec<_> = self.queues.extract_if(|_, queue| queue.owner == Some(owner)).collect();
        for (name, queue) in owned {
            for exchange in self.exchanges.values_mut() {
                exchange.bindings.retain(|_, queues| {
                    queues.retain(|queue| *queue != name);
                    !queues.is_empty()
                });
            }
            for mut consumer in queue.into_consumers() {
                consumer.set_attached(false);
                // Its messages went with the queue.
                drop(consumer.take_unacknowledged());
                self.waiting.push(consumer);
            }
        }
    }

    fn make(&mut self, declarations: &[Declaration], owner: Id) -> Result<(), DeclareError> {
        for declaration in declarations {
            match declaration {
                Declaration::Exchange { name, r#type } => self.make_exchange(name, *r#type),
                Declaration::Queue(queue) => self.make_queue(queue, owner),
                Declaration::Binding { queue, exchange, key } => self.bind(queue, exchange, key),
            }?;
        }
        Ok(())
    }

    fn make_exchange(&mut self, name: &Arc<str>, r#type: ExchangeType) -> Result<(), DeclareError> {
        let new = || Exchange { r#type, bindings: HashMap::new() };
        let exchange = self.exchanges.entry(Arc::clone(name)).or_insert_with(new);
        if exchange.r#type == r#type {
            Ok(())
        } else {
            Err(refused(format!("the exchange {name}"), format!("it exists with the type {:?}", exchange.r#type)))
        }
    }

    fn make_queue(&mut self, spec: &topology::Queue, owner: Id) -> Result<(), DeclareError> {
        let what = || format!("the queue {}", spec.name);
        let owner = (spec.r#type == QueueType::Exclusive).then_some(owner);
        let Some(existing) = self.queues.get(&spec.name) else {
            let queue = Queue::new(spec.clone(), owner).map_err(|reason| refused(what(), reason))?;
            self.queues.insert(Arc::clone(&spec.name), queue);
            return Ok(());
        };
        let same_arguments = existing.spec.arguments.len() == spec.arguments.len()
            && spec.arguments.iter().all(|argument| existing.spec.arguments.contains(argument));
        if existing.spec.r#type != spec.r#type || !same_arguments {
            Err(refused(what(), "it exists with other arguments".into()))
        } else if existing.owner != owner {
            Err(refused(what(), "it exists, and is exclusively another's".into()))
        } else {
            Ok(())
        }
    }

    fn bind(&mut self, queue: &Arc<str>, exchange: &Arc<str>, key: &Arc<str>) -> Result<(), DeclareError> {
        let what = || format!("the binding of {queue} to {exchange}");
        if !self.queues.contains_key(queue) {
            return Err(refused(what(), "there is no such queue".into()));
        }
        let Some(exchange) = self.exchanges.get_mut(exchange) else {
            return Err(refused(what(), "there is no such exchange".into()));
        };
        let key = exchange.slot(key).into();
        let queues = exchange.bindings.entry(key).or_default();
        if !queues.contains(queue) {
            queues.push(Arc::clone(queue));
        }
        Ok(())
    }
}

fn refused(what: String, reason: String) -> DeclareError {
    DeclareError::Refused { what, reason }
}
