//! The parking queue: what nobody could read or route, with the reason, until somebody decides what becomes of it.

use std::sync::Arc;

use buzzer_shared::broker::{Broker, BrowseError, Browsed, Delivery, PublishError, UNREADABLE};
use buzzer_shared::message::{Header, Message};
use buzzer_shared::topology::{Route, Topology};
use sha2::{Digest, Sha256};

use crate::problem::ApiError;
use crate::senders::{PARKED_SENDER, Senders, Untaken};

/// How many messages are looked through for one, in steps: as a rule it is among the oldest. Those behind are found
/// once older ones are gone.
const DEPTHS: [u16; 3] = [16, 128, 1024];
/// Headers that say how a message came here. They do not go back with it.
const OF_PARKING: [&str; 3] = ["parked-", "x-first-death-", "x-last-death-"];
/// So many characters of a digest tell messages apart.
const ID_LENGTH: usize = 16;

/// The parking queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Parking {
    broker: Arc<dyn Broker>,
    topology: Topology,
    /// What goes back goes under the API's own name: so only what came from somebody who is believed may.
    senders: Senders,
    /// What somebody looks at, nobody else sees: so one looks at a time.
    one_at_a_time: Arc<tokio::sync::Mutex<()>>,
}

/// A parked message.
#[derive(Debug, Clone, PartialEq)]
pub struct Parked {
    /// A digest of all there is of the message. Copies of one message share it.
    pub id: String,
    pub message: Message,
}

impl Parking {
    pub fn new(broker: Arc<dyn Broker>, topology: Topology, senders: Senders) -> Self {
        Self { broker, topology, senders, one_at_a_time: Arc::default() }
    }

    /// The oldest messages, and how many there are.
    pub async fn list(&self, limit: u16) -> Result<(Vec<Parked>, usize), ApiError> {
        let _alone = self.one_at_a_time.lock().await;
        let mut browsed = self.browse(limit).await?;
        let parked = browsed.deliveries.drain(..).map(|delivery| Parked::new(delivery.message)).collect();
        let waiting = browsed.waiting;
        close(browsed).await?;
        Ok((parked, waiting))
    }

    pub async fn find(&self, id: &str) -> Result<Parked, ApiError> {
        let _alone = self.one_at_a_time.lock().await;
        let (delivery, browsed) = self.search(id).await?;
        close(browsed).await?;
        Ok(Parked::new(delivery.message))
    }

    /// Takes one copy of the message out.
    pub async fn remove(&self, id: &str) -> Result<Parked, ApiError> {
        let _alone = self.one_at_a_time.lock().await;
        let (delivery, browsed) = self.search(id).await?;
        delivery.receipt.acknowledge();
        close(browsed).await?;
        Ok(Parked::new(delivery.message))
    }

    /// Sends one copy of the message back to where it came from, and then takes it out. A crash between the two leaves
    /// it in both places, which is where it would have been had nobody asked.
    pub async fn replay(&self, id: &str) -> Result<Parked, ApiError> {
        let _alone = self.one_at_a_time.lock().await;
        let (delivery, browsed) = self.search(id).await?;
        let parked = Parked::new(delivery.message);
        let sent = match parked.way_back(&self.topology, &self.senders) {
            Ok((route, message)) => {
                let published = self.broker.publish(route, message).await;
                published.map_err(|error| not_sent(&error, parked.from()))
            }
            Err(reason) => Err(ApiError::NoWayBack(reason)),
        };
        if sent.is_ok() {
            delivery.receipt.acknowledge();
        }
        let closed = close(browsed).await;
        sent.and(closed).map(|()| parked)
    }

    async fn browse(&self, limit: u16) -> Result<Browsed, ApiError> {
        self.broker.browse(self.topology.parking_queue(), limit).await.map_err(|error| away(&error))
    }

    /// The oldest copy of a message, and the look that it was found in.
    async fn search(&self, id: &str) -> Result<(Delivery, Browsed), ApiError> {
        for depth in DEPTHS {
            let mut browsed = self.browse(depth).await?;
            if let Some(place) = browsed.deliveries.iter().position(|delivery| digest(&delivery.message) == id) {
                return Ok((browsed.deliveries.swap_remove(place), browsed));
            }
            let is_all = browsed.deliveries.len() == browsed.waiting;
            close(browsed).await?;
            if is_all {
                break;
            }
        }
        Err(ApiError::NotParked(id.into()))
    }
}

async fn close(browsed: Browsed) -> Result<(), ApiError> {
    browsed.close().await.map_err(|error| away(&error))
}

fn away(error: &BrowseError) -> ApiError {
    ApiError::BrokerAway(error.to_string())
}

fn not_sent(error: &PublishError, from: Option<&str>) -> ApiError {
    match error {
        PublishError::Returned(_) => ApiError::NoWayBack(format!("the queue {} is gone", from.unwrap_or_default())),
        PublishError::TooLarge { .. } => ApiError::NoWayBack(error.to_string()),
        PublishError::Away | PublishError::Refused | PublishError::Unknown => ApiError::BrokerAway(error.to_string()),
    }
}

impl Parked {
    fn new(message: Message) -> Self {
        Self { id: digest(&message), message }
    }

    /// The queue that it came from.
    pub fn from(&self) -> Option<&str> {
        self.text("parked-from").or_else(|| self.text("x-first-death-queue"))
    }

    /// Why it is here: what its taker said, or RabbitMQ when nobody took it.
    pub fn reason(&self) -> Option<&str> {
        let unreadable = self.message.r#type.strip_prefix(UNREADABLE);
        unreadable.or_else(|| self.text("parked-reason")).or_else(|| self.text("x-first-death-reason"))
    }

    /// Both who put it here and, where that was the API because of its sender, who sent it before.
    fn check_sender(&self, senders: &Senders) -> Result<(), Untaken> {
        senders.check(self.message.user_id.as_deref())?;
        match self.text(PARKED_SENDER) {
            Some(sender) => senders.check(Some(sender).filter(|sender| !sender.is_empty())),
            None => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.message.headers.iter().find_map(|(own, value)| match value {
            Header::Text(text) if own == name => Some(text.as_str()),
            _ => None,
        })
    }

    /// The route to the queue that it came from, and the message as it was there.
    fn way_back(&self, topology: &Topology, senders: &Senders) -> Result<(Route, Message), String> {
        self.check_sender(senders).map_err(|reason| reason.to_string())?;
        let from = self.from().ok_or("nobody noted which queue it came from")?;
        let route =
            topology.route_of(from).ok_or_else(|| format!("{from} is no queue that messages are sent back to"))?;
        if self.message.r#type.starts_with(UNREADABLE) {
            return Err("a part of it cannot be read, so it cannot be sent either".into());
        }
        let mut message = self.message.clone();
        message.headers.retain(|(name, _)| !OF_PARKING.iter().any(|prefix| name.starts_with(prefix)));
        Ok((route, message))
    }
}

/// A short name for a message, made of all there is of it.
fn digest(message: &Message) -> String {
    let Message { r#type, message_id, correlation_id, content_type, user_id, expiration, priority, headers, body } =
        message;
    let mut sha = Sha256::new();
    let properties = (r#type, message_id, correlation_id, content_type, user_id, expiration, priority, headers);
    sha.update(format!("{properties:?}"));
    sha.update(body);
    let bytes = sha.finalize();
    bytes.iter().take(ID_LENGTH / 2).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parked(headers: &[(&'static str, &str)]) -> Parked {
        let headers = headers.iter().map(|(name, text)| ((*name).into(), Header::from(*text))).collect();
        Parked::new(Message { r#type: "buzzer.outcome.v9".into(), headers, body: "{".into(), ..Message::default() })
    }

    #[test]
    fn a_message_is_named_after_all_there_is_of_it() {
        let one = parked(&[("kind", "echo")]);
        assert_eq!(one.id.len(), ID_LENGTH);
        assert_eq!(one.id, parked(&[("kind", "echo")]).id);
        assert_ne!(one.id, parked(&[("kind", "ecco")]).id);
        assert_ne!(one.id, Parked::new(Message { body: "}".into(), ..one.message.clone() }).id);
    }

    #[test]
    fn where_it_came_from_and_why_is_what_its_taker_said_or_rabbitmq() {
        let by_taker = parked(&[("parked-from", "b.replies.v1"), ("parked-reason", "its type is wrong")]);
        assert_eq!((by_taker.from(), by_taker.reason()), (Some("b.replies.v1"), Some("its type is wrong")));
        let dead = parked(&[("x-first-death-queue", "b.replies.v1"), ("x-first-death-reason", "delivery_limit")]);
        assert_eq!((dead.from(), dead.reason()), (Some("b.replies.v1"), Some("delivery_limit")));
        // Its taker could only tell that this is no type it knows.
        let mut unreadable = by_taker;
        unreadable.message.r#type = format!("{UNREADABLE}its type is not UTF-8").into();
        assert_eq!(unreadable.reason(), Some("its type is not UTF-8"));
        assert_eq!((parked(&[]).from(), parked(&[]).reason()), (None, None));
    }

    #[test]
    fn it_goes_back_as_it_was_to_the_queue_that_it_came_from() {
        let topology = Topology::new("b");
        let headers = [("parked-from", "b.replies.v1"), ("parked-reason", "?"), ("result", "succeeded")];
        let (route, message) = parked(&headers).way_back(&topology, &Senders::Anybody).unwrap();
        assert_eq!(route, topology.outcome());
        assert_eq!(message.headers, [("result".into(), Header::from("succeeded"))]);
        for nowhere in ["b.parking.v1", "b.control.x", "other"] {
            let refused = parked(&[("parked-from", nowhere)]).way_back(&topology, &Senders::Anybody).unwrap_err();
            assert!(refused.contains(nowhere), "{refused}");
        }
        assert!(parked(&[]).way_back(&topology, &Senders::Anybody).is_err());
        let mut unreadable = parked(&headers);
        unreadable.message.r#type = format!("{UNREADABLE}its type is not UTF-8").into();
        assert!(unreadable.way_back(&topology, &Senders::Anybody).is_err());
    }

    #[test]
    fn what_a_stranger_sent_goes_back_under_nobodys_name() {
        let (topology, senders) = (Topology::new("b"), Senders::new(&"worker".parse().unwrap(), "api"));
        let way_back = |user: Option<&str>, mark: &[(&'static str, &str)]| {
            let mut parked = parked(&[&[("parked-from", "b.replies.v1")], mark].concat());
            parked.message.user_id = user.map(Into::into);
            parked.way_back(&topology, &senders).map(|(_, message)| message.headers)
        };
        // The API parked what it could not read, a worker parked something itself.
        for believed in ["api", "worker"] {
            assert_eq!(way_back(Some(believed), &[]), Ok(Vec::new()));
        }
        // The API parked it because of its sender. Who has been named since is believed.
        let refused = way_back(Some("api"), &[(PARKED_SENDER, "guest")]).unwrap_err();
        assert!(refused.contains("\"guest\", which BUZZER_WORKER_USER does not name"), "{refused}");
        assert!(way_back(Some("api"), &[(PARKED_SENDER, "")]).unwrap_err().contains("does not say which user"));
        assert_eq!(way_back(Some("api"), &[(PARKED_SENDER, "worker")]), Ok(Vec::new()));
        // A stranger put it here, and calls it another's.
        for forged in [&[][..], &[(PARKED_SENDER, "worker")], &[("x-first-death-queue", "b.replies.v1")]] {
            assert!(way_back(Some("guest"), forged).is_err() && way_back(None, forged).is_err(), "{forged:?}");
        }
    }
}
