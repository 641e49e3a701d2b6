//! What Buzzer posts to others.

use aide::generate::in_context;
use aide::openapi::{
    MediaType, Operation, Parameter, ParameterData, ParameterSchemaOrContent, PathItem, ReferenceOr, RequestBody,
    Response, Responses, SchemaObject, StatusCode as Status,
};
use aide::transform::TransformOperation;
use buzzer_shared::time::Time;
use buzzer_shared::webhook;
use schemars::{JsonSchema, Schema};

use crate::header::HeaderDoc;
use crate::lifecycle::LogType;
use crate::view::EventView;

/// What is posted when something happened to a job: `buzzer_shared::webhook::Body` with an event in it.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "bodies are written with the event as the log has it; this is their schema")]
struct PostedEvent {
    /// The type of the event.
    r#type: LogType,
    /// When it happened.
    timestamp: Time,
    data: EventView,
}

/// What is posted as a test of a webhook.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct PostedTest {
    #[schemars(extend("const" = "webhook.test"))]
    r#type: String,
    timestamp: Time,
    data: TestData,
}

/// That no job is behind a test.
#[derive(JsonSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "as above")]
struct TestData {
    message: String,
}

/// Whatever is posted to webhooks, by its name in the document.
pub(super) fn all() -> impl Iterator<Item = (String, ReferenceOr<PathItem>)> {
    let event = post::<PostedEvent>("An event of a job", "To every webhook that wants events of this type.");
    let test = post::<PostedTest>("A test", "When somebody asked for it with `POST /v1/webhooks/{webhook}/test`.");
    [("jobEvent", event), ("webhookTest", test)].into_iter().map(|(name, item)| (name.into(), ReferenceOr::Item(item)))
}

/// Says that events are posted to the webhook that a submission names.
pub(crate) fn calls_back(mut op: TransformOperation<'_>) -> TransformOperation<'_> {
    let item = post::<PostedEvent>(
        "An event of this job",
        "By default the last event alone, signed with the secret at `/v1/webhooks/jobs/secret`.",
    );
    let callback = [("{$request.body#/webhook/url}".into(), ReferenceOr::Item(item))].into_iter().collect();
    op.inner_mut().callbacks.insert("jobEvent".into(), ReferenceOr::Item(callback));
    op
}

fn post<B: JsonSchema>(summary: &str, description: &str) -> PathItem {
    let schema = in_context(|ctx| ctx.schema.subschema_for::<B>());
    let media_type = MediaType { schema: Some(object(schema)), ..MediaType::default() };
    let body = RequestBody {
        content: [("application/json".into(), media_type)].into_iter().collect(),
        required: true,
        ..RequestBody::default()
    };
    let operation = Operation {
        tags: vec!["webhooks".into()],
        summary: Some(summary.into()),
        description: Some(format!(
            "{description} Signed as Standard Webhooks has it: verify `webhook-signature` with the secret of the webhook, and \
             use `webhook-id`, the same at each attempt, to take a delivery once."
        )),
        parameters: headers().into(),
        request_body: Some(ReferenceOr::Item(body)),
        responses: Some(responses()),
        ..Operation::default()
    };
    PathItem { post: Some(operation), ..PathItem::default() }
}

fn headers() -> [ReferenceOr<Parameter>; 3] {
    let descriptions = [
        "The delivery: the same at each of its attempts.",
        "When this attempt was signed, in seconds since 1970. Take none that is older than five minutes.",
        "`v1,` and the signature in Base64, for each secret that is valid, with blanks between them.",
    ];
    let examples =
        ["019ab4a6-2c00-7000-8000-000000000000", "1795000000", "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="];
    std::array::from_fn(|at| {
        let parameter_data = ParameterData {
            name: webhook::HEADERS[at].into(),
            description: Some(descriptions[at].into()),
            required: true,
            deprecated: None,
            format: ParameterSchemaOrContent::Schema(object(schemars::json_schema!({ "type": "string" }))),
            example: Some(examples[at].into()),
            examples: Default::default(),
            explode: None,
            extensions: Default::default(),
        };
        ReferenceOr::Item(Parameter::Header { parameter_data, style: Default::default() })
    })
}

/// How a receiver may answer, and what comes of it.
fn responses() -> Responses {
    let answer = |status, description: &str, headers: &[HeaderDoc]| {
        let headers = headers.iter().map(|header| header.item()).collect();
        let response = Response { description: description.into(), headers, ..Response::default() };
        (status, ReferenceOr::Item(response))
    };
    let busy = "It is tried again, and not before `Retry-After`.";
    let responses = [
        answer(Status::Range(2), "It is delivered.", &[]),
        answer(Status::Code(410), "The webhook is disabled: nothing more is sent to it.", &[]),
        answer(Status::Code(429), busy, &[HeaderDoc::RETRY_AFTER]),
        answer(Status::Code(503), busy, &[HeaderDoc::RETRY_AFTER]),
    ];
    let other = Response { description: "It is tried again by the schedule.".into(), ..Response::default() };
    Responses {
        default: Some(ReferenceOr::Item(other)),
        responses: responses.into_iter().collect(),
        extensions: Default::default(),
    }
}

fn object(json_schema: Schema) -> SchemaObject {
    SchemaObject { json_schema, external_docs: None, example: None }
}
