//! Schemas of kinds, which are JSON Schema 2020-12, as AsyncAPI's tools read them: JSON Schema draft 7.

use serde_json::{Map, Value, json};

use crate::openapi::walk;

/// What draft 7 has no word for. Without it a schema takes more than the API does, and nothing less.
const UNSAYABLE: [&str; 5] =
    ["unevaluatedProperties", "unevaluatedItems", "minContains", "maxContains", "contentSchema"];

/// The same in the words of draft 7, as far as it has them.
pub(super) fn to_draft7(schema: &mut Value) {
    walk(schema, &mut translate);
}

fn translate(schema: &mut Map<String, Value>) {
    if schema.get("minContains").and_then(Value::as_u64) == Some(0) {
        schema.remove("contains");
    }
    for keyword in UNSAYABLE {
        schema.remove(keyword);
    }
    if let Some(first) = schema.remove("prefixItems")
        && let Some(others) = schema.insert("items".into(), first)
    {
        schema.insert("additionalItems".into(), others);
    }
    let dependent = ["dependentRequired", "dependentSchemas"].map(|keyword| schema.remove(keyword));
    let dependencies = dependent.into_iter().flatten().fold(Map::new(), depend);
    if !dependencies.is_empty() {
        schema.insert("dependencies".into(), dependencies.into());
    }
    // Beside a reference nothing else counts there.
    if schema.len() > 1
        && let Some(reference) = schema.remove("$ref")
    {
        also(schema, json!({ "$ref": reference }));
    }
}

/// Adds what fields ask for. Both what is required and a schema may be asked for by one.
fn depend(mut all: Map<String, Value>, more: Value) -> Map<String, Value> {
    let Value::Object(more) = more else { return all };
    for (name, asked) in more {
        let asked = match all.remove(&name) {
            Some(required) => json!({ "allOf": [{ "required": required }, asked] }),
            None => asked,
        };
        all.insert(name, asked);
    }
    all
}

/// Adds a schema that must hold, too.
fn also(schema: &mut Map<String, Value>, more: Value) {
    match schema.get_mut("allOf") {
        Some(Value::Array(all)) => all.push(more),
        _ => {
            schema.insert("allOf".into(), json!([more]));
        }
    }
}

#[cfg(test)]
mod tests {
    use jsonschema::Draft;

    use super::*;

    fn translated(mut schema: Value) -> Value {
        to_draft7(&mut schema);
        schema
    }

    #[test]
    fn what_draft_7_can_say_is_said_in_its_words() {
        let values = [
            json!([]),
            json!([1]),
            json!(["a"]),
            json!([1, "a"]),
            json!([1, "a", true]),
            json!([1, "a", 2]),
            json!({}),
            json!({ "a": 1 }),
            json!({ "a": 1, "b": 2 }),
            json!({ "a": 1, "b": "x", "c": 3 }),
            json!("long"),
            json!(7),
        ];
        for schema in [
            json!({ "prefixItems": [{ "type": "integer" }, { "type": "string" }], "items": { "type": "boolean" } }),
            json!({ "prefixItems": [{ "type": "integer" }] }),
            json!({ "contains": { "type": "string" } }),
            json!({ "dependentRequired": { "a": ["b"] } }),
            json!({ "dependentRequired": { "a": ["b"] }, "dependentSchemas": { "a": { "properties": { "b": { "type": "string" } } } } }),
            json!({ "$defs": { "S": { "type": "string" } }, "$ref": "#/$defs/S", "maxLength": 3 }),
            json!({ "$defs": { "S": { "type": "string" } }, "$ref": "#/$defs/S", "allOf": [{ "minLength": 9 }] }),
            json!({ "properties": { "prefixItems": { "type": "string" }, "$ref": { "const": { "$ref": 1, "prefixItems": [] } } } }),
        ] {
            let now = translated(schema.clone());
            let before = jsonschema::options().with_draft(Draft::Draft202012).build(&schema).unwrap();
            let after = jsonschema::options().with_draft(Draft::Draft7).build(&now).unwrap();
            for value in &values {
                assert_eq!(before.is_valid(value), after.is_valid(value), "{value}: {schema} is {now}");
            }
        }
    }

    #[test]
    fn what_it_cannot_say_is_left_out() {
        assert_eq!(
            translated(json!({ "unevaluatedProperties": false, "type": "object" })),
            json!({ "type": "object" })
        );
        assert_eq!(translated(json!({ "contains": { "const": 1 }, "minContains": 0, "maxContains": 2 })), json!({}));
    }
}
