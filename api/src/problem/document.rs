//! Refusals as the document has them: an answer for each status, with the sorts of problems that it may be.

use aide::generate::{GenContext, in_context};
use aide::openapi::{self, MediaType, Operation, ReferenceOr, SchemaObject, StatusCode as Status};
use aide::transform::TransformOperation;
use buzzer_shared::problem::Problem;
use http::StatusCode;
use serde_json::{Value, json};

use super::{PROBLEM_JSON, ProblemType};
use crate::header::HeaderDoc;

/// Where an answer of the document lists the `type` of each problem that it may be.
const TYPES: &str = "x-problem-types";

/// Says that an endpoint may refuse so, beside what the document says already.
pub(crate) fn refuses<'t>(mut op: TransformOperation<'t>, problems: &[ProblemType]) -> TransformOperation<'t> {
    in_context(|ctx| may_be(ctx, op.inner_mut(), problems));
    op
}

/// The same, of an operation. What stands inside a job alone is no answer, and changes nothing.
pub(crate) fn may_be(ctx: &mut GenContext, operation: &mut Operation, problems: &[ProblemType]) {
    for problem in problems {
        let Some(status) = problem.status else { continue };
        let responses = &mut operation.responses.get_or_insert_default().responses;
        let response = responses.entry(Status::Code(status.as_u16()));
        let response = response.or_insert_with(|| ReferenceOr::Item(empty(ctx, status)));
        if let ReferenceOr::Item(response) = response {
            add(response, problem);
        }
    }
}

fn add(response: &mut openapi::Response, problem: &ProblemType) {
    let r#type = json!(format!("/problems/{}", problem.slug));
    let types = response.extensions.entry(TYPES.into()).or_insert_with(|| json!([]));
    if let Value::Array(types) = types
        && !types.contains(&r#type)
    {
        types.push(r#type);
        let separator = if response.description.is_empty() { "" } else { " " };
        response.description += &format!("{separator}{}: see `/problems/{}`.", problem.title, problem.slug);
    }
}

fn empty(ctx: &mut GenContext, status: StatusCode) -> openapi::Response {
    let headers: &[HeaderDoc] = match status {
        StatusCode::UNAUTHORIZED => &[HeaderDoc::WWW_AUTHENTICATE.always()],
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => &[HeaderDoc::RETRY_AFTER.always()],
        StatusCode::UPGRADE_REQUIRED => &[HeaderDoc::UPGRADE.always(), HeaderDoc::WEBSOCKET_VERSION.always()],
        _ => &[],
    };
    let json_schema = ctx.schema.subschema_for::<Problem>();
    let schema = Some(SchemaObject { json_schema, external_docs: None, example: None });
    openapi::Response {
        headers: headers.iter().map(|header| header.item()).collect(),
        content: [(PROBLEM_JSON.into(), MediaType { schema, ..MediaType::default() })].into_iter().collect(),
        ..openapi::Response::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::{BAD_ID, BAD_QUERY, LOST, STORE_UNAVAILABLE, UNAUTHORIZED};

    #[test]
    fn refusals_of_one_status_are_one_answer_and_each_is_named_once() {
        let mut operation = Operation::default();
        in_context(|ctx| {
            may_be(ctx, &mut operation, &[BAD_QUERY, BAD_ID, BAD_QUERY]);
            may_be(ctx, &mut operation, &[BAD_ID, UNAUTHORIZED, STORE_UNAVAILABLE, LOST]);
        });
        let responses = operation.responses.unwrap().responses;
        assert_eq!(responses.len(), 3);
        let bad = responses[&Status::Code(400)].as_item().unwrap();
        assert_eq!(bad.extensions[TYPES], json!(["/problems/bad-query", "/problems/bad-id"]));
        assert_eq!(
            bad.description,
            "The query cannot be read: see `/problems/bad-query`. Not an id: see `/problems/bad-id`."
        );
        for (status, header) in [(401, "WWW-Authenticate"), (503, "Retry-After")] {
            let header = responses[&Status::Code(status)].as_item().unwrap().headers[header].as_item().unwrap();
            assert!(header.required, "{status}");
        }
    }
}
