use buzzer_shared::kind::Kind;
use schemars::JsonSchema;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::store::Key;

/// An idempotency key as a client writes it: 1 to 255 visible ASCII characters.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct KeyName(#[schemars(length(min = 1, max = 255), regex(pattern = "^[ -~]*$"))] String);

impl KeyName {
    /// `None` for what is no such text.
    pub(super) fn read(text: &str) -> Option<Self> {
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        fits.then(|| Self(text.into()))
    }

    /// The key with all that it covers, kind and body: the same with anything else is a mistake worth telling.
    pub(super) fn over(self, kind: &Kind, body: &[u8]) -> Key {
        let mut hash = Sha256::new();
        hash.update(kind.as_str());
        hash.update([0]);
        hash.update(body);
        Key { name: self.0, fingerprint: hash.finalize().into() }
    }
}

impl<'de> Deserialize<'de> for KeyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::read(&text).ok_or_else(|| D::Error::custom("a key is 1 to 255 visible ASCII characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_covers_kind_and_body() {
        let key = |kind: &str, body: &[u8]| KeyName::read("k").unwrap().over(&kind.parse().unwrap(), body).fingerprint;
        assert_eq!(key("echo", b"{}"), key("echo", b"{}"));
        assert_ne!(key("echo", b"{}"), key("echo", b"{ }"));
        assert_ne!(key("echo", b"{}"), key("demo.sleep", b"{}"));
    }

    #[test]
    fn a_key_is_short_and_visible() {
        let longest = "x".repeat(255);
        for good in ["k", "order 7", "~", longest.as_str()] {
            assert!(KeyName::read(good).is_some(), "{good}");
        }
        for bad in ["", "ä", "a\n", "\u{7f}", &"x".repeat(256)] {
            assert!(KeyName::read(bad).is_none(), "{bad}");
        }
    }
}
