//! Whether what is asked and answered over HTTP is as the served document has it. The clients of the tests ask here about
//! each answer, so that every test over HTTP is also a test of the document.
//!
//! What counts: the path, the method, the status, each header, the media type, each field of the body, the type of each
//! problem and event. A server that is away is not asked for its document; the next answer then counts.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use jsonschema::Draft;
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde_json::Value;

use crate::judge::{Judge, Library, lock};

/// What HTTP itself adds to an answer, and `Allow`, which every `405` has.
const OF_HTTP: [&str; 6] = ["allow", "connection", "content-length", "content-type", "date", "transfer-encoding"];
/// What a proxy in front adds.
const OF_A_PROXY: [&str; 2] = ["server", "via"];
/// How a schema is put together of others.
const COMPOSED: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];
const PROBLEM: &str = "application/problem+json";

/// What was asked.
#[derive(Debug, Clone)]
pub struct Asked {
    method: Method,
    url: Url,
    media_type: String,
    body: Option<Bytes>,
}

/// What was answered.
#[derive(Debug)]
pub struct Answered<'a> {
    pub status: StatusCode,
    pub headers: &'a HeaderMap,
    /// `None` of a stream, which is looked at event by event.
    pub body: Option<&'a [u8]>,
}

/// How an answer, or an event, is not as the document has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Deviation {
    pub(crate) at: String,
    pub(crate) what: String,
}

/// Sends a request, and remembers what it asked.
///
/// # Errors
/// When nobody answers.
pub async fn send(request: RequestBuilder) -> reqwest::Result<(Asked, Response)> {
    let (client, request) = request.build_split();
    let request = request?;
    let asked = Asked::of(&request);
    Ok((asked, client.execute(request).await?))
}

impl Asked {
    pub fn of(request: &reqwest::Request) -> Self {
        let media_type = request.headers().get("content-type").and_then(|value| value.to_str().ok());
        let body = match request.body() {
            Some(body) => body.as_bytes().map(Bytes::copy_from_slice),
            None => Some(Bytes::new()),
        };
        Self {
            method: request.method().clone(),
            url: request.url().clone(),
            media_type: media_type.unwrap_or_default().into(),
            body,
        }
    }

    /// Looks whether the answer is as the server's document has it, and returns that, if it can be had.
    ///
    /// # Panics
    /// When the answer is not as it should be.
    pub async fn answered(&self, answered: &Answered<'_>) -> Option<Arc<Document>> {
        if is_of_a_proxy(answered) {
            return None;
        }
        let origin = self.url.origin().ascii_serialization();
        if let Some(known) = lock(&KNOWN).get(&origin).cloned()
            && known.check(self, answered).is_ok()
        {
            return Some(known);
        }
        // A kind may have been announced since, or another server have the port now.
        let document = READ.fetch(&format!("{origin}/openapi.json"), Document::new).await?;
        lock(&KNOWN).insert(origin, Arc::clone(&document));
        let checked = document.check(self, answered);
        checked.unwrap_or_else(|deviation| panic!("not as the document has it: {deviation}"));
        Some(document)
    }
}

/// The documents of the servers that were asked for it, and those that were ever read.
static KNOWN: LazyLock<Mutex<HashMap<String, Arc<Document>>>> = LazyLock::new(Mutex::default);
static READ: LazyLock<Library<Document>> = LazyLock::new(Library::default);

/// One of the documents that were read so far. What they say of webhooks is the same in all.
pub fn any() -> Option<Arc<Document>> {
    READ.any()
}

/// An OpenAPI document, as a judge.
#[derive(Debug)]
pub struct Document {
    judge: Judge,
}

impl Document {
    pub fn new(mut value: Value) -> Self {
        let schemas = value["components"]["schemas"].as_object_mut();
        // Inputs and outputs are what a kind's own schema says.
        let ours = schemas.into_iter().flatten().filter(|(name, _)| !is_of_a_kind(name));
        ours.for_each(|(_, schema)| close(schema));
        Self { judge: Judge::new(value, Draft::Draft202012) }
    }

    /// # Errors
    /// The first thing that is not as the document has it.
    pub fn check(&self, asked: &Asked, answered: &Answered<'_>) -> Result<(), Deviation> {
        let at = format!("{} {} answered {}", asked.method, asked.url.path(), answered.status);
        let deviation = |what| Deviation { at, what };
        match self.operation(&asked.method, asked.url.path()) {
            Ok(operation) => self.check_operation(&operation, asked, answered).map_err(deviation),
            Err(refusals) => self.check_refusal(refusals, answered).map_err(deviation),
        }
    }

    /// # Errors
    /// How this is no event as the document has it.
    pub fn check_event(&self, event: &Value) -> Result<(), Deviation> {
        let deviation = |what| Deviation { at: format!("the event {event}"), what };
        self.judge.fits("/components/schemas/EventView", event).map_err(deviation)
    }

    /// # Errors
    /// How this is no POST to a webhook as the document has it.
    pub fn check_post(&self, headers: &HeaderMap, body: &Value) -> Result<(), Deviation> {
        let name = if body["type"] == "webhook.test" { "webhookTest" } else { "jobEvent" };
        let at = format!("/webhooks/{name}/post");
        let deviation = |what| Deviation { at: format!("the post {body}"), what };
        let parameters = self.judge.document().pointer(&at).map(|post| &post["parameters"]).and_then(Value::as_array);
        for parameter in parameters.into_iter().flatten() {
            let header = parameter["name"].as_str().unwrap_or_default();
            if parameter["required"] == true && !headers.contains_key(header) {
                return Err(deviation(format!("has no {header}")));
            }
        }
        self.judge.fits(&format!("{at}/requestBody/content/application~1json/schema"), body).map_err(deviation)
    }

    /// Where the operation stands; or, where there is none, the problems by which that is said.
    fn operation(&self, method: &Method, path: &str) -> Result<String, &'static [&'static str]> {
        let method = if method == Method::HEAD { "get".into() } else { method.as_str().to_lowercase() };
        let paths = self.judge.document()["paths"].as_object().expect("paths");
        let fitting: Vec<_> = paths.iter().filter(|(template, _)| fits_path(template, path)).collect();
        if fitting.is_empty() {
            return Err(&["/problems/no-such-path"]);
        }
        // What is named outright wins over a parameter.
        let named = |(template, _): &&(&String, &Value)| !template.contains('{');
        let with_method = fitting.iter().filter(|(_, item)| item.get(&method).is_some());
        let best = with_method.clone().find(named).or_else(|| with_method.clone().next());
        let (template, _) = best.ok_or(&["/problems/wrong-method"][..])?;
        Ok(format!("/paths/{}/{method}", escaped(template)))
    }

    fn check_operation(&self, operation: &str, asked: &Asked, answered: &Answered<'_>) -> Result<(), String> {
        let response = format!("{operation}/responses/{}", answered.status.as_u16());
        let documented = self.judge.document().pointer(&response).ok_or("the status is not in the document")?;
        check_headers(documented, answered.headers)?;
        self.check_body(&response, documented, asked, answered)?;
        if answered.status.is_success() || answered.status == StatusCode::NOT_MODIFIED {
            self.check_question(operation, asked)?;
        }
        Ok(())
    }

    fn check_body(&self, at: &str, documented: &Value, asked: &Asked, answered: &Answered<'_>) -> Result<(), String> {
        let Some(body) = answered.body else { return Ok(()) };
        let Some(content) = documented["content"].as_object() else {
            return if body.is_empty() { Ok(()) } else { Err("there should be no body".into()) };
        };
        let media_type = media_type(answered.headers);
        if !content.contains_key(media_type) {
            return Err(format!("{media_type:?} is not among its media types {:?}", content.keys()));
        }
        if asked.method == Method::HEAD || !media_type.ends_with("json") {
            return Ok(());
        }
        let value: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        self.judge.fits(&format!("{at}/content/{}/schema", escaped(media_type)), &value)?;
        let types = documented["x-problem-types"].as_array();
        match types {
            Some(types) if !types.contains(&value["type"]) => Err(format!("{} is not among {types:?}", value["type"])),
            Some(_) if value["status"] != answered.status.as_u16() => Err(format!("it says {}", value["status"])),
            _ => Ok(()),
        }
    }

    /// What was taken must be in the document as something that is taken.
    fn check_question(&self, operation: &str, asked: &Asked) -> Result<(), String> {
        let documented = self.judge.document().pointer(operation).expect("an operation that was found");
        let parameters = documented["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
        let in_query = |name: &str| parameters.iter().any(|own| own["in"] == "query" && own["name"] == name);
        for (name, value) in asked.url.query_pairs() {
            // A parameter without a value is none, and a ticket is no parameter.
            if !value.is_empty() && name != "ticket" && !in_query(&name) {
                return Err(format!("{name:?} was taken, and is not among its parameters"));
            }
        }
        let taken = documented["requestBody"]["content"].get("application/json");
        match (&asked.body, taken) {
            (Some(body), Some(_)) if !body.is_empty() && asked.media_type.contains("json") => {
                let body =
                    serde_json::from_slice(body).map_err(|error| format!("what was taken is not JSON: {error}"))?;
                let schema = format!("{operation}/requestBody/content/application~1json/schema");
                self.judge.fits(&schema, &body).map_err(|why| format!("{body} was taken: {why}"))
            }
            _ => Ok(()),
        }
    }

    /// Of a path or a method that is not in the document.
    fn check_refusal(&self, types: &[&str], answered: &Answered<'_>) -> Result<(), String> {
        let Some(body) = answered.body else { return Err("a stream that is not in the document".into()) };
        if media_type(answered.headers) != PROBLEM {
            return Err("neither in the document nor refused".into());
        }
        // An answer to HEAD has no body.
        if body.is_empty() {
            return Ok(());
        }
        let problem: Value = serde_json::from_slice(body).map_err(|error| format!("the body is not JSON: {error}"))?;
        let of_all = ["/problems/host-not-allowed", "/problems/internal"];
        let refused = problem["type"].as_str().is_some_and(|own| types.contains(&own) || of_all.contains(&own));
        if !refused {
            return Err(format!("not in the document, and answered by {problem}"));
        }
        self.judge.fits("/components/schemas/Problem", &problem)
    }
}

/// Whether a proxy in front has answered by itself, since no API did. An API says nowhere what server it is.
fn is_of_a_proxy(answered: &Answered<'_>) -> bool {
    let nobody = [StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE, StatusCode::GATEWAY_TIMEOUT];
    // What an API says has a media type, also that it cannot take a job now.
    let by_itself = nobody.contains(&answered.status) && !answered.headers.contains_key("content-type");
    by_itself && answered.headers.contains_key("server")
}

fn check_headers(documented: &Value, headers: &HeaderMap) -> Result<(), String> {
    let known = documented["headers"].as_object();
    let known = || known.into_iter().flatten();
    let of_others = |name: &str| OF_HTTP.contains(&name) || OF_A_PROXY.contains(&name);
    let is_known = |name: &str| of_others(name) || known().any(|(own, _)| own.eq_ignore_ascii_case(name));
    if let Some(other) = headers.keys().find(|name| !is_known(name.as_str())) {
        return Err(format!("the header {other} is not in the document"));
    }
    let missing = known().find(|(name, header)| header["required"] == true && !headers.contains_key(name.as_str()));
    missing.map_or(Ok(()), |(name, _)| Err(format!("it has no header {name}")))
}

/// Without its parameters.
fn media_type(headers: &HeaderMap) -> &str {
    let value = headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn fits_path(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(own, part): (&&str, &&str)| if own.starts_with('{') { !part.is_empty() } else { own == part };
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}

/// Our own types have names without lines below.
pub(crate) fn is_of_a_kind(schema: &str) -> bool {
    let of = schema.split('.').next().unwrap_or_default();
    of.ends_with("_input") || of.ends_with("_output")
}

/// Takes no field that a schema does not name. For clients an unknown field is none of their business; here it is one that
/// the document forgot.
pub(crate) fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            let composed = COMPOSED.iter().any(|word| fields.contains_key(*word));
            let has_fields = fields.get("properties").is_some_and(Value::is_object);
            if has_fields && !composed {
                fields.entry("additionalProperties").or_insert(false.into());
            }
            for (name, inner) in fields.iter_mut() {
                // The parts of an object that has fields beside them are closed as a whole, if at all.
                if !(has_fields && COMPOSED.contains(&name.as_str())) {
                    close(inner);
                }
            }
            if has_fields && composed {
                fields.entry("unevaluatedProperties").or_insert(false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// As part of a JSON Pointer.
fn escaped(text: &str) -> String {
    text.replace('~', "~0").replace('/', "~1")
}
