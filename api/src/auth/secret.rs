use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::store::KeyHash;

/// By it people, and programs that look for secrets, know a key when they see one.
const PREFIX: &str = "bz_";
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
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random).map_err(NoRandomness)?;
        Ok(Self::of(random))
    }

    fn of(random: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random)))
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
        write!(f, "Secret({PREFIX}…)")
    }
}

impl FromStr for Secret {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let random = text.strip_prefix(PREFIX).and_then(|random| URL_SAFE_NO_PAD.decode(random).ok());
        match random.map(<[u8; RANDOM_BYTES]>::try_from) {
            Some(Ok(random)) => Ok(Self::of(random)),
            _ => Err(NotAKey),
        }
    }
}

/// A text that cannot be an API key. Does not repeat the text, which may be one with a letter missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an API key is `bz_` and 43 more characters, as `buzzer keys create` printed it")]
pub struct NotAKey;

/// Why no key can be made.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness to make a key of: {0}; see to that, and try again")]
pub struct NoRandomness(getrandom::Error);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_back_and_anything_else_refused() {
        let secret = Secret::of([0xff; 32]);
        assert_eq!(secret.reveal(), format!("bz_{}8", "_".repeat(42)));
        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        let short = &secret.reveal()[..45];
        for bad in ["", "bz_", short, &format!("{}x", secret.reveal()), &secret.reveal().replacen("bz_", "BZ_", 1)] {
            assert_eq!(bad.parse::<Secret>(), Err(NotAKey), "{bad}");
        }
    }

    #[test]
    fn two_secrets_differ_and_neither_is_printed() {
        let (one, other) = (Secret::random().unwrap(), Secret::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(format!("{one:?}"), "Secret(bz_…)");
        assert!(!format!("{:?}", one.hash()).contains(&one.reveal()[3..]));
    }
}
