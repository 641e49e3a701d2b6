//! Whether no value fits two schemas, as far as types, constants and fields tell.

use std::collections::HashSet;

use buzzer_shared::contract::{Document, allows};
use serde_json::{Map, Value};

use super::keywords::{fields, followed, properties, required, types, values};

/// `false` where it cannot be told. Both stand in `document`.
pub(super) fn apart(document: Document<'_>, one: &Value, other: &Value) -> bool {
    let (one, other) = (fields(followed(document, one)), fields(followed(document, other)));
    let shared = shared_types(one, other);
    let is_tagged =
        || shared == ["object"] && (are_tagged(document, one, other) || lacks(one, other) || lacks(other, one));
    shared.is_empty() || are_others(one, other) || is_tagged()
}

fn shared_types<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> Vec<&'a str> {
    let (one, other): (Vec<_>, Vec<_>) = (types(one).into_iter().collect(), types(other).into_iter().collect());
    let narrower = one.iter().filter(|r#type| allows(&other, r#type));
    narrower.chain(other.iter().filter(|r#type| allows(&one, r#type) && !one.contains(r#type))).copied().collect()
}

/// Whether both name the values that they take, and none of them is the same.
fn are_others(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let (Some(one), Some(other)) = (values(one), values(other)) else { return false };
    let one: HashSet<_> = one.into_iter().map(Value::to_string).collect();
    other.into_iter().all(|value| !one.contains(&value.to_string()))
}

/// Whether a field that one of them needs has other values in each.
fn are_tagged(document: Document<'_>, one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let needed: HashSet<_> = required(one).into_iter().chain(required(other)).collect();
    let field = |named: &Map<String, Value>, name: &str| {
        Some(fields(followed(document, properties(named)?.get(name)?)).clone())
    };
    needed.into_iter().any(|name| match (field(one, name), field(other, name)) {
        (Some(one), Some(other)) => are_others(&one, &other),
        _ => false,
    })
}

/// Whether one needs a field that the other never has.
fn lacks(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let is_closed =
        other.get("additionalProperties") == Some(&Value::Bool(false)) && !other.contains_key("patternProperties");
    is_closed && required(one).into_iter().any(|name| !properties(other).is_some_and(|named| named.contains_key(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn are_apart(one: &Value, other: &Value) -> bool {
        let root = json!({ "$defs": { "X": { "const": "x" } }, "oneOf": [one, other] });
        let document = Document { root: &root };
        let apart = |one: usize, other: usize| apart(document, &root["oneOf"][one], &root["oneOf"][other]);
        assert_eq!(apart(0, 1), apart(1, 0), "{root}");
        apart(0, 1)
    }

    #[test]
    fn types_constants_and_fields_tell_schemas_apart() {
        let tag = |tag: Value| json!({ "type": "object", "properties": { "t": tag }, "required": ["t"] });
        let only = |name: &str| {
            let fields = json!({ name: true });
            json!({ "type": "object", "properties": fields, "required": [name], "additionalProperties": false })
        };
        for (one, other) in [
            (json!({ "type": "integer" }), json!({ "type": ["string", "null"] })),
            (json!({ "const": 1 }), json!({ "enum": [2, "1"] })),
            (json!({ "$ref": "#/$defs/X" }), json!({ "type": "null" })),
            (tag(json!({ "const": "y" })), tag(json!({ "$ref": "#/$defs/X" }))),
            (only("a"), only("b")),
        ] {
            assert!(are_apart(&one, &other), "{one} {other}");
        }
    }

    #[test]
    fn what_may_fit_both_is_not_apart() {
        let may = |tag: &str| json!({ "type": "object", "properties": { "t": { "const": tag } } });
        let needs = |tag: &str| json!({ "properties": { "t": { "const": tag } }, "required": ["t"] });
        let open = |name: &str| json!({ "type": "object", "required": [name] });
        for (one, other) in [
            (json!({ "type": "integer" }), json!({ "type": "number" })),
            (json!({ "enum": [1, 2] }), json!({ "enum": [2, 3] })),
            (json!({ "const": 1 }), json!({ "type": "integer" })),
            // The tag may be left out.
            (may("x"), may("y")),
            // A number fits both.
            (needs("x"), needs("y")),
            (open("a"), open("b")),
        ] {
            assert!(!are_apart(&one, &other), "{one} {other}");
        }
    }
}
