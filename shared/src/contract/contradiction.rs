//! Schemas that contradict themselves: mistakes, which would refuse every job of a kind, or all that somebody thought of.

use std::collections::{BTreeSet, HashMap, HashSet};

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
///
/// References in it must lead somewhere and make no circle on one value: `look_at_shape` comes first.
pub(super) fn contradiction(root: &Value) -> Option<String> {
    let search = Search { document: Document { root }, impossible: HashMap::new() };
    search.begin(root)
}

struct Search<'a> {
    document: Document<'a>,
    /// Whether nothing fits, for each schema that was begun with. As long as one is under way, something may: what
    /// holds itself may still end.
    impossible: HashMap<*const Value, bool>,
}

impl<'a> Search<'a> {
    fn begin(mut self, root: &'a Value) -> Option<String> {
        let (mut next, mut seen) = (vec![root], 0);
        // A schema within another may well be `false`: it forbids. One that says more and fits nothing is a mistake.
        while seen < next.len() {
            if next[seen].is_object()
                && let Some(reason) = at_odds(&fields(&self.all_of(next[seen])))
            {
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
        let key = std::ptr::from_ref(schema);
        if let Some(&impossible) = self.impossible.get(&key) {
            return impossible.then(|| "nothing fits it".into());
        }
        self.impossible.insert(key, false);
        let reason = self.examine(schema);
        self.impossible.insert(key, reason.is_some());
        reason
    }

    fn examine(&mut self, schema: &'a Value) -> Option<String> {
        let all = self.all_of(schema);
        if all.iter().any(|schema| schema.as_bool() == Some(false)) {
            return Some("it is false, so nothing fits it".into());
        }
        let fields = fields(&all);
        at_odds(&fields).or_else(|| {
            let required = required(&fields);
            all.into_iter().find_map(|schema| self.within(schema, &required))
        })
    }

    /// Why nothing fits this one as long as its parts are what they are.
    fn within(&mut self, schema: &'a Value, required: &BTreeSet<&str>) -> Option<String> {
        let held = inner(schema);
        for keyword in ["anyOf", "oneOf"] {
            let reasons: Vec<_> =
                held.iter().filter(|inner| inner.keyword == keyword).map(|inner| self.never(inner.schema)).collect();
            if schema.get(keyword).is_some() && reasons.iter().all(Option::is_some) {
                return Some(format!("nothing fits any alternative of its {keyword}"));
            }
        }
        held.iter().filter(|inner| inner.keyword == "properties").find_map(|property| {
            let name = property.name.filter(|name| required.contains(name))?;
            self.never(property.schema).map(|reason| format!("its property {name:?} is required, but {reason}"))
        })
    }

    /// Those that a value must fit to fit this one: itself, what it refers to, and all of its `allOf`. Each once.
    fn all_of(&self, schema: &'a Value) -> Vec<&'a Value> {
        let (mut found, mut met, mut seen) = (vec![schema], HashSet::from([std::ptr::from_ref(schema)]), 0);
        while seen < found.len() {
            let all = found[seen].get("allOf").and_then(Value::as_array).into_iter().flatten();
            for more in all.chain(self.document.target(found[seen])) {
                if met.insert(std::ptr::from_ref(more)) {
                    found.push(more);
                }
            }
            seen += 1;
        }
        found
    }
}

fn fields<'a>(schemas: &[&'a Value]) -> Vec<&'a Map<String, Value>> {
    schemas.iter().filter_map(|schema| schema.as_object()).collect()
}

/// Why the keywords of schemas that must all hold contradict each other.
fn at_odds(all: &[&Map<String, Value>]) -> Option<String> {
    for (least, most, reach) in BOUNDS {
        let of = |keyword| all.iter().filter_map(move |fields| fields.get(keyword)?.as_f64());
        let (low, high) = (of(least).fold(f64::NEG_INFINITY, f64::max), of(most).fold(f64::INFINITY, f64::min));
        if low > high || (low >= high && !reach) {
            return Some(format!("its {least} {low} is above its {most} {high}"));
        }
    }
    let types: Vec<_> = all.iter().filter_map(|fields| type_names(fields.get("type")?)).collect();
    let of_type = |r#type: &str| types.iter().all(|types| allows(types, r#type));
    if !types.is_empty() && !types.iter().flatten().any(|r#type| of_type(r#type)) {
        return Some("what must all hold wants values of different types".into());
    }
    if all.iter().filter_map(|fields| values(fields)).any(|mut values| !values.any(|value| of_type(type_of(value)))) {
        return Some("none of the values that it names is of its type".into());
    }
    let required = required(all);
    all.iter().filter(|fields| is_closed(fields)).find_map(|fields| {
        let named = fields.get("properties").and_then(Value::as_object);
        let name = required.iter().find(|name| named.is_none_or(|named| !named.contains_key(**name)))?;
        Some(format!("it requires the property {name:?}, and allows none of this name"))
    })
}

/// The values that a schema names, if it names any.
fn values(fields: &Map<String, Value>) -> Option<impl Iterator<Item = &Value>> {
    let (one, several) = match (fields.get("const"), fields.get("enum")) {
        (Some(value), _) => (Some(value), None),
        (None, Some(Value::Array(values))) => (None, Some(values)),
        _ => return None,
    };
    Some(one.into_iter().chain(several.into_iter().flatten()))
}

/// Whether an object may have no properties but those that this one names.
fn is_closed(fields: &Map<String, Value>) -> bool {
    fields.get("additionalProperties") == Some(&Value::Bool(false)) && !fields.contains_key("patternProperties")
}

/// The names that must be there.
fn required<'a>(all: &[&'a Map<String, Value>]) -> BTreeSet<&'a str> {
    let lists = all.iter().filter_map(|fields| fields.get("required")?.as_array());
    lists.flatten().filter_map(Value::as_str).collect()
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
            (
                json!({ "anyOf": [{ "$ref": "#/$defs/N" }, { "$ref": "#/$defs/N" }], "$defs": { "N": { "oneOf": [false] } } }),
                "of its anyOf",
            ),
            (
                json!({ "allOf": [{ "type": "object", "required": ["a"] }, { "type": "object", "additionalProperties": false }] }),
                "\"a\"",
            ),
            (
                json!({ "$ref": "#/$defs/L", "maximum": 2, "$defs": { "L": { "allOf": [{ "minimum": 3 }] } } }),
                "minimum 3 is above its maximum 2",
            ),
            (json!({ "items": { "type": "string", "allOf": [{ "enum": [1, 2] }] } }), "none of the values"),
            (
                json!({ "required": ["a"], "properties": { "a": { "$ref": "#/$defs/N" } }, "$defs": { "N": { "allOf": [true, false] } } }),
                "\"a\" is required, but it is false",
            ),
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

    /// Each of a thousand schemas requires the next, or all the same names.
    #[test]
    fn long_ways_are_gone_in_no_time() {
        let names: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
        let wide = (0..990).map(|n| (n.to_string(), json!({ "$ref": "#/$defs/all" })));
        let all = ("all".to_owned(), json!({ "required": names }));
        let long = (0..990).map(|n| {
            let next = format!("#/$defs/{}", (n + 1) % 990);
            (n.to_string(), json!({ "required": ["a"], "properties": { "a": { "$ref": next } } }))
        });
        for definitions in [long.collect(), wide.chain([all]).collect::<Map<_, _>>()] {
            let begun = std::time::Instant::now();
            let schema = json!({ "$ref": "#/$defs/0", "$defs": definitions });
            crate::contract::usable(&schema).unwrap();
            assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
        }
    }
}
