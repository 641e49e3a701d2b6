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
}

impl HeaderDoc {
    pub(crate) const PREFER: Self = Self {
        name: "Prefer",
        description: "`wait=N` (RFC 7240) holds the answer for at most N seconds, 60 at most, until the job is done.",
        example: "wait=30",
    };
    pub(crate) const IDEMPOTENCY_KEY: Self = Self {
        name: "Idempotency-Key",
        description: "1 to 255 visible ASCII characters of your own. The same key with the same kind and body stands for \
                      the same job.",
        example: "order-7",
    };
    pub(crate) const IF_NONE_MATCH: Self = Self {
        name: "If-None-Match",
        description: "The `ETag` of the answer before: `304` when nothing happened since.",
        example: "W/\"3\"",
    };
    pub(crate) const LAST_EVENT_ID: Self = Self {
        name: "Last-Event-ID",
        description: "The `id` of the last event that is known, as browsers send it when they come back.",
        example: "3",
    };
    pub(crate) const LOCATION: Self =
        Self { name: "Location", description: "The job.", example: "/v1/jobs/019ab4a6-2c00-7000-8000-000000000000" };
    pub(crate) const WEBHOOK: Self = Self {
        name: "Location",
        description: "The webhook.",
        example: "/v1/webhooks/019ab4a6-2c00-7000-8000-000000000000",
    };
    pub(crate) const RETRY_AFTER: Self =
        Self { name: "Retry-After", description: "After how many seconds to ask again.", example: "1" };
    pub(crate) const ETAG: Self =
        Self { name: "ETag", description: "Changes with each event of the job.", example: "W/\"3\"" };
    pub(crate) const WWW_AUTHENTICATE: Self =
        Self { name: "WWW-Authenticate", description: "How a key is sent.", example: "Bearer" };
    pub(crate) const PREFERENCE_APPLIED: Self = Self {
        name: "Preference-Applied",
        description: "The `wait` that was used, where there was one.",
        example: "wait=30",
    };

    /// As the document has it among the headers of an answer.
    pub(crate) fn item(self) -> (String, ReferenceOr<Header>) {
        let header = Header {
            description: Some(self.description.into()),
            style: HeaderStyle::Simple,
            required: false,
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
