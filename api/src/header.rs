//! The headers that endpoints read and write, as the document shows them.

use aide::openapi::{
    Header, HeaderStyle, Parameter, ParameterData, ParameterSchemaOrContent, ReferenceOr, SchemaObject,
};
use aide::transform::{TransformOperation, TransformResponse};

/// What the document says about a header. Handlers read and write headers by hand, so no type tells of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderDoc {
    name: &'static str,
    description: &'static str,
    example: &'static str,
    always: bool,
}

impl HeaderDoc {
    pub(crate) const PREFER: Self = Self::new(
        "Prefer",
        "`wait=N` (RFC 7240) holds the answer for at most N seconds, 60 at most, until the job is done.",
        "wait=30",
    );
    pub(crate) const IDEMPOTENCY_KEY: Self = Self::new(
        "Idempotency-Key",
        "1 to 255 visible ASCII characters of your own. The same key with the same kind and body stands for the same job.",
        "order-7",
    );
    pub(crate) const IF_NONE_MATCH: Self =
        Self::new("If-None-Match", "The `ETag` of the answer before: `304` when nothing happened since.", "W/\"3\"");
    pub(crate) const LAST_EVENT_ID: Self = Self::new(
        "Last-Event-ID",
        "The `id` of the last event that is known, as browsers send it when they come back.",
        "3",
    );
    pub(crate) const LOCATION: Self =
        Self::new("Location", "The job.", "/v1/jobs/019ab4a6-2c00-7000-8000-000000000000");
    pub(crate) const WEBHOOK: Self =
        Self::new("Location", "The webhook.", "/v1/webhooks/019ab4a6-2c00-7000-8000-000000000000");
    pub(crate) const RETRY_AFTER: Self = Self::new("Retry-After", "After how many seconds to ask again.", "1");
    pub(crate) const ETAG: Self = Self::new("ETag", "Changes with each event of the job.", "W/\"3\"");
    pub(crate) const CACHE_CONTROL: Self = Self::new(
        "Cache-Control",
        "Whether it may be kept: `private, no-cache` where it must be asked for again before each use, `no-store` where \
         nobody else may ever see it.",
        "private, no-cache",
    );
    pub(crate) const BUFFERING: Self =
        Self::new("X-Accel-Buffering", "Tells proxies to hand on what comes at once.", "no");
    pub(crate) const UPGRADE: Self = Self::new("Upgrade", "What is spoken here.", "websocket");
    pub(crate) const WEBSOCKET_VERSION: Self =
        Self::new("Sec-WebSocket-Version", "The version of WebSocket that is spoken here.", "13");
    pub(crate) const WEBSOCKET_ACCEPT: Self = Self::new(
        "Sec-WebSocket-Accept",
        "Proves that the request was understood (RFC 6455, 4.2.2).",
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
    );
    pub(crate) const WWW_AUTHENTICATE: Self = Self::new("WWW-Authenticate", "How a key is sent.", "Bearer");
    pub(crate) const PREFERENCE_APPLIED: Self =
        Self::new("Preference-Applied", "The `wait` that was used, where there was one.", "wait=30");

    pub(crate) const CONTENT_SECURITY_POLICY: Self = Self::new(
        "Content-Security-Policy",
        "What a browser lets the page do: ask its own server, and nobody else.",
        "default-src 'none'; script-src 'self'",
    );

    const fn new(name: &'static str, description: &'static str, example: &'static str) -> Self {
        Self { name, description, example, always: false }
    }

    /// The same, of an answer that always has it.
    pub(crate) const fn always(self) -> Self {
        Self { always: true, ..self }
    }

    /// As the document has it among the headers of an answer.
    pub(crate) fn item(self) -> (String, ReferenceOr<Header>) {
        let header = Header {
            description: Some(self.description.into()),
            style: HeaderStyle::Simple,
            required: self.always,
            deprecated: None,
            format: text(),
            example: Some(self.example.into()),
            examples: Default::default(),
            extensions: Default::default(),
        };
        (self.name.into(), ReferenceOr::Item(header))
    }

    fn parameter(self) -> ReferenceOr<Parameter> {
        let parameter_data = ParameterData {
            name: self.name.into(),
            description: Some(self.description.into()),
            required: false,
            deprecated: None,
            format: text(),
            example: Some(self.example.into()),
            examples: Default::default(),
            explode: None,
            extensions: Default::default(),
        };
        ReferenceOr::Item(Parameter::Header { parameter_data, style: HeaderStyle::Simple })
    }
}

/// Says that a request may have these headers.
pub(crate) fn takes<'t>(mut op: TransformOperation<'t>, headers: &[HeaderDoc]) -> TransformOperation<'t> {
    op.inner_mut().parameters.extend(headers.iter().map(|header| header.parameter()));
    op
}

/// Says that an answer may have these headers.
pub(crate) fn gives<'t, T>(mut response: TransformResponse<'t, T>, headers: &[HeaderDoc]) -> TransformResponse<'t, T> {
    response.inner().headers.extend(headers.iter().map(|header| header.item()));
    response
}

fn text() -> ParameterSchemaOrContent {
    let json_schema = schemars::json_schema!({ "type": "string" });
    ParameterSchemaOrContent::Schema(SchemaObject { json_schema, external_docs: None, example: None })
}
