use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use url::Url;

use super::call::Call;
use super::failure::Failure;

/// The most redirects that are ever followed.
const MAX_REDIRECTS: u8 = 10;
/// So many bytes of a response are taken unless the job says otherwise.
const MAX_RESPONSE: usize = 256 * 1024;

/// Headers that belong to the connection or follow from URL and body. Set by hand, they could make the server see
/// another request than the one that was checked.
const NOT_TO_BE_SET: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("dependentSchemas" = {
    "body": { "properties": { "json": false, "body_base64": false } },
    "json": { "properties": { "body_base64": false } },
}))]
pub(crate) struct Input {
    /// What to call, by `http` or `https`. Must not hold a user name or a password.
    #[schemars(with = "String", extend("format" = "uri"))]
    url: Url,
    /// How to call it.
    #[serde(default)]
    method: Verb,
    /// What to send along. `Host`, `Content-Length` and what else belongs to the connection cannot be set.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A text to send. Only one of `body`, `json` and `body_base64` can be given.
    body: Option<String>,
    /// Any JSON to send, as it stands here. `Content-Type` is `application/json` unless `headers` has another.
    #[serde(default, deserialize_with = "null_too")]
    #[schemars(!default, with = "Option<serde_json::Value>")]
    json: Option<Box<RawValue>>,
    /// Any bytes to send, in Base64.
    body_base64: Option<String>,
    /// How many redirects to follow. The response after them is the output, whatever it is.
    #[serde(default)]
    #[schemars(range(max = 10))]
    redirects: u8,
    /// The job fails when the response's body has more bytes than this, or more than fit into an output.
    #[serde(default = "max_response")]
    max_response: usize,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
enum Verb {
    #[default]
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Input {
    pub(super) fn redirects(&self) -> u8 {
        self.redirects.min(MAX_REDIRECTS)
    }

    pub(super) fn max_response(&self) -> usize {
        self.max_response
    }
}

impl TryFrom<Input> for Call {
    type Error = Failure;

    fn try_from(input: Input) -> Result<Self, Failure> {
        let mut headers = headers(&input.headers)?;
        let body = match (input.body, input.json, input.body_base64) {
            (None, None, None) => None,
            (Some(text), None, None) => Some(Bytes::from(text)),
            (None, Some(json), None) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
                Some(Bytes::from(String::from(Box::<str>::from(json))))
            }
            (None, None, Some(text)) => Some(Bytes::from(
                BASE64_STANDARD
                    .decode(text)
                    .map_err(|error| Failure::rejected(format!("body_base64 is not Base64: {error}")))?,
            )),
            _ => return Err(Failure::rejected("give one of `body`, `json` and `body_base64`, not several".into())),
        };
        Ok(Call { method: input.method.into(), url: input.url, headers, body })
    }
}

fn headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let name: HeaderName =
            name.parse().map_err(|_| Failure::rejected(format!("{name:?} is not the name of a header")))?;
        if NOT_TO_BE_SET.contains(&name.as_str()) {
            return Err(Failure::rejected(format!("leave the header `{name}` out: it follows from the rest")));
        }
        // The value may be a secret, and stays untold.
        let value = HeaderValue::from_str(value)
            .map_err(|_| Failure::rejected(format!("the header `{name}` has a value that no header can have")))?;
        headers.append(name, value);
    }
    Ok(headers)
}

impl From<Verb> for Method {
    fn from(verb: Verb) -> Self {
        match verb {
            Verb::Get => Method::GET,
            Verb::Head => Method::HEAD,
            Verb::Post => Method::POST,
            Verb::Put => Method::PUT,
            Verb::Patch => Method::PATCH,
            Verb::Delete => Method::DELETE,
            Verb::Options => Method::OPTIONS,
        }
    }
}

/// A field that is there, be it `null`, which is JSON to send like any other.
fn null_too<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::deserialize(deserializer).map(Some)
}

fn max_response() -> usize {
    MAX_RESPONSE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(input: &str) -> Result<Call, Failure> {
        serde_json::from_str::<Input>(input).unwrap().try_into()
    }

    fn refused(input: &str) -> String {
        call(input).unwrap_err().into_job_error().to_string()
    }

    #[test]
    fn a_url_is_enough() {
        let call = call(r#"{"url": "http://example.com"}"#).unwrap();
        assert_eq!((call.method, call.url.as_str(), call.body), (Method::GET, "http://example.com/", None));
        assert!(call.headers.is_empty());
    }

    #[test]
    fn a_body_has_three_forms() {
        let body = |rest: &str| {
            let call = call(&format!(r#"{{"url": "http://a", "method": "POST", {rest}}}"#)).unwrap();
            let of_type = call.headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap().to_owned());
            (call.body.unwrap().to_vec(), of_type)
        };
        let json = Some("application/json".into());
        assert_eq!(body(r#""body": "ä\u0000""#), ("ä\0".into(), None));
        assert_eq!(body(r#""body_base64": "/wA=""#), (vec![0xff, 0], None));
        assert_eq!(body(r#""json": {"b": 1.50,  "a": 1}"#), (br#"{"b": 1.50,  "a": 1}"#.into(), json.clone()));
        assert_eq!(body(r#""json": null"#), ("null".into(), json));
        let own = r#""json": 1, "headers": {"Content-Type": "application/cloudevents+json"}"#;
        assert_eq!(body(own), ("1".into(), Some("application/cloudevents+json".into())));
    }

    #[test]
    fn what_is_wrong_is_told_and_secrets_are_not() {
        for (input, part) in [
            (r#"{"url": "http://a", "body": "", "json": 1}"#, "not several"),
            (r#"{"url": "http://a", "json": null, "body_base64": ""}"#, "not several"),
            (r#"{"url": "http://a", "body_base64": "!"}"#, "not Base64"),
            (r#"{"url": "http://a", "headers": {"a b": ""}}"#, "\"a b\" is not the name of a header"),
            (r#"{"url": "http://a", "headers": {"x": "s3cret\n"}}"#, "`x` has a value"),
            (r#"{"url": "http://a", "headers": {"Host": "b"}}"#, "`host` out"),
            (r#"{"url": "http://a", "headers": {"Transfer-Encoding": "chunked"}}"#, "`transfer-encoding` out"),
        ] {
            let text = refused(input);
            assert!(text.contains(part) && !text.contains("s3cret"), "{text}");
        }
        for input in
            [r#"{"url": "nowhere"}"#, r#"{"url": "http://a", "method": "CONNECT"}"#, r#"{"url": "http://a", "x": 1}"#]
        {
            assert!(serde_json::from_str::<Input>(input).is_err(), "{input}");
        }
    }
}
