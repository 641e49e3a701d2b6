//! Exchanges, queues and bindings, as data. Nobody else spells their names.
//!
//! The name of a queue carries a version: RabbitMQ refuses to declare a queue with other arguments than it has, so
//! other arguments mean another name.

use std::sync::Arc;
use std::time::Duration;

use crate::id::WorkerId;
use crate::kind::Kind;

/// All names of one Buzzer on a broker; they begin with its prefix. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Topology {
    prefix: Arc<str>,
}

/// Where a message is published to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub exchange: Arc<str>,
    pub key: Arc<str>,
    /// Whether it is an error that no queue takes the message.
    pub mandatory: bool,
}

/// Something that is to exist on the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declaration {
    Exchange { name: Arc<str>, r#type: ExchangeType },
    Queue(Queue),
    Binding { queue: Arc<str>, exchange: Arc<str>, key: Arc<str> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeType {
    /// To the queues bound with the message's key.
    Direct,
    /// To every bound queue.
    Fanout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    pub name: Arc<str>,
    pub r#type: QueueType,
    pub arguments: Vec<(&'static str, Argument)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueType {
    /// Replicated, and synced to disk before it confirms. For what must not be lost.
    Quorum,
    /// Durable. For what may be lost.
    Classic,
    /// One connection's own, gone with it.
    Exclusive,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    Int(i64),
    Text(String),
}

/// Pulses and signals older than that tell nothing any more.
const PULSE_TTL: Duration = Duration::from_secs(15);
/// So many pulses or signals wait at most; then the oldest go.
const PULSE_MAX: i64 = 100_000;
/// A queue of requests never comes near it: the window is far smaller. It stops a runaway publisher.
const REQUESTS_MAX: i64 = 100_000;
/// RabbitMQ drops a message that came back more often. Far above what the API allows; never unlimited, since a limit
/// of -1 makes 3.10 drop a message at its first return.
const DELIVERY_LIMIT: i64 = 20;
/// Nobody consumes the parking queue, but people look into it and put back what they saw, which counts as a delivery.
/// With a look each second it takes 30 years.
const LOOKS: i64 = 1_000_000_000;
/// So many messages are parked at most, and so many bytes; then the oldest go.
const PARKED_MAX: i64 = 100_000;
const PARKED_BYTES_MAX: i64 = 1 << 30;
/// How long a delivery may stay unacknowledged: RabbitMQ's own default, said outright since nodes differ.
const CONSUMER_TIMEOUT_MS: i64 = 1_800_000;

impl Topology {
    /// `prefix` begins every name; two Buzzers on one broker have two.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    /// What exists as long as this Buzzer does. The API declares it.
    pub fn fixed(&self) -> Vec<Declaration> {
        use Argument::{Int, Text};
        let replies = vec![
            ("x-delivery-limit", Int(DELIVERY_LIMIT)),
            ("x-dead-letter-exchange", Text(self.parking().exchange.to_string())),
        ];
        let parking = vec![
            ("x-delivery-limit", Int(LOOKS)),
            ("x-max-length", Int(PARKED_MAX)),
            ("x-max-length-bytes", Int(PARKED_BYTES_MAX)),
            ("x-overflow", Text("drop-head".into())),
        ];
        vec![
            self.exchange("requests", ExchangeType::Direct),
            self.exchange("replies", ExchangeType::Direct),
            self.exchange("control", ExchangeType::Fanout),
            self.exchange("parking", ExchangeType::Fanout),
            queue(self.parking_queue(), QueueType::Quorum, parking),
            bind(self.parking_queue(), self.parking()),
            queue(self.replies_queue(), QueueType::Quorum, replies),
            bind(self.replies_queue(), self.outcome()),
            queue(self.pulse_queue(), QueueType::Classic, short_lived()),
            bind(self.pulse_queue(), self.pulse()),
            queue(self.signals_queue(), QueueType::Classic, short_lived()),
            bind(self.signals_queue(), self.signal()),
        ]
    }

    /// What a kind needs. The API declares it when a worker announces the kind.
    pub fn requests(&self, kind: &Kind) -> Vec<Declaration> {
        use Argument::{Int, Text};
        let arguments = vec![
            ("x-delivery-limit", Int(DELIVERY_LIMIT)),
            ("x-overflow", Text("reject-publish".into())),
            ("x-max-length", Int(REQUESTS_MAX)),
            ("x-consumer-timeout", Int(CONSUMER_TIMEOUT_MS)),
        ];
        vec![
            queue(self.requests_queue(kind), QueueType::Quorum, arguments),
            bind(self.requests_queue(kind), self.request(kind)),
        ]
    }

    /// A worker's own ear. The worker declares it, on the connection that consumes it.
    pub fn control(&self, worker: WorkerId) -> Vec<Declaration> {
        vec![
            queue(self.control_queue(worker), QueueType::Exclusive, Vec::new()),
            bind(self.control_queue(worker), self.to_workers()),
        ]
    }

    pub fn request(&self, kind: &Kind) -> Route {
        Route { exchange: self.name("requests"), key: kind.as_str().into(), mandatory: true }
    }

    pub fn outcome(&self) -> Route {
        Route { exchange: self.name("replies"), key: "outcome".into(), mandatory: true }
    }

    pub fn pulse(&self) -> Route {
        Route { exchange: self.name("replies"), key: "pulse".into(), mandatory: false }
    }

    pub fn signal(&self) -> Route {
        Route { exchange: self.name("replies"), key: "signal".into(), mandatory: false }
    }

    pub fn to_workers(&self) -> Route {
        Route { exchange: self.name("control"), key: "".into(), mandatory: false }
    }

    pub fn parking(&self) -> Route {
        Route { exchange: self.name("parking"), key: "".into(), mandatory: true }
    }

    /// How a message comes to this queue, and to no other: `None` for a queue that is not ours, that is a worker's own,
    /// or the parking queue itself.
    pub fn route_of(&self, queue: &str) -> Option<Route> {
        let fixed = [
            (self.replies_queue(), self.outcome()),
            (self.pulse_queue(), self.pulse()),
            (self.signals_queue(), self.signal()),
        ];
        if let Some((_, route)) = fixed.into_iter().find(|(own, _)| own.as_ref() == queue) {
            // Whoever sends something back there wants to know whether it arrived.
            return Some(Route { mandatory: true, ..route });
        }
        let kind = queue.strip_prefix(self.prefix.as_ref())?.strip_prefix(".requests.")?.strip_suffix(".v1")?;
        kind.parse().ok().map(|kind| self.request(&kind))
    }

    pub fn requests_queue(&self, kind: &Kind) -> Arc<str> {
        self.name(&format!("requests.{kind}.v1"))
    }

    pub fn replies_queue(&self) -> Arc<str> {
        self.name("replies.v1")
    }

    pub fn pulse_queue(&self) -> Arc<str> {
        self.name("pulse.v1")
    }

    pub fn signals_queue(&self) -> Arc<str> {
        self.name("signals.v1")
    }

    pub fn control_queue(&self, worker: WorkerId) -> Arc<str> {
        self.name(&format!("control.{worker}"))
    }

    pub fn parking_queue(&self) -> Arc<str> {
        self.name("parking.v1")
    }

    fn name(&self, rest: &str) -> Arc<str> {
        format!("{}.{rest}", self.prefix).into()
    }

    fn exchange(&self, name: &str, r#type: ExchangeType) -> Declaration {
        Declaration::Exchange { name: self.name(name), r#type }
    }
}

fn queue(name: Arc<str>, r#type: QueueType, arguments: Vec<(&'static str, Argument)>) -> Declaration {
    Declaration::Queue(Queue { name, r#type, arguments })
}

fn bind(queue: Arc<str>, route: Route) -> Declaration {
    Declaration::Binding { queue, exchange: route.exchange, key: route.key }
}

fn short_lived() -> Vec<(&'static str, Argument)> {
    let ttl = i64::try_from(PULSE_TTL.as_millis()).unwrap_or(i64::MAX);
    vec![
        ("x-message-ttl", Argument::Int(ttl)),
        ("x-max-length", Argument::Int(PULSE_MAX)),
        ("x-overflow", Argument::Text("drop-head".into())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_what_must_not_be_lost_lies_in_quorum_queues() {
        let topology = Topology::new("b");
        let kind: Kind = "http.request".parse().unwrap();
        let declared = [topology.fixed(), topology.requests(&kind)].concat();
        let mut kept: Vec<_> = declared
            .iter()
            .filter_map(|declaration| match declaration {
                Declaration::Queue(queue) if queue.r#type == QueueType::Quorum => Some(&*queue.name),
                _ => None,
            })
            .collect();
        kept.sort_unstable();
        assert_eq!(kept, ["b.parking.v1", "b.replies.v1", "b.requests.http.request.v1"]);
        // Otherwise RabbitMQ would confirm what no queue has taken.
        for route in [topology.request(&kind), topology.outcome(), topology.parking()] {
            assert!(route.mandatory, "{route:?}");
        }
    }

    #[test]
    fn each_queue_but_the_last_resorts_has_a_way_to_it() {
        let topology = Topology::new("b");
        let kind: Kind = "http.request".parse().unwrap();
        let declared = [topology.fixed(), topology.requests(&kind)].concat();
        let way = |queue: &str| topology.route_of(queue).map(|route| (route.exchange, route.key));
        for declaration in &declared {
            let Declaration::Binding { queue, exchange, key } = declaration else { continue };
            let expected = (*queue != topology.parking_queue()).then(|| (Arc::clone(exchange), Arc::clone(key)));
            assert_eq!(way(queue), expected, "{queue}");
        }
        for foreign in
            ["b.requests..v1", "b.requests.echo.v2", "c.replies.v1", "b.control.x", "bb.requests.echo.v1", ""]
        {
            assert_eq!(way(foreign), None, "{foreign}");
        }
    }
}
