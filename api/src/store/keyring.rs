//! The API keys, as a store keeps them: by their hash, never with their text.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::str::FromStr;

use async_trait::async_trait;
use buzzer_shared::id::Tenant;
use buzzer_shared::time::Time;
use sha2::{Digest, Sha256};

use super::StoreError;

/// Where the API keys are. Apart from the rest of a store, because another process may use it while an API runs.
#[async_trait]
pub trait Keyring: fmt::Debug + Send + Sync {
    /// Keeps a new key.
    async fn keep_api_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// The key with this hash, also when it is revoked.
    async fn api_key(&self, hash: &KeyHash) -> Result<Option<ApiKey>, StoreError>;

    /// Every key, the oldest first, with those that are revoked.
    async fn api_keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key. One that was revoked before stays as it is. `None`: there is no such key.
    async fn revoke_api_key(&self, id: &KeyId, now: Time) -> Result<Option<ApiKey>, StoreError>;
}

/// What lets a client in, as who, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub hash: KeyHash,
    pub tenant: Tenant,
    /// What it is for.
    pub name: Option<KeyName>,
    pub scopes: Scopes,
    pub created_at: Time,
    pub revoked_at: Option<Time>,
}

impl ApiKey {
    /// What it is listed and revoked by.
    pub fn id(&self) -> KeyId {
        self.hash.id()
    }
}

/// The SHA-256 of a key's text. The text has 256 random bits, so nobody finds it by trying.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of a text, whether or not that is a key.
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// As it was stored; `None` for anything but 32 bytes.
    pub(super) fn from_stored(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().map(Self).ok()
    }

    /// The bytes a store keeps.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What a key with this hash is listed and revoked by.
    pub fn id(&self) -> KeyId {
        KeyId(self.0[..KeyId::BYTES].iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({}…)", self.id())
    }
}

/// The public name of a key: the beginning of its hash, 12 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyId(String);

impl KeyId {
    const BYTES: usize = 6;

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        let valid = text.len() == 2 * Self::BYTES && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if valid { Ok(Self(text.into())) } else { Err(InvalidKeyId) }
    }
}

/// A text that is no id of a key. Does not repeat the text, which may be the key itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the id of a key has 12 characters of 0-9 and a-f; `buzzer keys list` shows all")]
pub struct InvalidKeyId;

/// What a key is for, in somebody's words: 1 to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyName(String);

impl KeyName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = InvalidKeyName;

    fn from_str(text: &str) -> Result<Self, InvalidKeyName> {
        let valid = (1..=100).contains(&text.chars().count()) && !text.chars().any(char::is_control);
        if valid { Ok(Self(text.into())) } else { Err(InvalidKeyName) }
    }
}

/// A text that cannot be the name of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a key has 1 to 100 characters, on one line")]
pub struct InvalidKeyName;

/// Something that not every key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// To see what belongs to all tenants: workers, numbers, parked messages.
    Operator,
}

impl Scope {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        match text {
            "operator" => Ok(Self::Operator),
            _ => Err(InvalidScope),
        }
    }
}

/// A text that is no scope.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is one scope: `operator`")]
pub struct InvalidScope;

/// What a key allows beyond its tenant's own jobs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scopes(BTreeSet<Scope>);

impl Scopes {
    pub fn contain(&self, scope: Scope) -> bool {
        self.0.contains(&scope)
    }

    /// As they were stored. A word that a newer version wrote allows nothing here.
    pub(super) fn from_stored(text: &str) -> Self {
        text.split(' ').filter_map(|word| word.parse().ok()).collect()
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().collect())
    }
}

impl fmt::Display for Scopes {
    /// Words with a blank between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> = self.0.iter().map(|scope| scope.as_str()).collect();
        f.write_str(&words.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_beginning_of_the_hash() {
        // SHA-256 of "abc", FIPS 180-2.
        let id = KeyHash::of("abc").id();
        assert_eq!(id.as_str(), "ba7816bf8f01");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in ["", "ba7816bf8f0", "BA7816BF8F01", "ba7816bf8f0g", "ba7816bf8f01cf"] {
            assert_eq!(bad.parse::<KeyId>(), Err(InvalidKeyId), "{bad}");
        }
    }

    #[test]
    fn scopes_are_read_back_and_unknown_ones_allow_nothing() {
        let operator = Scopes::from_iter([Scope::Operator]);
        assert_eq!(Scopes::from_stored(&operator.to_string()), operator);
        assert_eq!(Scopes::from_stored("later operator"), operator);
        assert_eq!(Scopes::from_stored(&Scopes::default().to_string()), Scopes::default());
    }

    #[test]
    fn a_name_is_short_and_on_one_line() {
        assert!("the shop's web server ☂".parse::<KeyName>().is_ok());
        for bad in ["", "a\nb", "a\u{0}", &"x".repeat(101)] {
            assert_eq!(bad.parse::<KeyName>(), Err(InvalidKeyName), "{bad:?}");
        }
    }
}
