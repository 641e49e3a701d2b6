//! What a kind adds to the document: its schemas, and a path of its own to submit it.

use aide::openapi::{
    MediaType, OpenApi, Operation, Parameter, PathItem, ReferenceOr, SchemaObject, StatusCode as Status,
};
use buzzer_shared::contract::visit;
use buzzer_shared::kind::{DeliveryMode, Kind, KindSpec};
use schemars::Schema;
use serde_json::{Map, Value, json};

const JSON: &str = "application/json";

/// Adds one kind, whose path is like `submit`, but for what the kind itself says. `max_body`: the most bytes of a body.
pub(super) fn add(document: &mut OpenApi, submit: &Operation, spec: &KindSpec, max_body: usize) {
    let word = word(&spec.name);
    let schemas = &mut document.components.get_or_insert_default().schemas;
    let mut component = |name: String, schema: &Value| {
        schemas.extend(moved(&name, schema).into_iter().map(|(name, schema)| (name, object(schema))));
        json!({ "$ref": format!("#/components/schemas/{name}") })
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
        narrow(body, &json!({ "type": "object", "properties": { "input": input }, "required": ["input"] }));
        body.example = spec.example.as_ref().map(|example| json!({ "input": example }));
    }
    // A job that is not done, or has failed, has no output.
    let output = json!({ "type": "object", "properties": { "output": { "anyOf": [output, { "type": "null" }] } } });
    let mut answers = submit.responses.as_mut().map(|responses| &mut responses.responses);
    // Clients with types see all answers as one: what one of them leaves open, they do not know.
    for status in [200, 202] {
        if let Some(ReferenceOr::Item(answer)) =
            answers.as_mut().and_then(|answers| answers.get_mut(&Status::Code(status)))
            && let Some(body) = answer.content.get_mut(JSON)
        {
            narrow(body, &output);
        }
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
pub(crate) fn word(kind: &Kind) -> String {
    kind.as_str().replace('_', "Line").replace('-', "Dash").replace('.', "_")
}

/// Says more about a body.
fn narrow(body: &mut MediaType, more: &Value) {
    if let Some(general) = &mut body.schema {
        *general = object(json!({ "allOf": [general.json_schema, more] }));
    }
}

/// An announced schema as the document has it under `name`, and before it the definitions within: they stand beside it,
/// since generators of code do not follow references into a schema. Its references to itself lead there, so it has no
/// `$id`, to which they would be relative. Within it there is none: contracts with one are refused.
pub(crate) fn moved(name: &str, schema: &Value) -> Vec<(String, Value)> {
    // Validators and generators want an object, where JSON Schema has true and false, too.
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        Value::Bool(false) => json!({ "not": {} }),
        schema => schema.clone(),
    };
    let mut place = Place { name, definitions: Vec::new() };
    let mut all = Vec::new();
    if let Value::Object(root) = &mut schema {
        root.remove("$schema");
        root.remove("$id");
        if let Some(definitions) = definitions(root) {
            place.definitions = definitions.keys().cloned().collect();
            all.extend(definitions.into_iter().map(|(own, schema)| (place.definition(&own), schema)));
        }
    }
    all.push((name.into(), schema));
    for (_, schema) in &mut all {
        place.rebase(schema);
        // Generators would call types by it, and many a handler's is just `Input`. It has a name here.
        if let Value::Object(root) = schema {
            root.remove("title");
        }
    }
    all
}

/// Takes the definitions out, where all of them can stand in the document by their names.
fn definitions(root: &mut Map<String, Value>) -> Option<Map<String, Value>> {
    let fits = |name: &String| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    let own = root.get("$defs").and_then(Value::as_object)?;
    if !own.keys().all(fits) {
        return None;
    }
    match root.remove("$defs") {
        Some(Value::Object(definitions)) => Some(definitions),
        _ => None,
    }
}

/// Where a schema that moves comes to stand.
struct Place<'a> {
    name: &'a str,
    /// Those that stand beside it.
    definitions: Vec<String>,
}

impl Place<'_> {
    /// No kind has a point in its word, so that no definition takes the name of another kind's schema.
    fn definition(&self, own: &str) -> String {
        format!("{}.{own}", self.name)
    }

    /// Where a reference within the schema leads to.
    fn leads_to(&self, reference: &str) -> Option<String> {
        let inside = reference.strip_prefix('#').filter(|inside| inside.is_empty() || inside.starts_with('/'))?;
        let (at, rest) =
            match inside.strip_prefix("/$defs/").map(|rest| rest.split_at(rest.find('/').unwrap_or(rest.len()))) {
                Some((own, rest)) if self.definitions.iter().any(|name| name == own) => (self.definition(own), rest),
                _ => (self.name.into(), inside),
            };
        Some(format!("#/components/schemas/{at}{rest}"))
    }

    /// The same for all references of a schema.
    fn rebase(&self, schema: &mut Value) {
        visit(schema, &mut |fields| {
            if let Some(Value::String(to)) = fields.get_mut("$ref")
                && let Some(there) = self.leads_to(to)
            {
                *to = there;
            }
        });
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
            "$id": "https://example.com/input",
            "title": "Input",
            "properties": { "title": { "title": "Title" }, "size": { "$ref": "#/$defs/Size" }, "next": { "$ref": "#" }, "$ref": { "type": "string" } },
            "$defs": { "Size": { "enum": ["s", "l"], "examples": [{ "$ref": "#/$defs/Size/enum" }] } },
        });
        let [(beside, size), (name, own)] = moved("a_input", &schema).try_into().unwrap();
        assert_eq!((beside.as_str(), name.as_str()), ("a_input.Size", "a_input"));
        assert_eq!(own["properties"]["size"]["$ref"], "#/components/schemas/a_input.Size");
        assert_eq!(own["properties"]["next"]["$ref"], "#/components/schemas/a_input");
        assert_eq!(own["properties"]["$ref"], json!({ "type": "string" }));
        assert_eq!(size["examples"][0]["$ref"], "#/$defs/Size/enum", "that is data");
        for gone in ["$schema", "$id", "$defs", "title"] {
            assert_eq!(own.get(gone), None);
        }
        assert_eq!(own["properties"]["title"]["title"], "Title");
    }

    #[test]
    fn definitions_of_odd_names_stay_within() {
        let schema = json!({ "items": { "$ref": "#/$defs/a b" }, "$defs": { "a b": true } });
        let [(_, own)] = moved("a_input", &schema).try_into().unwrap();
        assert_eq!(own["items"]["$ref"], "#/components/schemas/a_input/$defs/a b");
        assert_eq!(own["$defs"], schema["$defs"]);
    }

    #[test]
    fn what_takes_all_or_nothing_is_spelled_out() {
        let [all, nothing] = [true, false].map(|all| moved("a", &json!(all)).remove(0).1);
        assert_eq!([all, nothing], [json!({}), json!({ "not": {} })]);
    }
}
