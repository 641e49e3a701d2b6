//! Which form of an answer a client wants (RFC 9110, 12.5.1).

use http::{HeaderMap, header};

use crate::problem::ApiError;

pub const EVENT_STREAM: &str = "text/event-stream";
pub const JSON: &str = "application/json";

/// Of the media types that are offered, the one that is wanted most; the first, where several are wanted alike.
///
/// # Errors
/// When none of them is wanted.
pub fn best(request: &HeaderMap, offered: &'static [&'static str]) -> Result<&'static str, ApiError> {
    let ranges: Vec<_> = request.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let wanted = ranges.join(",");
    if wanted.trim().is_empty() {
        return offered.first().copied().ok_or(ApiError::NotAcceptable(offered));
    }
    let ranges: Vec<Range<'_>> = wanted.split(',').filter_map(Range::read).collect();
    let quality = |media_type: &str| {
        let fitting = ranges.iter().filter_map(|range| Some((range.precision(media_type)?, range.quality)));
        fitting.max_by_key(|(precision, _)| *precision).map_or(0, |(_, quality)| quality)
    };
    let wanted =
        offered.iter().map(|media_type| (quality(media_type), *media_type)).filter(|(quality, _)| *quality > 0);
    let best = wanted.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map(|(_, media_type)| media_type).ok_or(ApiError::NotAcceptable(offered))
}

/// A part of `Accept`: what it fits, and how much that is wanted, in thousandths.
struct Range<'a> {
    media_type: &'a str,
    quality: u16,
}

impl<'a> Range<'a> {
    /// `None` for what is no range. A weight that cannot be read is none.
    fn read(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|range| range.contains('/'))?;
        let weight =
            parts.filter_map(|part| part.split_once('=')).find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        Some(Self { media_type, quality: weight.map_or(1000, |(_, value)| thousandths(value.trim())) })
    }

    /// How precisely it names a media type; `None` when it means another.
    fn precision(&self, media_type: &str) -> Option<u8> {
        let (family, _) = media_type.split_once('/')?;
        match self.media_type.split_once('/')? {
            ("*", "*") => Some(0),
            (own, "*") if own.eq_ignore_ascii_case(family) => Some(1),
            _ => self.media_type.eq_ignore_ascii_case(media_type).then_some(2),
        }
    }
}

/// Of a weight from 0 to 1 with at most three decimals.
fn thousandths(weight: &str) -> u16 {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let decimals = decimals.get(..3).unwrap_or(decimals);
    let Ok(whole) = whole.parse::<u16>() else { return 1000 };
    format!("{decimals:0<3}")
        .parse::<u16>()
        .map_or(1000, |rest| whole.saturating_mul(1000).saturating_add(rest).min(1000))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(accept: &[&'static str]) -> Option<&'static str> {
        let headers = accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value)));
        best(&headers.collect(), &[EVENT_STREAM, JSON]).ok()
    }

    #[test]
    fn what_is_wanted_most_is_given() {
        for (accept, best) in [
            (&[][..], EVENT_STREAM),
            (&["*/*"], EVENT_STREAM),
            (&["application/json"], JSON),
            (&["text/html, application/*"], JSON),
            (&["Text/Event-Stream; charset=utf-8"], EVENT_STREAM),
            (&["text/event-stream;q=0.5, application/json;q=0.9"], JSON),
            (&["*/*;q=0.1", "application/json"], JSON),
            (&["text/event-stream;q=0, */*"], JSON),
            (&["application/json;q=0.123456, text/*;q=0.2"], EVENT_STREAM),
        ] {
            assert_eq!(of(accept), Some(best), "{accept:?}");
        }
    }

    #[test]
    fn where_nothing_fits_nothing_is_given() {
        for accept in ["text/html", "text/event-stream;q=0, application/json;q=0.0", "nonsense", "*/*;q=0"] {
            assert_eq!(of(&[accept]), None, "{accept}");
        }
    }
}
