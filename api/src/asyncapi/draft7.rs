//! Schemas of kinds, which are JSON Schema 2020-12, as AsyncAPI's tools read them: JSON Schema draft 7.

use buzzer_shared::contract::visit;
use serde_json::{Map, Value, json};

/// What draft 7 has no word for.
const UNSAYABLE: [&str; 5] =
    ["unevaluatedProperties", "unevaluatedItems", "minContains", "maxContains", "contentSchema"];
/// What has another name there, or may be left out: a reference does not find the way through it.
const MOVED: [&str; 10] = [
    "prefixItems",
    "dependentSchemas",
    "not",
    "if",
    "then",
    "else",
    "oneOf",
    "contains",
    "unevaluatedProperties",
    "unevaluatedItems",
];

/// The schemas of one kind, of which some may refer to others, in the words of draft 7. Where it has none, something is
/// left out: then they take more than before. They never take less, but for `format`, which is a note in the one draft and
/// may be checked in the other.
pub(super) fn to_draft7<'a>(schemas: impl Iterator<Item = &'a mut Value>) {
    let mut schemas: Vec<_> = schemas.collect();
    let mut is_exact = true;
    for schema in &mut schemas {
        visit(schema, &mut |fields| is_exact &= can_be_said(fields));
    }
    for schema in schemas {
        visit(schema, &mut |fields| {
            if !is_exact {
                loosen(fields);
            }
            translate(fields);
        });
    }
}

fn can_be_said(schema: &Map<String, Value>) -> bool {
    let is_found = schema.get("$ref").and_then(Value::as_str).is_none_or(is_found);
    is_found && !UNSAYABLE.iter().any(|keyword| schema.contains_key(*keyword))
}

fn is_found(reference: &str) -> bool {
    // Items beside prefixItems are others there.
    !reference.split('/').any(|step| step == "items" || MOVED.contains(&step))
}

/// Leaves out what draft 7 cannot say. What may hold it in the negative goes along, for to leave something out there would
/// take less: which schemas those are is not looked into.
fn loosen(schema: &mut Map<String, Value>) {
    if schema.get("minContains").and_then(Value::as_f64) == Some(0.0) {
        schema.remove("contains");
    }
    for keyword in UNSAYABLE.into_iter().chain(["not", "if", "then", "else"]) {
        schema.remove(keyword);
    }
    if schema.get("$ref").and_then(Value::as_str).is_some_and(|reference| !is_found(reference)) {
        schema.remove("$ref");
    }
    if let Some(one) = schema.remove("oneOf") {
        also(schema, json!({ "anyOf": one }));
    }
}

fn translate(schema: &mut Map<String, Value>) {
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

    fn values() -> Vec<Value> {
        let arrays = json!([[], [1], ["a"], [1, 2], [1, "a"], [1, 1, 1], [1, "a", true], [1, "a", 2]]);
        let objects = json!([{}, { "a": 1 }, { "b": "x" }, { "a": 1, "b": 2 }, { "a": 1, "b": "x", "c": 3 }]);
        let others = json!(["long", "x", 7, null]);
        [arrays, objects, others].iter().flat_map(|list| list.as_array().unwrap()).cloned().collect()
    }

    /// Whether values fit a schema, and whether they fit its translation.
    fn fits(schema: &Value) -> Vec<(Value, bool, bool)> {
        let mut now = schema.clone();
        to_draft7([&mut now].into_iter());
        let before = jsonschema::options().with_draft(Draft::Draft202012).build(schema).unwrap();
        let after = jsonschema::options().with_draft(Draft::Draft7).build(&now).unwrap();
        values().into_iter().map(|value| (value.clone(), before.is_valid(&value), after.is_valid(&value))).collect()
    }

    #[test]
    fn what_draft_7_can_say_is_said_in_its_words() {
        let named = json!({ "a": { "properties": { "b": { "type": "string" } } } });
        for schema in [
            json!({ "prefixItems": [{ "type": "integer" }, { "type": "string" }], "items": { "type": "boolean" } }),
            json!({ "prefixItems": [{ "type": "integer" }] }),
            json!({ "contains": { "type": "string" } }),
            json!({ "oneOf": [{ "type": "integer" }, { "minimum": 8 }], "not": { "const": "x" } }),
            json!({ "dependentRequired": { "a": ["b"] } }),
            json!({ "dependentRequired": { "a": ["b"] }, "dependentSchemas": named }),
            json!({ "$defs": { "S": { "type": "string" } }, "$ref": "#/$defs/S", "maxLength": 3 }),
            json!({ "$defs": { "S": { "type": "string" } }, "$ref": "#/$defs/S", "allOf": [{ "minLength": 9 }] }),
            json!({ "properties": { "prefixItems": { "type": "string" }, "a": { "const": { "$ref": 1, "not": [] } } } }),
            json!({ "properties": { "a": true }, "example": { "$ref": "#/nowhere", "x": 1 } }),
        ] {
            for (value, before, after) in fits(&schema) {
                assert_eq!(before, after, "{value}: {schema}");
            }
        }
    }

    #[test]
    fn what_it_cannot_say_is_left_out_and_never_takes_less() {
        let closed =
            |name: &str| json!({ "type": "object", "properties": { name: true }, "unevaluatedProperties": false });
        for schema in [
            closed("a"),
            json!({ "not": { "type": "object", "unevaluatedProperties": false } }),
            json!({ "$defs": { "A": closed("a") }, "not": { "$ref": "#/$defs/A" } }),
            json!({ "oneOf": [closed("a"), closed("b")] }),
            json!({ "if": { "contains": { "const": 1 }, "minContains": 2 }, "then": { "maxItems": 1 } }),
            json!({ "contains": { "const": 1 }, "minContains": 0.0, "maxContains": 2 }),
            json!({ "contains": { "const": 1 }, "minContains": 2 }),
            json!({ "prefixItems": [{ "type": "string" }, { "$ref": "#/prefixItems/0" }] }),
            json!({ "prefixItems": [true], "items": { "type": "string" }, "contains": { "$ref": "#/items" } }),
            json!({ "dependentSchemas": { "a": { "required": ["b"] } }, "not": { "$ref": "#/dependentSchemas/a" } }),
        ] {
            for (value, before, after) in fits(&schema) {
                assert!(!before || after, "{value} fits {schema}, and not its translation");
            }
        }
    }
}
