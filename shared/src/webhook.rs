//! Webhooks as the Standard Webhooks specification has them: secrets, what is posted, and how it is signed.
//!
//! The API writes and signs a [`Post`] whenever it sends a delivery out; a worker sends it and tells with [`Posted`] what
//! came of it. The secret stays where it is kept.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use standardwebhooks::{HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook};
use url::Url;

use crate::time::{Span, Time};

/// The kind of the jobs by which webhooks are delivered. Nobody can submit one.
pub const KIND: &str = "webhook.deliver";
/// So many bytes of an answer are read and kept.
pub const ANSWER_MAX: usize = 1024;

/// By it people, and programs that look for secrets, know one when they see it.
const PREFIX: &str = "whsec_";
/// As many bytes as a new secret has, and those that the specification allows.
const RANDOM_BYTES: usize = 32;
const BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What a webhook endpoint and Buzzer alone know: `whsec_` and Base64.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret of these bytes, which must come from a good source of randomness.
    pub fn of(random: [u8; RANDOM_BYTES]) -> Self {
        Self(format!("{PREFIX}{}", BASE64_STANDARD.encode(random)))
    }

    /// The text itself, for whom it was made for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn signature(&self, id: &str, timestamp: i64, body: &str) -> String {
        let key = Webhook::new(&self.0).expect("a secret was read as Base64 when it was made");
        key.sign(id, timestamp, body.as_bytes()).expect("a text can be signed")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({PREFIX}…)")
    }
}

impl FromStr for Secret {
    type Err = NotASecret;

    fn from_str(text: &str) -> Result<Self, NotASecret> {
        let bytes = text.strip_prefix(PREFIX).and_then(|base64| BASE64_STANDARD.decode(base64).ok());
        match bytes {
            Some(bytes) if BYTES.contains(&bytes.len()) => Ok(Self(text.into())),
            _ => Err(NotASecret),
        }
    }
}

/// A text that cannot be the secret of a webhook. Does not repeat the text, which may be one with a letter missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the secret of a webhook is `whsec_` and 24 to 64 bytes in Base64")]
pub struct NotASecret;

/// What is posted: `{type, timestamp, data}`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Body<'a> {
    /// The type of the event, like `job.succeeded`.
    pub r#type: &'a str,
    /// When it happened.
    pub timestamp: Time,
    /// The event as every transport shows it.
    #[schemars(with = "serde_json::Value")]
    pub data: &'a RawValue,
}

impl Body<'_> {
    /// As JSON: the very bytes that are signed and sent.
    ///
    /// # Errors
    /// Never, as far as anybody knows: all of it is plain data.
    pub fn to_json(&self) -> Result<Box<RawValue>, serde_json::Error> {
        serde_json::value::to_raw_value(self)
    }
}

/// The headers of a POST, as [`Signed`] has them.
pub const HEADERS: [&str; 3] = [HEADER_WEBHOOK_ID, HEADER_WEBHOOK_TIMESTAMP, HEADER_WEBHOOK_SIGNATURE];

/// What stands in the headers of a POST.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Of the delivery: the same for each of its attempts.
    pub id: String,
    /// When this attempt was signed, in seconds since 1970. Receivers take no older one than five minutes.
    pub timestamp: i64,
    /// One signature for each secret that is valid, with blanks between them.
    pub signature: String,
}

impl Signed {
    /// Signs a body with every secret that is valid now.
    pub fn with<'a>(secrets: impl IntoIterator<Item = &'a Secret>, id: &str, now: Time, body: &str) -> Self {
        let timestamp = now.as_millis().div_euclid(1000);
        let signatures = secrets.into_iter().map(|secret| secret.signature(id, timestamp, body));
        Self { id: id.into(), timestamp, signature: signatures.collect::<Vec<_>>().join(" ") }
    }

    /// The headers, by their names.
    pub fn headers(&self) -> [(&'static str, String); 3] {
        let [id, timestamp, signature] = HEADERS;
        [(id, self.id.clone()), (timestamp, self.timestamp.to_string()), (signature, self.signature.clone())]
    }
}

/// One attempt to deliver: what a worker is to post.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Post {
    /// Where to.
    #[schemars(with = "String", extend("format" = "uri"))]
    pub url: Url,
    pub signed: Signed,
    /// The body, byte for byte.
    #[schemars(with = "serde_json::Value")]
    pub body: Box<RawValue>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Posted {
    pub duration: Span,
    pub answer: Answer,
}

/// What came back, if anything did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    Response {
        status: u16,
        /// The first bytes of the body, as text; at most [`ANSWER_MAX`].
        body: String,
        /// How long the endpoint asks to be left alone.
        retry_after: Option<Span>,
    },
    /// Why there was no response.
    Nothing(String),
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    const NOW: Time = Time::from_millis(1_795_000_000_999);

    fn secret(byte: u8) -> Secret {
        Secret::of([byte; RANDOM_BYTES])
    }

    fn data(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn a_secret_is_read_back_not_printed_and_anything_else_refused() {
        let secret = secret(0xff);
        assert_eq!(secret.reveal().parse(), Ok(secret.clone()));
        assert_eq!(format!("{secret:?}"), "Secret(whsec_…)");
        let base64 = |bytes: usize| format!("whsec_{}", BASE64_STANDARD.encode(vec![1; bytes]));
        assert!(base64(24).parse::<Secret>().is_ok() && base64(64).parse::<Secret>().is_ok());
        for bad in ["", "whsec_", "whsec_!", &base64(23), &base64(65), &secret.reveal()[6..]] {
            assert_eq!(bad.parse::<Secret>(), Err(NotASecret), "{bad}");
        }
    }

    #[test]
    fn a_body_has_its_data_byte_for_byte() {
        let data = data(r#"{"n": 1.50, "text": "\u0000"}"#);
        let body = Body { r#type: "job.succeeded", timestamp: NOW, data: &data }.to_json().unwrap();
        let expected =
            r#"{"type":"job.succeeded","timestamp":"2026-11-18T11:06:40.999Z","data":{"n": 1.50, "text": "\u0000"}}"#;
        assert_eq!(body.get(), expected);
    }

    /// The example of the specification's own library.
    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let secret: Secret = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD".parse().unwrap();
        let at = Time::from_millis(1_649_367_553_000);
        let body = r#"{"email":"test@example.com","username":"test_user"}"#;
        let signed = Signed::with([&secret], "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk", at, body);
        assert_eq!(signed.signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
        assert_eq!(signed.timestamp, 1_649_367_553);
    }

    #[test]
    fn during_a_rotation_either_secret_verifies_and_no_other() {
        let (old, new) = (secret(1), secret(2));
        let now = crate::time::Clock::now(&crate::time::SystemClock);
        let signed = Signed::with([&new, &old], "id", now, "{}");
        let headers = HeaderMap::from_iter(
            signed.headers().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())),
        );
        let verifies = |secret: &Secret, body: &str| {
            Webhook::new(secret.reveal()).unwrap().verify(body.as_bytes(), &headers).is_ok()
        };
        assert!(verifies(&old, "{}") && verifies(&new, "{}"));
        assert!(!verifies(&secret(3), "{}") && !verifies(&new, "{ }"));
    }

    #[test]
    fn a_post_is_read_as_it_was_written() {
        let body = data(r#"{"n": 1.50,  "text": "ä\""}"#);
        let signed = Signed::with([&secret(1)], "id", NOW, body.get());
        let post = Post { url: "https://example.com/a?b=c".parse().unwrap(), signed, body };
        let read: Post = serde_json::from_str(&serde_json::to_string(&post).unwrap()).unwrap();
        assert_eq!((read.url, read.signed, read.body.get()), (post.url, post.signed, post.body.get()));
    }

    #[test]
    fn what_came_of_a_post_is_read_as_it_was_written() {
        let response =
            Answer::Response { status: 503, body: "busy \u{0}".into(), retry_after: Some(Span::from_secs(7)) };
        for answer in [response, Answer::Nothing("connection refused".into())] {
            let posted = Posted { duration: Span::from_millis(1_234), answer };
            let json = serde_json::to_string(&posted).unwrap();
            assert_eq!(serde_json::from_str::<Posted>(&json).unwrap(), posted, "{json}");
        }
    }
}
