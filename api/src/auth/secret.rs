use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::store::{KeyHash, TicketHash};

/// By them people, and programs that look for secrets, know a key or a ticket when they see one.
const KEY_PREFIX: &str = "bz_";
const TICKET_PREFIX: &str = "bt_";
const RANDOM_BYTES: usize = 32;

/// The text of an API key: `bz_` and 43 characters of base64url. Shown once, when it is made, and never again.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A new one, from the randomness of the operating system.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn random() -> Result<Self, NoRandomness> {
        random().map(|random| Self(written(KEY_PREFIX, random)))
    }

    /// The text itself, for whom it was made for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(&self.0)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({KEY_PREFIX}…)")
    }
}

impl FromStr for Secret {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        read(KEY_PREFIX, text).map(Self).ok_or(NotAKey)
    }
}

/// The text of a ticket: `bt_` and 43 characters of base64url. Shown once, when it is made.
#[derive(Clone, PartialEq, Eq)]
pub struct TicketSecret(String);

impl TicketSecret {
    /// A new one, from the randomness of the operating system.
    ///
    /// # Errors
    /// When the system has none to give.
    pub fn random() -> Result<Self, NoRandomness> {
        random().map(|random| Self(written(TICKET_PREFIX, random)))
    }

    /// The text itself, for whom it was made for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    pub fn hash(&self) -> TicketHash {
        TicketHash::of(&self.0)
    }
}

impl fmt::Debug for TicketSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketSecret({TICKET_PREFIX}…)")
    }
}

impl FromStr for TicketSecret {
    type Err = NotATicket;

    fn from_str(text: &str) -> Result<Self, NotATicket> {
        read(TICKET_PREFIX, text).map(Self).ok_or(NotATicket)
    }
}

fn random() -> Result<[u8; RANDOM_BYTES], NoRandomness> {
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(NoRandomness)?;
    Ok(random)
}

fn written(prefix: &str, random: [u8; RANDOM_BYTES]) -> String {
    format!("{prefix}{}", URL_SAFE_NO_PAD.encode(random))
}

fn read(prefix: &str, text: &str) -> Option<String> {
    let random = URL_SAFE_NO_PAD.decode(text.strip_prefix(prefix)?).ok()?;
    (random.len() == RANDOM_BYTES).then(|| text.to_owned())
}

/// A text that cannot be an API key. Does not repeat the text, which may be one with a letter missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an API key is `bz_` and 43 more characters, as `buzzer keys create` printed it")]
pub struct NotAKey;

/// A text that cannot be a ticket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a ticket is `bt_` and 43 more characters, as `POST /v1/tickets` answered it")]
pub struct NotATicket;

/// Why no key can be made, and no ticket.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness to make a key of: {0}; see to that, and try again")]
pub struct NoRandomness(getrandom::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_and_anything_else_refused() {
        let text = written(KEY_PREFIX, [0xff; 32]);
        assert_eq!(text, format!("bz_{}8", "_".repeat(42)));
        assert_eq!(text.parse(), Ok(Secret(text.clone())));
        let ticket = written(TICKET_PREFIX, [0xff; 32]);
        assert_eq!(ticket.parse(), Ok(TicketSecret(ticket.clone())));
        for bad in ["", "bz_", &text[..45], &format!("{text}x"), &text.replacen("bz_", "BZ_", 1), &ticket] {
            assert_eq!(bad.parse::<Secret>(), Err(NotAKey), "{bad}");
        }
        for bad in ["", "bt_", &ticket[..45], &format!("{ticket}x"), &text] {
            assert_eq!(bad.parse::<TicketSecret>(), Err(NotATicket), "{bad}");
        }
    }

    #[test]
    fn two_secrets_differ_and_neither_is_printed() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(format!("{one:?}"), "Secret(bz_…)");
        assert!(!format!("{:?}", one.hash()).contains(&one.reveal()[3..]));
        assert_ne!(TicketSecret::random().unwrap(), TicketSecret::random().unwrap());
        assert_eq!(format!("{:?}", TicketSecret::random().unwrap()), "TicketSecret(bt_…)");
    }
}
