use std::time::{Duration, SystemTime};

use buzzer_shared::time::Time;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// How long a server asks to be left alone: seconds, or until a date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some((Time::from_millis(0) + date).since(now))
}
