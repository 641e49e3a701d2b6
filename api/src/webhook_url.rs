//! The URLs that webhooks may have.

use buzzer_shared::egress::{AllowList, Reach, Refused};
use url::Url;

/// So many bytes a URL may have.
const LENGTH_MAX: usize = 2048;

/// Why a webhook cannot be there. Each text says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    #[error("write a whole URL, like https://example.com/buzzer")]
    NoUrl,
    #[error("at most {LENGTH_MAX} characters are taken")]
    TooLong,
    #[error("only https and http can be called")]
    WrongScheme,
    #[error("a user name or password does not belong into a URL: what is sent is signed, check that")]
    Credentials,
    #[error("this address is not public; `BUZZER_EGRESS_ALLOW`, a setting of APIs and workers, can allow it")]
    NotAllowed,
    #[error(
        "use https: what is sent without it stays in the networks that `BUZZER_EGRESS_ALLOW`, a setting of APIs and workers, \
         names"
    )]
    Plain,
}

/// A URL that a webhook may have, in its usual notation. What its name resolves to is checked by the worker that calls it.
///
/// # Errors
/// See [`BadUrl`].
pub fn read(text: &str, allow: &AllowList) -> Result<String, BadUrl> {
    if text.len() > LENGTH_MAX {
        return Err(BadUrl::TooLong);
    }
    let mut url = Url::parse(text).map_err(|_| BadUrl::NoUrl)?;
    url.set_fragment(None);
    match Reach::of_webhook(&url, allow.clone()).check(&url) {
        // The notation may be longer than what was written.
        Ok(()) if url.as_str().len() > LENGTH_MAX => Err(BadUrl::TooLong),
        Ok(()) => Ok(url.into()),
        Err(Refused::WrongScheme) => Err(BadUrl::WrongScheme),
        Err(Refused::Credentials) => Err(BadUrl::Credentials),
        Err(Refused::NotAllowed) if url.scheme() == "http" && is_fine_encrypted(&url, allow) => Err(BadUrl::Plain),
        Err(Refused::NotAllowed) => Err(BadUrl::NotAllowed),
    }
}

fn is_fine_encrypted(url: &Url, allow: &AllowList) -> bool {
    Reach::public_and(allow.clone()).check(url).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_in_its_usual_notation_or_refused_with_the_way_out() {
        let (none, some) = (AllowList::default(), "10.0.0.0/8,127.0.0.1".parse().unwrap());
        for (text, by_default, by_name) in [
            ("https://Example.com:443/a b#c", Ok("https://example.com/a%20b"), Ok("https://example.com/a%20b")),
            ("https://8.8.8.8", Ok("https://8.8.8.8/"), Ok("https://8.8.8.8/")),
            ("https://0xa.1/", Err(BadUrl::NotAllowed), Ok("https://10.0.0.1/")),
            ("http://10.0.0.1/", Err(BadUrl::NotAllowed), Ok("http://10.0.0.1/")),
            ("http://localhost:1/", Err(BadUrl::NotAllowed), Ok("http://localhost:1/")),
            ("https://169.254.169.254/", Err(BadUrl::NotAllowed), Err(BadUrl::NotAllowed)),
            ("https://[::ffff:127.0.0.2]/", Err(BadUrl::NotAllowed), Err(BadUrl::NotAllowed)),
            ("http://example.com/", Err(BadUrl::Plain), Ok("http://example.com/")),
            ("http://8.8.8.8/", Err(BadUrl::Plain), Err(BadUrl::Plain)),
            ("https://user@example.com/", Err(BadUrl::Credentials), Err(BadUrl::Credentials)),
            ("ftp://example.com/", Err(BadUrl::WrongScheme), Err(BadUrl::WrongScheme)),
            ("example.com/hook", Err(BadUrl::NoUrl), Err(BadUrl::NoUrl)),
            ("", Err(BadUrl::NoUrl), Err(BadUrl::NoUrl)),
        ] {
            let expected = |result: Result<&str, BadUrl>| result.map(String::from);
            assert_eq!(read(text, &none), expected(by_default), "{text}");
            assert_eq!(read(text, &some), expected(by_name), "{text}");
        }
        let long = |length: usize| format!("https://a.example/{}", "x".repeat(length - 18));
        assert!(read(&long(LENGTH_MAX), &none).is_ok());
        assert_eq!(read(&long(LENGTH_MAX + 1), &none), Err(BadUrl::TooLong));
        let wide = format!("https://a.example/{}", "ä".repeat(800));
        assert_eq!(read(&wide, &none), Err(BadUrl::TooLong));
    }
}
