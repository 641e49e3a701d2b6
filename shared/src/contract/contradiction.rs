//! Schemas that contradict themselves: mistakes, which would refuse every job of a kind, or all that somebody thought of.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::schema::{Bearing, Document, inner};

/// What bounds a value from below, and what from above.
const BOUNDS: [(&str, &str, bool); 6] = [
    ("minimum", "maximum", true),
    ("exclusiveMinimum", "maximum", false),
    ("minimum", "exclusiveMaximum", false),
    ("minLength", "maxLength", true),
    ("minItems", "maxItems", true),
    ("minProperties", "maxProperties", true),
];

/// Why nothing fits a schema, or a part of it that says more than `false`; `None` where no reason is plain.
pub(super) fn contradiction(root: &Value) -> Option<String> {
    let search = Search { document: Document { root }, visited: HashSet::new() };
    search.begin(root)
}

struct Search<'a> {
    document: Document<'a>,
    visited: HashSet<*const Value>,
}

impl<'a> Search<'a> {
    fn begin(mut self, root: &'a Value) -> Option<String> {
        let (mut next, mut seen) = (vec![root], 0);
        // A schema within another may well be `false`: it forbids. One that says more and fits nothing is a mistake.
        while seen < next.len() {
            if let Some(reason) = next[seen].as_object().and_then(at_odds) {
                return Some(reason);
            }
            let held = inner(next[seen]).into_iter().filter(|inner| inner.bearing != Bearing::Trial);
            next.extend(held.map(|inner| inner.schema));
            seen += 1;
        }
        self.never(root)
    }

    /// Why nothing fits this one, with all that it refers to.
    fn never(&mut self, schema: &'a Value) -> Option<String> {
        if schema.as_bool() == Some(false) {
            return Some("it is false, so nothing fits it".into());
        }
        let fields = schema.as_object()?;
        if !self.visited.insert(std::ptr::from_ref(schema)) {
            // Already found to be possible, or still under way: what fits, fits with an end.
            return None;
        }
        if let Some(reason) = at_odds(fields) {
            return Some(reason);
        }
        let held = inner(schema);
        let of =
            |keyword: &'static str| held.iter().filter(move |inner| inner.keyword == keyword).map(|inner| inner.schema);
        let target = self.document.target(schema);
        if let Some(reason) = of("allOf").chain(target).find_map(|all| self.never(all)) {
            return Some(reason);
        }
        let all: Vec<_> = of("allOf").chain(target).filter_map(types).chain(types(schema)).collect();
        if !all.is_empty() && !all.iter().flatten().any(|r#type| all.iter().all(|types| allows(types, r#type))) {
            return Some("what must all hold wants values of different types".into());
        }
        for keyword in ["anyOf", "oneOf"] {
            let reasons: Vec<_> = of(keyword).map(|any| self.never(any)).collect();
            if fields.contains_key(keyword) && reasons.iter().all(Option::is_some) {
                return Some(format!("nothing fits any alternative of its {keyword}"));
            }
        }
        let required = required(fields);
        let mut properties = held.iter().filter(|inner| inner.keyword == "properties");
        properties.find_map(|property| {
            let name = property.name.filter(|name| required.contains(name))?;
            self.never(property.schema).map(|reason| format!("its property {name:?} is required, but {reason}"))
        })
    }
}

/// Why the keywords of one schema contradict each other.
fn at_odds(fields: &Map<String, Value>) -> Option<String> {
    for (least, most, reach) in BOUNDS {
        let of = |keyword: &str| fields.get(keyword).and_then(Value::as_f64);
        if let (Some(low), Some(high)) = (of(least), of(most))
            && (low > high || (low >= high && !reach))
        {
            return Some(format!("its {least} {low} is above its {most} {high}"));
        }
    }
    let types = fields.get("type").and_then(type_names);
    let values = match (fields.get("const"), fields.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    };
    if let Some(values) = values {
        let fits = |value: &&Value| types.as_ref().is_none_or(|types| allows(types, type_of(value)));
        if !values.iter().any(fits) {
            return Some("none of the values that it names is of its type".into());
        }
    }
    if fields.get("additionalProperties") == Some(&Value::Bool(false)) && !fields.contains_key("patternProperties") {
        let named = fields.get("properties").and_then(Value::as_object);
        let unnamed = |name: &&str| named.is_none_or(|named| !named.contains_key(*name));
        if let Some(name) = required(fields).into_iter().find(unnamed) {
            return Some(format!("it requires the property {name:?}, and allows none of this name"));
        }
    }
    None
}

fn required(fields: &Map<String, Value>) -> Vec<&str> {
    fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

fn types(schema: &Value) -> Option<Vec<&str>> {
    type_names(schema.get("type")?)
}

fn type_names(types: &Value) -> Option<Vec<&str>> {
    match types {
        Value::String(one) => Some(vec![one]),
        Value::Array(several) => Some(several.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

/// Whether every value of this type is of one of these.
pub fn allows(types: &[&str], r#type: &str) -> bool {
    types.iter().any(|own| *own == r#type || (*own, r#type) == ("number", "integer"))
}

/// What JSON Schema calls it.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_nothing_fits_is_found() {
        for (schema, part) in [
            (json!(false), "false"),
            (json!({ "type": "string", "minLength": 5, "maxLength": 4 }), "minLength 5"),
            (json!({ "properties": { "n": { "minimum": 3, "maximum": 2.5 } } }), "minimum 3"),
            (json!({ "items": { "minimum": 3, "exclusiveMaximum": 3 } }), "exclusiveMaximum 3"),
            (json!({ "$defs": { "a": { "minItems": 2, "maxItems": 1 } } }), "minItems 2"),
            (json!({ "enum": [] }), "none of the values"),
            (json!({ "type": "integer", "enum": ["a", 1.5e-3, null] }), "none of the values"),
            (json!({ "type": ["string", "null"], "const": 1 }), "none of the values"),
            (json!({ "required": ["a"], "additionalProperties": false }), "\"a\""),
            (json!({ "required": ["a"], "properties": { "a": false } }), "\"a\" is required"),
            (json!({ "allOf": [{ "type": "string" }, { "type": "object" }] }), "different types"),
            (json!({ "$defs": { "S": { "type": "string" } }, "type": "object", "$ref": "#/$defs/S" }), "different"),
            (json!({ "anyOf": [false, { "$ref": "#/$defs/N" }], "$defs": { "N": false } }), "anyOf"),
            (json!({ "allOf": [{ "$ref": "#/$defs/N" }], "$defs": { "N": { "oneOf": [] } } }), "oneOf"),
        ] {
            let found = contradiction(&schema).unwrap_or_else(|| panic!("nothing wrong in {schema}"));
            assert!(found.contains(part), "{found}: {schema}");
        }
    }

    #[test]
    fn what_something_fits_is_left_alone() {
        for schema in [
            json!(true),
            json!({ "minimum": 3, "maximum": 3 }),
            json!({ "not": { "enum": [] }, "properties": { "a": false } }),
            json!({ "type": "number", "enum": [1] }),
            json!({ "type": "integer", "enum": [2.0, "a"] }),
            json!({ "required": ["ab"], "additionalProperties": false, "patternProperties": { "^a": true } }),
            json!({ "anyOf": [false, { "type": "null" }] }),
            json!({ "allOf": [{ "type": "number" }, { "type": ["integer", "null"] }] }),
            json!({ "required": ["next"], "properties": { "next": { "$ref": "#" } } }),
        ] {
            assert_eq!(contradiction(&schema), None, "{schema}");
        }
    }
}
