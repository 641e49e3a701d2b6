//! What a kind adds to the document: its schemas, and a path of its own to submit it.

use aide::openapi::{
    MediaType, OpenApi, Operation, Parameter, PathItem, ReferenceOr, SchemaObject, StatusCode as Status,
};
use buzzer_shared::kind::{DeliveryMode, Kind, KindSpec};
use schemars::Schema;
use serde_json::{Value, json};

const JSON: &str = "application/json";

/// Adds one kind, whose path is like `submit`, but for what the kind itself says. `max_body`: the most bytes of a body.
pub(super) fn add(document: &mut OpenApi, submit: &Operation, spec: &KindSpec, max_body: usize) {
    let word = word(&spec.name);
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let mut component = |name: String, schema: &Value| {
        let at = format!("#/components/schemas/{name}");
        schemas.insert(name, object(moved(schema, &at)));
        json!({ "$ref": at })
    };
    let input = component(format!("{word}_input"), &spec.input_schema);
    let output = component(format!("{word}_output"), &spec.output_schema);

    let mut submit = submit.clone();
    submit.operation_id = Some(format!("submit_{word}"));
    submit.summary = Some(spec.title.clone());
    let general = submit.description.unwrap_or_default();
    let parts = [spec.description.as_str(), &limits(spec, max_body), &general];
    submit.description = Some(parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n"));
    submit.parameters.retain(|parameter| !matches!(parameter, ReferenceOr::Item(Parameter::Path { .. })));
    if let Some(ReferenceOr::Item(body)) = &mut submit.request_body
        && let Some(body) = body.content.get_mut(JSON)
    {
        narrow(body, "input", &input);
        body.example = spec.example.as_ref().map(|example| json!({ "input": example }));
    }
    let done = submit.responses.as_mut().and_then(|responses| responses.responses.get_mut(&Status::Code(200)));
    if let Some(ReferenceOr::Item(done)) = done
        && let Some(body) = done.content.get_mut(JSON)
    {
        // A job that is done may have failed, and has no output then.
        narrow(body, "output", &json!({ "anyOf": [output, { "type": "null" }] }));
    }
    let path = PathItem { post: Some(submit), ..PathItem::default() };
    document.paths.get_or_insert_default().paths.insert(format!("/v1/jobs/{}", spec.name), ReferenceOr::Item(path));
}

/// What a submission may ask for at most.
fn limits(spec: &KindSpec, max_body: usize) -> String {
    let runs = match spec.delivery {
        DeliveryMode::AtLeastOnce => {
            format!("There are {} attempts, unless `retry` says otherwise.", spec.retry.max_attempts)
        }
        DeliveryMode::AtMostOnce => "It is never run twice: `retry` is refused.".into(),
    };
    format!("Limits: a body of {max_body} bytes, and {} for a run. {runs}", spec.timeout)
}

/// The kind as part of an identifier. Kinds have no capitals, so that no two kinds become the same word.
fn word(kind: &Kind) -> String {
    kind.as_str().replace('_', "Line").replace('-', "Dash").replace('.', "_")
}

/// Says more about one property of a body.
fn narrow(body: &mut MediaType, property: &str, schema: &Value) {
    if let Some(general) = &mut body.schema {
        let special = json!({ "type": "object", "properties": { (property): schema } });
        *general = object(json!({ "allOf": [general.json_schema, special] }));
    }
}

/// An announced schema as it stands `at` a place in the document: its references to itself lead there. An `$id` would
/// say the same, but generators of code do not follow it.
fn moved(schema: &Value, at: &str) -> Value {
    let mut schema = schema.clone();
    if let Value::Object(root) = &mut schema {
        root.remove("$schema");
    }
    rebase(&mut schema, at);
    schema
}

fn rebase(schema: &mut Value, at: &str) {
    match schema {
        // References inside a schema with a name of its own are relative to that name.
        Value::Object(fields) if fields.get("$id").is_some_and(Value::is_string) => {}
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(to) if name == "$ref" && (to == "#" || to.starts_with("#/")) => {
                        *to = format!("{at}{}", &to[1..]);
                    }
                    _ => rebase(value, at),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, at)),
        _ => {}
    }
}

/// What is no schema at all refuses nothing, as when a job is submitted.
fn object(schema: Value) -> SchemaObject {
    let json_schema = Schema::try_from(schema).unwrap_or_else(|_| Schema::from(true));
    SchemaObject { json_schema, external_docs: None, example: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_says_what_it_takes_at_most() {
        let often = KindSpec::any("demo".parse().unwrap());
        let once = KindSpec { delivery: DeliveryMode::AtMostOnce, ..often.clone() };
        let said = |spec| limits(spec, 1024);
        assert_eq!(
            said(&often),
            "Limits: a body of 1024 bytes, and 5m for a run. There are 5 attempts, unless `retry` says otherwise."
        );
        assert_eq!(
            said(&once),
            "Limits: a body of 1024 bytes, and 5m for a run. It is never run twice: `retry` is refused."
        );
    }

    #[test]
    fn kinds_that_differ_in_their_separators_alone_have_words_of_their_own() {
        let words = ["a.b", "a-b", "a_b", "a.dash.b"].map(|kind| word(&kind.parse().unwrap()));
        assert_eq!(words, ["a_b", "aDashb", "aLineb", "a_dash_b"]);
    }

    #[test]
    fn a_schema_that_moves_takes_its_references_along() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "properties": { "size": { "$ref": "#/$defs/Size" }, "next": { "$ref": "#" }, "$ref": { "type": "string" } },
            "$defs": { "Size": { "enum": ["s", "l"] }, "Own": { "$id": "https://a.example/own", "$ref": "#/x" } },
        });
        let moved = moved(&schema, "#/components/schemas/a_input");
        assert_eq!(moved["properties"]["size"]["$ref"], "#/components/schemas/a_input/$defs/Size");
        assert_eq!(moved["properties"]["next"]["$ref"], "#/components/schemas/a_input");
        assert_eq!(moved["properties"]["$ref"], json!({ "type": "string" }));
        assert_eq!(moved["$defs"]["Own"]["$ref"], "#/x");
        assert_eq!(moved.get("$schema"), None);
    }
}
