//! Our messages as AMQP has them, and back.

use std::borrow::Cow;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::message::{Header, Message};

/// The delivery mode of a message that outlives the broker.
const PERSISTENT: u8 = 2;
/// How often a quorum queue gave the message out before.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// The same, of RabbitMQ 4.3, with what was handed back.
const ACQUIRED_COUNT: &str = "x-acquired-count";

/// A text that has no room in AMQP: it takes 255 bytes at most for names and ids.
#[derive(Debug, thiserror::Error)]
#[error("{what} has {length} bytes; AMQP takes at most 255")]
pub(super) struct TooLong {
    what: &'static str,
    length: usize,
}

/// A name for AMQP. lapin's own conversion panics on a long one.
pub(super) fn short(what: &'static str, text: &str) -> Result<ShortString, TooLong> {
    ShortString::try_new(text).map_err(|_| TooLong { what, length: text.len() })
}

/// All of a message but its body, in the name of `user`: RabbitMQ takes it in no other.
pub(super) fn properties(message: &Message, user: Option<&ShortString>) -> Result<BasicProperties, TooLong> {
    let mut properties = BasicProperties::default()
        .with_type(short("the type", &message.r#type)?)
        .with_content_type(short("the content type", &message.content_type)?)
        .with_delivery_mode(PERSISTENT);
    if let Some(id) = &message.message_id {
        properties = properties.with_message_id(short("the message id", id)?);
    }
    if let Some(id) = &message.correlation_id {
        properties = properties.with_correlation_id(short("the correlation id", id)?);
    }
    if let Some(user) = user {
        properties = properties.with_user_id(user.clone());
    }
    if let Some(expiration) = message.expiration {
        properties = properties.with_expiration(short("the expiration", &expiration.as_millis().to_string())?);
    }
    if let Some(priority) = message.priority {
        properties = properties.with_priority(priority);
    }
    if !message.headers.is_empty() {
        let mut table = FieldTable::default();
        for (name, value) in &message.headers {
            table.insert(short("a header's name", name)?, to_amqp(value));
        }
        properties = properties.with_headers(table);
    }
    Ok(properties)
}

/// A message as it came, and how often it was delivered before.
pub(super) fn message(properties: &BasicProperties, body: Vec<u8>, redelivered: bool) -> (Message, u32) {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    let table = properties.headers().as_ref();
    let count = table.and_then(|table| table.inner().get(DELIVERY_COUNT)).and_then(integer);
    let redeliveries = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(0).max(u32::from(redelivered));
    let headers = table.into_iter().flat_map(FieldTable::inner).filter_map(|(name, value)| {
        let own = !matches!(name.as_str(), DELIVERY_COUNT | ACQUIRED_COUNT);
        let value = if own { from_amqp(value) } else { None };
        value.map(|value| (Cow::Owned(name.to_string()), value))
    });
    let message = Message {
        r#type: text(properties.kind()).unwrap_or_default().into(),
        message_id: text(properties.message_id()),
        correlation_id: text(properties.correlation_id()),
        content_type: text(properties.content_type()).unwrap_or_default().into(),
        user_id: text(properties.user_id()),
        expiration: text(properties.expiration()).and_then(|millis| millis.parse().ok()).map(Duration::from_millis),
        priority: *properties.priority(),
        headers: headers.collect(),
        body: body.into(),
    };
    (message, redeliveries)
}

fn to_amqp(header: &Header) -> AMQPValue {
    match header {
        Header::Text(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Header::Int(number) => AMQPValue::LongLongInt(*number),
        Header::Bool(value) => AMQPValue::Boolean(*value),
    }
}

/// `None` for what our messages never have: tables, arrays, bytes that are no text.
fn from_amqp(value: &AMQPValue) -> Option<Header> {
    match value {
        AMQPValue::Boolean(value) => Some(Header::Bool(*value)),
        AMQPValue::ShortString(text) => Some(Header::Text(text.to_string())),
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok().map(Header::from),
        number => integer(number).map(Header::Int),
    }
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Message {
        Message {
            r#type: "buzzer.request.v1".into(),
            message_id: Some("m/1".into()),
            correlation_id: Some("m".into()),
            content_type: "application/json".into(),
            user_id: Some("worker".into()),
            expiration: Some(Duration::from_millis(20_000)),
            priority: Some(4),
            headers: vec![
                ("alone".into(), Header::Bool(true)),
                ("attempt".into(), Header::Int(-3)),
                ("kind".into(), Header::Text("é".into())),
            ],
            body: bytes::Bytes::from_static(b"{}"),
        }
    }

    #[test]
    fn a_message_comes_back_as_it_went() {
        for whole in [full(), Message::default()] {
            let user = whole.user_id.as_deref().map(ShortString::from);
            let properties = properties(&whole, user.as_ref()).unwrap();
            assert_eq!(message(&properties, whole.body.to_vec(), false), (whole, 0));
        }
    }

    #[test]
    fn p1_every_message_outlives_the_broker() {
        let properties = properties(&Message::default(), None).unwrap();
        assert_eq!(*properties.delivery_mode(), Some(2));
    }

    #[test]
    fn redeliveries_are_what_the_queue_counts_or_one() {
        let mut table = FieldTable::default();
        table.insert(DELIVERY_COUNT.into(), AMQPValue::LongInt(7));
        let counted = BasicProperties::default().with_headers(table);
        assert_eq!(message(&counted, Vec::new(), true), (Message::default(), 7));
        assert_eq!(message(&BasicProperties::default(), Vec::new(), true).1, 1);
    }

    #[test]
    fn foreign_headers_are_left_out() {
        let mut table = FieldTable::default();
        table.insert("x-death".into(), AMQPValue::FieldArray(Vec::new().into()));
        table.insert("bytes".into(), AMQPValue::LongString(vec![0xff, 0xfe].into()));
        table.insert("kind".into(), AMQPValue::LongString("echo".into()));
        let (read, _) = message(&BasicProperties::default().with_headers(table), Vec::new(), false);
        assert_eq!(read.headers, [("kind".into(), Header::Text("echo".into()))]);
    }

    #[test]
    fn a_long_name_is_an_error() {
        let long = Message { message_id: Some("x".repeat(256)), ..full() };
        assert_eq!(
            properties(&long, None).unwrap_err().to_string(),
            "the message id has 256 bytes; AMQP takes at most 255"
        );
    }
}
