//! The tickets by which browsers look on, as a store keeps them: by their hash, never with their text.

use std::fmt;

use async_trait::async_trait;
use buzzer_shared::id::JobId;
use buzzer_shared::time::Time;
use sha2::{Digest, Sha256};

use super::{KeyHash, StoreError};

/// Where the tickets are.
#[async_trait]
pub trait Tickets: fmt::Debug + Send + Sync {
    /// Keeps a new ticket, unless there are `most` already that were made with the same key and are good at `now`.
    async fn keep_ticket(&self, ticket: &Ticket, most: usize, now: Time) -> Result<Issued, StoreError>;

    /// The ticket with this hash, also when it has expired.
    async fn ticket(&self, hash: &TicketHash) -> Result<Option<Ticket>, StoreError>;

    /// Deletes tickets that have expired, at most `limit`. Tells how many.
    async fn forget_tickets(&self, now: Time, limit: usize) -> Result<usize, StoreError>;
}

/// What lets somebody look for a while, as whoever made it. It has no tenant of its own: its key has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    pub hash: TicketHash,
    /// The key that it was made with; none where nobody needs one.
    pub key: Option<KeyHash>,
    /// The only job that it opens; all of its tenant where none is named.
    pub job: Option<JobId>,
    pub expires_at: Time,
}

impl Ticket {
    pub fn is_good(&self, now: Time) -> bool {
        now < self.expires_at
    }
}

/// The SHA-256 of a ticket's text. The text has 256 random bits, so nobody finds it by trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TicketHash([u8; 32]);

impl TicketHash {
    /// The hash of a text, whether or not that is a ticket.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// The bytes a store keeps.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What became of a new ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Issued {
    Kept,
    /// There are as many as there may be. The first of them expires at `until`.
    TooMany {
        until: Time,
    },
}

impl Issued {
    /// What becomes of one more where so many are good, of which the first expires `until` then.
    pub(super) fn beside(good: i64, until: Option<Time>, most: i64) -> Self {
        match until {
            Some(until) if good >= most => Self::TooMany { until },
            _ => Self::Kept,
        }
    }
}

/// What stands for the key of a ticket that was made without one.
pub(super) const NO_KEY: &[u8] = &[];

/// A key as it stands with a ticket.
pub(super) fn key_bytes(ticket: &Ticket) -> &[u8] {
    ticket.key.as_ref().map_or(NO_KEY, KeyHash::as_bytes)
}

/// The key of a ticket, as it was stored.
///
/// # Errors
/// What is wrong with it.
pub(super) fn key_from_stored(bytes: &[u8]) -> Result<Option<KeyHash>, String> {
    if bytes == NO_KEY {
        return Ok(None);
    }
    KeyHash::from_stored(bytes).map(Some).ok_or_else(|| "a ticket: the hash of its key has not 32 bytes".into())
}
