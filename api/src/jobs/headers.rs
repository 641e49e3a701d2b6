//! What the headers of a submission ask for.

use std::time::Duration;

use buzzer_shared::kind::Kind;
use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use super::WAIT_MAX;
use crate::problem::ApiError;
use crate::store::Key;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The key covers kind and body: the same key with anything else is a mistake worth telling.
pub(super) fn key(headers: &HeaderMap, kind: &Kind, body: &[u8]) -> Result<Option<Key>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let name = value.to_str().ok().filter(|name| (1..=255).contains(&name.len()));
    let Some(name) = name else {
        return Err(ApiError::BadHeader("`Idempotency-Key` is 1 to 255 visible ASCII characters.".into()));
    };
    let mut hash = Sha256::new();
    hash.update(kind.as_str());
    hash.update([0]);
    hash.update(body);
    Ok(Some(Key { name: name.into(), fingerprint: hash.finalize().into() }))
}

/// `Prefer: wait=N` (RFC 7240), at most 60 seconds. A preference that cannot be read is none.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    let waits = preferences.filter_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then_some(value.trim())
    });
    let seconds: u64 = waits.filter_map(|value| value.trim_matches('"').parse().ok()).next()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn prefer(value: &'static str) -> Option<Duration> {
        wait(&HeaderMap::from_iter([(PREFER, HeaderValue::from_static(value))]))
    }

    #[test]
    fn prefer_wait_is_read_as_rfc_7240_has_it() {
        assert_eq!(prefer("wait=10"), Some(Duration::from_secs(10)));
        assert_eq!(prefer("respond-async, Wait=10; x=y"), Some(Duration::from_secs(10)));
        assert_eq!(prefer("wait=3600"), Some(WAIT_MAX));
        assert_eq!(prefer("wait=soon"), None);
        assert_eq!(prefer("respond-async"), None);
    }

    #[test]
    fn a_key_covers_kind_and_body() {
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("k"))]);
        let key = |kind: &str, body: &[u8]| key(&headers, &kind.parse().unwrap(), body).unwrap().unwrap().fingerprint;
        assert_eq!(key("echo", b"{}"), key("echo", b"{}"));
        assert_ne!(key("echo", b"{}"), key("echo", b"{ }"));
        assert_ne!(key("echo", b"{}"), key("demo.sleep", b"{}"));
    }
}
