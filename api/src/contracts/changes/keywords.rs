//! What stands in one schema.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use buzzer_shared::contract::{Document, type_of};
use serde_json::{Map, Value};

/// So many references in a row are followed.
const CHAIN_MAX: usize = 100;
const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];
/// What says nothing about values.
const ANNOTATIONS: [&str; 13] = [
    "$schema",
    "$id",
    "$anchor",
    "$comment",
    "$defs",
    "definitions",
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
];

/// What a schema refers to in the end, where it says nothing else itself.
pub(super) fn followed<'a>(document: Document<'a>, mut schema: &'a Value) -> &'a Value {
    // It has an end: circles were refused. Whoever was stored before they were is not followed for ever.
    for _ in 0..CHAIN_MAX {
        let bare =
            schema.as_object().is_some_and(|fields| fields.keys().all(|keyword| keyword == "$ref" || !tells(keyword)));
        match document.target(schema) {
            Some(target) if bare => schema = target,
            _ => return schema,
        }
    }
    schema
}

/// Whether one number is a multiple of another, by their quotient: 1 is one of 0.01, though not in floating point.
pub(super) fn is_whole(quotient: f64) -> bool {
    (quotient - quotient.round()).abs() <= quotient.abs() * f64::EPSILON * 4.0
}

/// Its keywords; `true` has none.
pub(super) fn fields(schema: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    schema.as_object().unwrap_or(&NONE)
}

pub(super) fn tells(keyword: &str) -> bool {
    !ANNOTATIONS.contains(&keyword)
}

pub(super) fn alternatives(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    let list = fields.get("anyOf").or_else(|| fields.get("oneOf"))?.as_array()?;
    Some(list.iter().collect())
}

/// What a person may know an alternative by.
pub(super) fn named(schema: &Value) -> String {
    if let Some(title) = schema.get("title").and_then(Value::as_str) {
        return format!("{title:?}");
    }
    let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let mut tags = fields.filter_map(|(name, field)| Some(format!("{name}: {}", field.get("const")?)));
    let r#type = || schema.get("type").map_or_else(|| "without a name".into(), |r#type| format!("of type {type}"));
    tags.next().unwrap_or_else(r#type)
}

/// The types that it takes, by its `type` or by the values that it names.
pub(super) fn types(fields: &Map<String, Value>) -> BTreeSet<&str> {
    match (fields.get("type"), values(fields)) {
        (Some(Value::String(one)), _) => [one.as_str()].into(),
        (Some(Value::Array(several)), _) => several.iter().filter_map(Value::as_str).collect(),
        (_, Some(values)) => values.into_iter().map(type_of).collect(),
        _ => TYPES.into(),
    }
}

pub(super) fn values(fields: &Map<String, Value>) -> Option<Vec<&Value>> {
    match (fields.get("const"), fields.get("enum")) {
        (Some(value), _) => Some(vec![value]),
        (None, Some(Value::Array(values))) => Some(values.iter().collect()),
        _ => None,
    }
}

/// Whether two values are the same, as [`text`] has it. Ends where they differ first.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(_), Value::Number(_)) => text(one) == text(other),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            let is_there = |(name, one): (&String, &Value)| other.get(name).is_some_and(|other| same(one, other));
            one.len() == other.len() && one.iter().all(is_there)
        }
        _ => one == other,
    }
}

/// A value as the only text of its kind: 1 and 1.0 are the same number.
pub(super) fn text(value: &Value) -> String {
    fn plain(value: &Value) -> Value {
        match value {
            Value::Number(number) => match number.as_f64() {
                // So far are whole numbers exact.
                Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 9e15 => (float as i64).into(),
                _ => value.clone(),
            },
            Value::Array(items) => items.iter().map(plain).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), plain(value))).collect(),
            _ => value.clone(),
        }
    }
    plain(value).to_string()
}

pub(super) fn properties(fields: &Map<String, Value>) -> Option<&Map<String, Value>> {
    fields.get("properties")?.as_object()
}

pub(super) fn has_field(fields: &Map<String, Value>, name: &str) -> bool {
    properties(fields).is_some_and(|named| named.contains_key(name))
}

pub(super) fn required(fields: &Map<String, Value>) -> BTreeSet<&str> {
    fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}
