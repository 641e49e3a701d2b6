//! When a service that said no may be called again.

use std::time::{Duration, SystemTime};

use buzzer_shared::time::Time;
use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

/// A service that asks for more patience than this is asked again after it.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// When a refused call may be made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    Never,
    AsThePolicyHasIt,
    After(Duration),
}

/// Whether and when a call that was answered so may do better. A service that is busy or broken gets another chance;
/// one that does not want the call as it is does not.
pub(crate) fn again(status: StatusCode, headers: &HeaderMap, now: Time) -> Again {
    if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
        return Again::Never;
    }
    // A wait of nothing is no wish: the policy spreads out what failed together.
    match retry_after(headers, now).filter(|wait| !wait.is_zero()) {
        Some(wait) => Again::After(wait.min(MAX_WAIT)),
        None => Again::AsThePolicyHasIt,
    }
}

/// How long a server asks to be left alone: seconds, or until a date (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap, now: Time) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some((Time::from_millis(0) + date).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    /// 2026-11-22T17:14:00Z.
    const NOW: Time = Time::from_millis(1_795_367_640_000);

    fn waits(status: u16, retry_after: Option<&'static str>) -> Again {
        let header = retry_after.map(|text| (RETRY_AFTER, HeaderValue::from_static(text)));
        again(StatusCode::from_u16(status).unwrap(), &header.into_iter().collect(), NOW)
    }

    #[test]
    fn a_busy_or_broken_service_is_called_again() {
        for status in [429, 500, 502, 503, 504, 599] {
            assert_eq!(waits(status, None), Again::AsThePolicyHasIt, "{status}");
            assert_eq!(waits(status, Some("7")), Again::After(Duration::from_secs(7)), "{status}");
        }
        for status in [400, 401, 403, 404, 408, 409, 410, 422, 425, 451] {
            assert_eq!(waits(status, Some("7")), Again::Never, "{status}");
        }
    }

    #[test]
    fn retry_after_has_seconds_or_a_date_and_is_believed_for_a_day() {
        let wait = |text| waits(503, Some(text));
        assert_eq!(wait("Sun, 22 Nov 2026 17:15:30 GMT"), Again::After(Duration::from_secs(90)));
        for (text, seconds) in [("86400", 86400), ("86401", 86400), ("18446744073709551615", 86400), (" 3 ", 3)] {
            assert_eq!(wait(text), Again::After(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(wait("Fri, 31 Dec 9999 23:59:59 GMT"), Again::After(MAX_WAIT));
        for text in ["0", "Sun, 22 Nov 2026 17:13:59 GMT", "soon", "-1", "1.5", "", "99999999999999999999"] {
            assert_eq!(wait(text), Again::AsThePolicyHasIt, "{text}");
        }
    }
}
