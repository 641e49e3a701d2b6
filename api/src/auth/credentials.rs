use http::request::Parts;
use http::{HeaderMap, header};

use crate::problem::ApiError;

/// The parameter of a query that a ticket stands in. A ticket has no characters that would have to be encoded there.
pub const TICKET: &str = "ticket";

/// What a request has to be let in by. Not looked at yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Credentials<'r> {
    Nothing,
    Key(&'r str),
    Ticket(&'r str),
}

impl<'r> Credentials<'r> {
    /// # Errors
    /// When there is more than one: whoever sent the request does not know as whom.
    pub(super) fn of(parts: &'r Parts) -> Result<Self, ApiError> {
        match (bearer(&parts.headers), ticket(parts.uri.query().unwrap_or_default())?) {
            (None, None) => Ok(Self::Nothing),
            (Some(key), None) => Ok(Self::Key(key)),
            (None, Some(ticket)) => Ok(Self::Ticket(ticket)),
            (Some(_), Some(_)) => {
                Err(ApiError::BadQuery("Send an API key or a `ticket`, not both: each lets in as whose it is.".into()))
            }
        }
    }
}

/// What follows `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The ticket in a query. One without a value is none, as with every parameter.
fn ticket(query: &str) -> Result<Option<&str>, ApiError> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut tickets = pairs.filter(|(name, value)| *name == TICKET && !value.is_empty()).map(|(_, value)| value);
    match (tickets.next(), tickets.next()) {
        (first, None) => Ok(first),
        (_, Some(_)) => Err(ApiError::BadQuery("There is more than one `ticket`: send one.".into())),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(path: &str, authorization: Option<&str>) -> Parts {
        let request = Request::builder().uri(path);
        let request = match authorization {
            Some(value) => request.header(header::AUTHORIZATION, value),
            None => request,
        };
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_key_follows_the_word_bearer() {
        for good in ["Bearer bz_a", "bearer bz_a", "BEARER   bz_a "] {
            assert_eq!(Credentials::of(&parts("/", Some(good))).unwrap(), Credentials::Key("bz_a"), "{good}");
        }
        for bad in ["bz_a", "Basic bz_a", "Bearer", "Bearer ", "Bearerbz_a"] {
            assert_eq!(Credentials::of(&parts("/", Some(bad))).unwrap(), Credentials::Nothing, "{bad}");
        }
        assert_eq!(Credentials::of(&parts("/", None)).unwrap(), Credentials::Nothing);
    }

    #[test]
    fn a_ticket_stands_in_the_query() {
        for good in ["/?ticket=bt_a", "/?after=3&ticket=bt_a", "/?ticket=bt_a&wait=1", "/?ticket=&ticket=bt_a"] {
            assert_eq!(Credentials::of(&parts(good, None)).unwrap(), Credentials::Ticket("bt_a"), "{good}");
        }
        for none in ["/ticket=bt_a", "/?", "/?ticket", "/?ticket=", "/?Ticket=bt_a", "/?tickets=bt_a"] {
            assert_eq!(Credentials::of(&parts(none, None)).unwrap(), Credentials::Nothing, "{none}");
        }
        // A proxy in front may have a password of its own, which browsers send along.
        let behind_a_proxy = parts("/?ticket=bt_a", Some("Basic YTpi"));
        assert_eq!(Credentials::of(&behind_a_proxy).unwrap(), Credentials::Ticket("bt_a"));
    }

    #[test]
    fn more_than_one_is_refused_and_not_repeated() {
        for (path, authorization) in [("/?ticket=bt_a", Some("Bearer bz_a")), ("/?ticket=bt_a&ticket=bt_a", None)] {
            let error = Credentials::of(&parts(path, authorization)).unwrap_err();
            assert!(matches!(&error, ApiError::BadQuery(said) if !said.contains("_a")), "{path}: {error}");
        }
    }
}
