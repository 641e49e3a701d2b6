//! Schemas that contradict themselves: mistakes, which would refuse every job of a kind, or all that somebody thought of.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde_json::{Map, Number, Value};

use super::schema::{Bearing, Document, Inner, Step, inner};
use super::types::Types;
use crate::text::shorten;

/// What bounds a value of a type from below, and what from above; whether both may be the same.
const BOUNDS: [(Types, &str, &str, bool); 7] = [
    (Types::NUMBER, "minimum", "maximum", true),
    (Types::NUMBER, "exclusiveMinimum", "maximum", false),
    (Types::NUMBER, "minimum", "exclusiveMaximum", false),
    (Types::NUMBER, "exclusiveMinimum", "exclusiveMaximum", false),
    (Types::STRING, "minLength", "maxLength", true),
    (Types::ARRAY, "minItems", "maxItems", true),
    (Types::OBJECT, "minProperties", "maxProperties", true),
];
/// Up to here each whole number has a floating-point number of its own.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// So many keywords, names and values are looked at, each as often as schemas that bear it are met. Past that, nothing is
/// plain to see. A contract of thousands of schemas has a tenth.
const WORK_MAX: usize = 4_000_000;
/// So much of a reason is told, in bytes.
const REASON_MAX: usize = 300;
/// Of so many values it is looked whether other lists name them, too.
const VALUES_COMPARED: usize = 16;
/// So much of a place is told, in bytes.
const PLACE_MAX: usize = 200;

/// Where a schema contradicts itself, and why nothing fits it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contradiction {
    /// A JSON pointer into the schema.
    place: String,
    reason: String,
}

/// What stands behind "contradicts itself".
impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => f.write_str(&self.reason),
            place => write!(f, "at {place:?}, {}", self.reason),
        }
    }
}

/// The innermost part of a schema that says more than `false` and that nothing fits; `None` where none is plain to see.
///
/// A keyword bears on one type of values. Where types are stated, a contradiction leaves the others; where none are, it
/// is a mistake for its own. References must lead somewhere and make no circle on one value: `look_at_shape` comes
/// first.
pub(super) fn contradiction(root: &Value) -> Option<Contradiction> {
    let mut parts = vec![Part { schema: root, within: None }];
    let mut seen = 0;
    while seen < parts.len() {
        let held = inner(parts[seen].schema).into_iter().filter(|inner| inner.bearing != Bearing::Trial);
        parts.extend(held.map(|inner| Part { schema: inner.schema, within: Some((seen, inner)) }));
        seen += 1;
    }
    let mut search = Search { document: Document { root }, judged: HashMap::new(), left: WORK_MAX };
    // From the last on, what is within comes first.
    let mut innermost = (0..parts.len()).rev();
    let at = innermost.find(|at| search.is_mistake(parts[*at].schema) || (*at == 0 && search.judge(root).is_err()))?;
    let at = search.referred(&parts, at);
    let reason = search.judge(parts[at].schema).err()?;
    Some(Contradiction { place: shorten(place(&parts, at), PLACE_MAX), reason })
}

/// A schema, and the one that it stands in.
struct Part<'a> {
    schema: &'a Value,
    within: Option<(usize, Inner<'a>)>,
}

fn place(parts: &[Part<'_>], mut at: usize) -> String {
    let mut steps = Vec::new();
    while let Some((outer, inner)) = &parts[at].within {
        steps.push(match inner.step {
            Step::Only => format!("/{}", inner.keyword),
            Step::Name(name) => format!("/{}/{}", inner.keyword, name.replace('~', "~0").replace('/', "~1")),
            Step::Number(number) => format!("/{}/{number}", inner.keyword),
        });
        at = *outer;
    }
    steps.into_iter().rev().collect()
}

struct Search<'a> {
    document: Document<'a>,
    /// What was found of each schema that was begun with; that all fits while it is under way, for what holds itself as a
    /// part may still have an end.
    judged: HashMap<*const Value, Result<Types, String>>,
    /// How much may still be looked at.
    left: usize,
}

impl<'a> Search<'a> {
    /// Whether nothing fits it, though it says more than `false`, by which a schema within another forbids.
    fn is_mistake(&mut self, schema: &'a Value) -> bool {
        self.judge(schema).is_err() && !self.all_of(schema).into_iter().any(is_false)
    }

    /// What a part refers to, if that is the mistake.
    fn referred(&mut self, parts: &[Part<'a>], mut at: usize) -> usize {
        while let Some(target) = self.document.target(parts[at].schema).filter(|target| self.is_mistake(target))
            && let Some(place) = parts.iter().position(|part| std::ptr::eq(part.schema, target))
        {
            at = place;
        }
        at
    }

    /// The types of what may fit a schema.
    ///
    /// # Errors
    /// Why nothing fits.
    fn judge(&mut self, schema: &'a Value) -> Result<Types, String> {
        let key = std::ptr::from_ref(schema);
        if let Some(judged) = self.judged.get(&key) {
            return judged.clone();
        }
        self.judged.insert(key, Ok(Types::ALL));
        let judged = self.look(schema).map_err(|reason| shorten(reason, REASON_MAX));
        self.judged.insert(key, judged.clone());
        judged
    }

    fn possible(&mut self, schema: &'a Value) -> Types {
        self.judge(schema).unwrap_or(Types::NONE)
    }

    fn look(&mut self, schema: &'a Value) -> Result<Types, String> {
        let all = self.all_of(schema);
        if all.iter().any(|schema| is_false(schema)) {
            return Err("false must hold, and nothing fits it".into());
        }
        let fields: Vec<_> = all.iter().filter_map(|schema| schema.as_object()).collect();
        self.left = self.left.saturating_sub(work(&fields));
        if self.left == 0 {
            return Ok(Types::ALL);
        }
        let mut left = stated(&fields)?;
        for schema in &all {
            left = self.alternatives(schema, left)?;
        }
        let stated = left != Types::ALL;
        for (types, reason) in self.emptied(&all, &fields) {
            left = left - types;
            if left.is_empty() || !stated {
                return Err(reason);
            }
        }
        Ok(left)
    }

    /// Types of which no value fits, each with the reason.
    fn emptied(&mut self, all: &[&'a Value], fields: &[&'a Map<String, Value>]) -> Vec<(Types, String)> {
        let mut emptied: Vec<_> = BOUNDS.into_iter().filter_map(|bounds| out_of_bounds(fields, bounds)).collect();
        let reason = unnamed(fields).or_else(|| self.unfillable(all, fields));
        emptied.extend(reason.map(|reason| (Types::OBJECT, reason)));
        emptied
    }

    /// Why an object cannot have what it must have: nothing fits there.
    fn unfillable(&mut self, all: &[&'a Value], fields: &[&Map<String, Value>]) -> Option<String> {
        let named = all.iter().filter_map(|schema| schema.get("properties")?.as_object()).flatten();
        let impossible: Vec<_> = named.filter(|(_, schema)| self.possible(schema).is_empty()).collect();
        if impossible.is_empty() {
            return None;
        }
        let required: HashSet<_> = fields.iter().flat_map(|fields| required(fields)).collect();
        let (name, _) = impossible.into_iter().find(|(name, _)| required.contains(name.as_str()))?;
        Some(format!("it requires the property {name:?}, and nothing fits that"))
    }

    /// Which of these types what fits one of the alternatives may have.
    fn alternatives(&mut self, schema: &'a Value, mut left: Types) -> Result<Types, String> {
        for keyword in ["anyOf", "oneOf"] {
            let Some(list) = schema.get(keyword).and_then(Value::as_array) else { continue };
            let any = list.iter().map(|any| self.possible(any)).fold(Types::NONE, |all, one| all | one);
            if (left & any).is_empty() {
                return Err(match any {
                    Types::NONE => format!("nothing fits any alternative of its {keyword}"),
                    any => format!("it wants {left}, and the alternatives of its {keyword} want {any}"),
                });
            }
            left = left & any;
        }
        Ok(left)
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

/// Whether it is `false`, in either of two spellings.
fn is_false(schema: &Value) -> bool {
    let all = |schema: &Value| schema.as_bool() == Some(true) || schema.as_object().is_some_and(Map::is_empty);
    match schema {
        Value::Object(fields) => fields.len() == 1 && fields.get("not").is_some_and(all),
        other => other.as_bool() == Some(false),
    }
}

/// How much there is to look at in schemas that must all hold.
fn work(all: &[&Map<String, Value>]) -> usize {
    let of =
        |keyword| all.iter().filter_map(move |fields| fields.get(keyword)?.as_array()).map(Vec::len).sum::<usize>();
    let named = |fields: &&Map<String, Value>| fields.get("properties").and_then(Value::as_object).map_or(0, Map::len);
    let closed = all.iter().filter(|fields| is_closed(fields)).count();
    let properties: usize = all.iter().map(named).sum();
    all.len() + properties + of("enum") * VALUES_COMPARED + of("required") * (1 + closed)
}

/// The types that schemas which must all hold name, themselves or by their values.
fn stated(all: &[&Map<String, Value>]) -> Result<Types, String> {
    let mut stated = Types::ALL;
    for types in all.iter().filter_map(|fields| Types::stated(fields)) {
        if (stated & types).is_empty() {
            return Err(format!("it must be {stated}, and {types} as well"));
        }
        stated = stated & types;
    }
    let lists: Vec<_> = all.iter().flat_map(|fields| values(fields)).collect();
    if !have_one_in_common(&lists) {
        return Err("its lists of values have none in common".into());
    }
    for values in lists {
        let named = values.iter().map(Types::of).fold(Types::NONE, |all, one| all | one);
        if (stated & named).is_empty() {
            return Err(match named {
                Types::NONE => "its enum names no value".into(),
                named => format!("it wants {stated}, and the values that it names are {named}"),
            });
        }
        stated = stated & named;
    }
    Ok(stated)
}

/// The values that a schema names, by each keyword that does.
fn values(fields: &Map<String, Value>) -> impl Iterator<Item = &[Value]> {
    let several = fields.get("enum").and_then(Value::as_array);
    fields.get("const").map(std::slice::from_ref).into_iter().chain(several.map(Vec::as_slice))
}

/// Whether a value may stand in each of these lists.
fn have_one_in_common(lists: &[&[Value]]) -> bool {
    let Some(shortest) = lists.iter().min_by_key(|list| list.len()) else { return true };
    // To compare long ones with each other would take long.
    shortest.is_empty()
        || shortest.len() > VALUES_COMPARED
        || shortest.iter().any(|value| lists.iter().all(|list| list.iter().any(|other| may_equal(value, other))))
}

/// 1 is 1.0; whether two that have parts are the same is not looked at.
fn may_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one.as_f64() == other.as_f64(),
        (Value::Array(_), Value::Array(_)) | (Value::Object(_), Value::Object(_)) => true,
        _ => one == other,
    }
}

/// The type of which nothing lies between two bounds, with the reason.
fn out_of_bounds(
    all: &[&Map<String, Value>],
    (types, least, most, reach): (Types, &str, &str, bool),
) -> Option<(Types, String)> {
    let of = |keyword| all.iter().filter_map(move |fields| fields.get(keyword)?.as_number());
    let size = |number: &&Number| number.as_f64().unwrap_or_default();
    let low = of(least).max_by(|one, other| size(one).total_cmp(&size(other)))?;
    let high = of(most).min_by(|one, other| size(one).total_cmp(&size(other)))?;
    let (from, to) = (size(&low), size(&high));
    // Large ones that are the same here may differ.
    let meet = from == to && !reach && from.abs() < EXACT;
    (from > to || meet).then(|| (types, format!("nothing lies between its {least} {low} and its {most} {high}")))
}

/// Why an object cannot have what it must have: another of these schemas rules out all names but its own.
fn unnamed(all: &[&Map<String, Value>]) -> Option<String> {
    let name = all.iter().filter(|fields| is_closed(fields)).find_map(|closed| {
        let named = closed.get("properties").and_then(Value::as_object);
        all.iter().flat_map(|fields| required(fields)).find(|name| named.is_none_or(|named| !named.contains_key(*name)))
    })?;
    Some(format!("it requires the property {name:?}, and allows none of this name"))
}

/// Whether an object may have no properties but those that this one names.
fn is_closed(fields: &Map<String, Value>) -> bool {
    fields.get("additionalProperties") == Some(&Value::Bool(false)) && !fields.contains_key("patternProperties")
}

fn required(fields: &Map<String, Value>) -> impl Iterator<Item = &str> {
    fields.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;
    use crate::contract::usable;

    #[test]
    fn what_nothing_fits_is_found_with_its_place() {
        let (low, high) = (json!({ "minimum": 3 }), json!({ "maximum": 2.5 }));
        for (schema, told) in [
            (json!(false), "false must hold, and nothing fits it"),
            (json!({ "not": {} }), "false must hold, and nothing fits it"),
            (json!({ "allOf": [{ "title": "a" }, false] }), "false must hold, and nothing fits it"),
            (
                json!({ "type": "string", "minLength": 5, "maxLength": 4 }),
                "nothing lies between its minLength 5 and its maxLength 4",
            ),
            (
                json!({ "properties": { "n/m": { "minimum": 3, "maximum": 2.5 } } }),
                r#"at "/properties/n~1m", nothing lies between its minimum 3 and its maximum 2.5"#,
            ),
            (
                json!({ "allOf": [true, { "items": { "minimum": 3, "exclusiveMaximum": 3 } }] }),
                r#"at "/allOf/1/items", nothing lies between its minimum 3 and its exclusiveMaximum 3"#,
            ),
            (
                json!({ "exclusiveMinimum": 5, "exclusiveMaximum": 3 }),
                "nothing lies between its exclusiveMinimum 5 and its exclusiveMaximum 3",
            ),
            (
                json!({ "$defs": { "a": { "minItems": 2, "maxItems": 1 } } }),
                r#"at "/$defs/a", nothing lies between its minItems 2 and its maxItems 1"#,
            ),
            (json!({ "allOf": [low, high] }), "nothing lies between its minimum 3 and its maximum 2.5"),
            (
                json!({ "$ref": "#/$defs/L", "maximum": 2, "$defs": { "L": { "allOf": [low] } } }),
                "nothing lies between its minimum 3 and its maximum 2",
            ),
            (json!({ "enum": [] }), "its enum names no value"),
            (
                json!({ "type": "integer", "enum": ["a", 1.5e-3, null] }),
                "it wants integer, and the values that it names are null or number or string",
            ),
            (
                json!({ "type": ["string", "null"], "const": 1 }),
                "it wants null or string, and the values that it names are integer",
            ),
            (json!({ "allOf": [{ "const": "a" }, { "enum": ["b", "c"] }] }), "its lists of values have none in common"),
            (json!({ "const": "a", "enum": ["b"] }), "its lists of values have none in common"),
            (
                json!({ "required": ["a"], "additionalProperties": false }),
                "it requires the property \"a\", and allows none of this name",
            ),
            (
                json!({ "allOf": [{ "type": "object", "required": ["a"] }, { "type": "object", "additionalProperties": false }] }),
                "it requires the property \"a\", and allows none of this name",
            ),
            (
                json!({ "required": ["a"], "properties": { "a": false } }),
                "it requires the property \"a\", and nothing fits that",
            ),
            (
                json!({ "required": ["a"], "properties": { "a": { "$ref": "#/$defs/N" } }, "$defs": { "N": { "not": true } } }),
                "it requires the property \"a\", and nothing fits that",
            ),
            (json!({ "allOf": [{ "type": "string" }, { "type": "object" }] }), "it must be string, and object as well"),
            (
                json!({ "$defs": { "S": { "type": "string" } }, "type": ["object", "null"], "$ref": "#/$defs/S" }),
                "it must be null or object, and string as well",
            ),
            (
                json!({ "type": "object", "anyOf": [{ "type": "string" }, { "type": "null" }] }),
                "it wants object, and the alternatives of its anyOf want null or string",
            ),
            (
                json!({ "anyOf": [false, { "$ref": "#/$defs/N" }], "$defs": { "N": false } }),
                "nothing fits any alternative of its anyOf",
            ),
            (
                json!({ "type": "object", "required": ["next"], "properties": { "next": { "$ref": "#" } }, "anyOf": [{ "type": "string" }] }),
                "it wants object, and the alternatives of its anyOf want string",
            ),
            (
                json!({ "properties": { "a": { "items": { "$ref": "#/$defs/N" } } }, "$defs": { "N": { "minimum": 3, "maximum": 2 } } }),
                r#"at "/$defs/N", nothing lies between its minimum 3 and its maximum 2"#,
            ),
            (json!({ "anyOf": [false, false] }), "nothing fits any alternative of its anyOf"),
            (
                json!({ "allOf": [{ "$ref": "#/$defs/N" }], "$defs": { "N": { "oneOf": [] } } }),
                r#"at "/$defs/N", nothing fits any alternative of its oneOf"#,
            ),
        ] {
            let found = contradiction(&schema).unwrap_or_else(|| panic!("nothing wrong in {schema}"));
            assert_eq!(found.to_string(), told, "{schema}");
        }
    }

    #[test]
    fn what_something_fits_is_left_alone() {
        for schema in [
            json!(true),
            json!({ "minimum": 3, "maximum": 3 }),
            json!({ "not": { "enum": [] }, "properties": { "a": false, "b": { "not": {} } } }),
            json!({ "type": "number", "enum": [1] }),
            json!({ "type": "integer", "enum": [2.0, "a"] }),
            json!({ "const": 1, "enum": [1.0] }),
            json!({ "properties": { "old": { "$ref": "#/$defs/N" } }, "$defs": { "N": { "not": {} } } }),
            json!({ "anyOf": [{ "$ref": "#/$defs/N" }, { "type": "string" }], "$defs": { "N": false } }),
            json!({ "minimum": 5, "maximum": 3, "anyOf": [{ "type": "string" }] }),
            json!({ "required": ["ab"], "additionalProperties": false, "patternProperties": { "^a": true } }),
            json!({ "anyOf": [false, { "type": "null" }] }),
            json!({ "allOf": [{ "type": "number" }, { "type": ["integer", "null"] }] }),
            json!({ "allOf": [{ "minimum": 1, "maximum": 4 }, { "minimum": 4 }], "maximum": 9 }),
            json!({ "required": ["next"], "properties": { "next": { "$ref": "#" } } }),
            // What bears on objects leaves null, and what bears on numbers leaves texts.
            json!({ "type": ["object", "null"], "required": ["a"], "additionalProperties": false }),
            json!({ "allOf": [{ "type": ["object", "null"], "required": ["a"] }, { "additionalProperties": false }] }),
            json!({ "type": "string", "minimum": 5, "maximum": 3, "required": ["a"], "properties": { "a": false } }),
            json!({ "type": ["array", "null"], "minItems": 2, "maxItems": 1 }),
            // As floating-point numbers the two are the same.
            json!({ "exclusiveMinimum": 9_007_199_254_740_992_u64, "maximum": 9_007_199_254_740_993_u64 }),
        ] {
            assert_eq!(contradiction(&schema), None, "{schema}");
        }
    }

    /// Each is about as large as a contract may be, and refers to what takes longest again and again.
    #[test]
    fn what_is_large_is_looked_at_in_no_time() {
        let refer = |count: usize, to: &dyn Fn(usize) -> Value| -> Map<_, _> {
            (0..count).map(|n| (n.to_string(), to(n))).collect()
        };
        let all = |_| json!({ "$ref": "#/$defs/all" });
        let names: Vec<_> = (0..20_000).map(|n| n.to_string()).collect();
        let required = json!({ "$defs": { "all": { "required": names } }, "properties": refer(1_900, &all) });

        let long = refer(990, &|n| {
            let next = format!("#/$defs/{}", (n + 1) % 990);
            json!({ "required": ["a"], "properties": { "a": { "$ref": next } } })
        });
        let long = json!({ "$ref": "#/$defs/0", "$defs": long });

        let types = json!(["null", "boolean", "number", "string", "array", "object"]);
        let values = json!({ "enum": (0..1_990).map(|n| json!(n)).chain([Value::Null]).collect::<Vec<_>>() });
        let mut both = vec![json!({ "type": types }); 900];
        both.extend(vec![values; 12]);
        let values = json!({ "$defs": { "all": { "allOf": both } }, "properties": refer(1_000, &all) });

        let letters = (b'a'..=b'z').map(char::from);
        let short: Vec<_> = letters
            .clone()
            .flat_map(|a| letters.clone().flat_map(move |b| ('a'..='z').map(move |c| format!("{a}{b}{c}"))))
            .collect();
        let forbidden = json!({ "required": short, "properties": refer(900, &|_| json!(false)) });
        let forbidden = json!({ "$defs": { "all": forbidden }, "properties": refer(1_000, &all) });

        for schema in [required, long, values, forbidden] {
            let begun = Instant::now();
            usable(&schema).unwrap();
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        }
    }
}
