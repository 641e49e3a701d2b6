//! Whether no value fits two schemas, as far as types, constants and fields tell.

use std::collections::{BTreeSet, HashSet};

use buzzer_shared::contract::{Document, allows};
use serde_json::{Map, Value};

use super::keywords::{fields, followed, has_field, properties, required, text, types, values};

/// So many pairs of schemas are looked at, and values in them.
const LOOKS_MAX: usize = 200_000;

/// Tells the schemas of a document apart.
#[derive(Debug)]
pub(super) struct Apart<'a> {
    document: Document<'a>,
    looks: usize,
}

impl<'a> Apart<'a> {
    pub(super) fn of(document: Document<'a>) -> Self {
        Self { document, looks: 0 }
    }

    /// `false` where it cannot be told, or was asked too much.
    pub(super) fn are(&mut self, one: &'a Value, other: &'a Value) -> bool {
        self.looks += 1;
        if self.looks > LOOKS_MAX {
            return false;
        }
        let (one, other) = (self.fields(one), self.fields(other));
        let shared = shared_types(one, other);
        shared.is_empty()
            || self.are_others(one, other)
            || (shared == ["object"] && (lacks(one, other) || lacks(other, one) || self.are_tagged(one, other)))
    }

    fn fields(&self, schema: &'a Value) -> &'a Map<String, Value> {
        fields(followed(self.document, schema))
    }

    /// Whether both name the values that they take, and none of them is the same.
    fn are_others(&mut self, one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
        let (Some(mine), Some(others)) = (values(one), values(other)) else { return false };
        self.looks += mine.len() + others.len();
        if std::ptr::eq(one, other) || self.looks > LOOKS_MAX {
            return false;
        }
        let mine: HashSet<_> = mine.into_iter().map(text).collect();
        others.into_iter().all(|value| !mine.contains(&text(value)))
    }

    /// Whether a field that one of them needs has other values in each.
    fn are_tagged(&mut self, one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> bool {
        let needed: BTreeSet<_> = required(one).union(&required(other)).copied().collect();
        needed.into_iter().any(|name| {
            let field = |fields: &'a Map<String, Value>| properties(fields)?.get(name);
            match (field(one), field(other)) {
                (Some(one), Some(other)) => self.are_others(self.fields(one), self.fields(other)),
                _ => false,
            }
        })
    }
}

fn shared_types<'a>(one: &'a Map<String, Value>, other: &'a Map<String, Value>) -> Vec<&'a str> {
    let (one, other): (Vec<_>, Vec<_>) = (types(one).into_iter().collect(), types(other).into_iter().collect());
    let narrower = one.iter().filter(|r#type| allows(&other, r#type));
    narrower.chain(other.iter().filter(|r#type| allows(&one, r#type) && !one.contains(r#type))).copied().collect()
}

/// Whether one needs a field that the other never has.
fn lacks(one: &Map<String, Value>, other: &Map<String, Value>) -> bool {
    let is_closed =
        other.get("additionalProperties") == Some(&Value::Bool(false)) && !other.contains_key("patternProperties");
    is_closed && required(one).into_iter().any(|name| !has_field(other, name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn are_apart(one: &Value, other: &Value) -> bool {
        let root = json!({ "$defs": { "X": { "const": "x" } }, "oneOf": [one, other] });
        let document = Document { root: &root };
        let apart = |one: usize, other: usize| Apart::of(document).are(&root["oneOf"][one], &root["oneOf"][other]);
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
            (json!({ "const": 1 }), json!({ "const": 1.0 })),
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
