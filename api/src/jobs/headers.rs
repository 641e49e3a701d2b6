//! What the headers of a submission ask for.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::WAIT_MAX;
use super::key::KeyName;
use crate::problem::ApiError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The idempotency key, if there is one.
pub(super) fn key(headers: &HeaderMap) -> Result<Option<KeyName>, ApiError> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let name = value.to_str().ok().and_then(KeyName::read);
    let bad = || ApiError::BadHeader("`Idempotency-Key` is 1 to 255 visible ASCII characters.".into());
    name.ok_or_else(bad).map(Some)
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
}
