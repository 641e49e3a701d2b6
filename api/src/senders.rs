//! Who is believed. RabbitMQ vouches for the user that published a message; without that, whoever may write to its
//! exchanges could end other people's jobs.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use buzzer_shared::message::{Message, Unreadable};

/// The header of a message that is parked because of its sender.
pub const PARKED_SENDER: &str = "parked-sender";

/// Whose words about jobs and workers are taken. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub enum Senders {
    #[default]
    Anybody,
    Users(Arc<BTreeSet<String>>),
}

/// The RabbitMQ users of the workers: names with commas between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerUsers(BTreeSet<String>);

/// Why a message is not taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untaken {
    #[error("it was sent by {0:?}, which BUZZER_WORKER_USER does not name")]
    Stranger(String),
    #[error("it does not say which user sent it, and BUZZER_WORKER_USER is set: a worker sets `user_id`")]
    Nameless,
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Untaken {
    /// A message that is parked because of its sender bears the sender's name, or an empty one. It is parked, and may
    /// be sent back, under the API's own name, which is believed: the mark is all that is left of who sent it.
    pub fn mark(&self, mut parked: Message) -> Message {
        let sender = match self {
            Self::Stranger(user) => user.as_str(),
            Self::Nameless => "",
            Self::Unreadable(_) => return parked,
        };
        parked.headers.push((PARKED_SENDER.into(), sender.into()));
        parked
    }
}

/// A text that names no user.
#[derive(Debug, Clone, thiserror::Error)]
#[error("expected the names of RabbitMQ's users that workers log in as, like `worker` or `worker,worker-b`")]
pub struct InvalidWorkerUsers;

impl Senders {
    /// `own` is the API's own user: what it put back from the parking queue comes from there.
    pub fn new(workers: &WorkerUsers, own: &str) -> Self {
        let mut users = workers.0.clone();
        users.insert(own.into());
        Self::Users(Arc::new(users))
    }

    /// Reads a message, if it comes from somebody who is believed.
    pub fn read<T>(
        &self,
        message: &Message,
        read: impl FnOnce(&Message) -> Result<T, Unreadable>,
    ) -> Result<T, Untaken> {
        self.check(message.user_id.as_deref())?;
        Ok(read(message)?)
    }

    /// Whether a message of that user is taken.
    ///
    /// # Errors
    /// When that user is a stranger, or nobody.
    pub fn check(&self, user: Option<&str>) -> Result<(), Untaken> {
        let Self::Users(users) = self else { return Ok(()) };
        match user {
            Some(user) if users.contains(user) => Ok(()),
            Some(user) => Err(Untaken::Stranger(user.into())),
            None => Err(Untaken::Nameless),
        }
    }
}

impl FromStr for WorkerUsers {
    type Err = InvalidWorkerUsers;

    fn from_str(text: &str) -> Result<Self, InvalidWorkerUsers> {
        let users: BTreeSet<_> = text.split(',').map(|user| user.trim().to_owned()).collect();
        if users.contains("") { Err(InvalidWorkerUsers) } else { Ok(Self(users)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_workers_and_the_api_itself_are_believed_where_users_are_named() {
        let senders = Senders::new(&"worker, other".parse().unwrap(), "api");
        for known in ["worker", "other", "api"] {
            assert_eq!(senders.check(Some(known)), Ok(()));
        }
        assert_eq!(senders.check(Some("guest")), Err(Untaken::Stranger("guest".into())));
        assert_eq!(senders.check(None), Err(Untaken::Nameless));
        assert_eq!(Senders::Anybody.check(None), Ok(()));
    }

    #[test]
    fn users_have_names() {
        assert!("".parse::<WorkerUsers>().is_err());
        assert!("a,,b".parse::<WorkerUsers>().is_err());
    }
}
