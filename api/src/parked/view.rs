use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use buzzer_shared::message::Header;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::parking::Parked;

/// So many bytes of a body are shown in a list.
const BEGINNING: usize = 1024;

/// A message that nobody could use.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ParkedView {
    /// A digest of the message. Copies of one message share it.
    id: String,
    /// The queue that it came from.
    from: Option<String>,
    /// Why nobody could use it.
    reason: Option<String>,
    r#type: String,
    message_id: Option<String>,
    correlation_id: Option<String>,
    content_type: String,
    headers: BTreeMap<String, Value>,
    /// Bytes in the body.
    size: usize,
    /// The body, if it is text; in a list its first KiB.
    body: Option<String>,
    /// The body, if it is no text. Not in lists.
    body_base64: Option<String>,
}

impl ParkedView {
    pub(super) fn whole(parked: Parked) -> Self {
        let text = std::str::from_utf8(&parked.message.body).ok().map(ToOwned::to_owned);
        let base64 = text.is_none().then(|| BASE64_STANDARD.encode(&parked.message.body));
        Self::new(parked, text, base64)
    }

    pub(super) fn beginning(parked: Parked) -> Self {
        let text = std::str::from_utf8(&parked.message.body).ok();
        let text = text.map(|text| text[..text.floor_char_boundary(BEGINNING)].to_owned());
        Self::new(parked, text, None)
    }

    fn new(parked: Parked, body: Option<String>, body_base64: Option<String>) -> Self {
        let (from, reason) = (parked.from().map(Into::into), parked.reason().map(Into::into));
        let Parked { id, message } = parked;
        let value = |header| match header {
            Header::Text(text) => json!(text),
            Header::Int(number) => json!(number),
            Header::Bool(value) => json!(value),
        };
        Self {
            id,
            from,
            reason,
            r#type: message.r#type.into_owned(),
            message_id: message.message_id,
            correlation_id: message.correlation_id,
            content_type: message.content_type.into_owned(),
            headers: message.headers.into_iter().map(|(name, header)| (name.into_owned(), value(header))).collect(),
            size: message.body.len(),
            body,
            body_base64,
        }
    }
}

#[cfg(test)]
mod tests {
    use buzzer_shared::message::Message;

    use super::*;

    fn parked(body: &[u8]) -> Parked {
        let message = Message { body: body.to_vec().into(), ..Message::default() };
        Parked { id: "0123456789abcdef".into(), message }
    }

    #[test]
    fn a_list_shows_the_beginning_of_a_text() {
        let long = "é".repeat(BEGINNING);
        let view = ParkedView::beginning(parked(long.as_bytes()));
        assert_eq!((view.size, view.body.unwrap().len()), (2 * BEGINNING, BEGINNING));
        let odd = format!("a{long}");
        assert_eq!(ParkedView::beginning(parked(odd.as_bytes())).body.unwrap().len(), BEGINNING - 1);
        assert_eq!(ParkedView::whole(parked(long.as_bytes())).body.unwrap(), long);
    }

    #[test]
    fn a_body_that_is_no_text_is_shown_in_base64() {
        let view = ParkedView::whole(parked(&[0xff, 0]));
        assert_eq!((view.body, view.body_base64.as_deref()), (None, Some("/wA=")));
    }
}
