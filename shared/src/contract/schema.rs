//! How one schema holds others, and refers to them.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use crate::text::shorten;

/// Deeper than that no schema is that a person wrote.
const DEPTH_MAX: usize = 64;
/// So many schemas within one are read. What they compile to must be taken apart again on an ordinary stack.
const SCHEMAS_MAX: usize = 2_000;
/// So many schemas in a row may bear on the same value, each through the one before: `$ref` to `allOf` to `$ref`.
const CHAIN_MAX: usize = 32;
/// So many schemas may be tried on one and the same value.
const TRIALS_MAX: u64 = 1_000;

/// What a schema within another bears on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bearing {
    /// On the same value.
    Same,
    /// The same, but it may as well not fit: `not`, `if`.
    Trial,
    /// On a part of the value.
    Part,
    /// On nothing, until somebody refers to it.
    Nothing,
}

/// A schema within another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inner<'a> {
    pub(super) bearing: Bearing,
    pub(super) keyword: &'static str,
    pub(super) step: Step<'a>,
    pub(super) schema: &'a Value,
}

/// Which of those it is that stand under one keyword.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step<'a> {
    Only,
    Name(&'a str),
    Number(usize),
}

/// Keywords that hold a schema.
const SINGLE: [(&str, Bearing); 11] = [
    ("not", Bearing::Trial),
    ("if", Bearing::Trial),
    ("then", Bearing::Same),
    ("else", Bearing::Same),
    ("items", Bearing::Part),
    ("unevaluatedItems", Bearing::Part),
    ("contains", Bearing::Part),
    ("additionalProperties", Bearing::Part),
    ("unevaluatedProperties", Bearing::Part),
    ("propertyNames", Bearing::Part),
    ("contentSchema", Bearing::Part),
];
/// Keywords that hold a list of them.
const LISTS: [(&str, Bearing); 4] =
    [("allOf", Bearing::Same), ("anyOf", Bearing::Same), ("oneOf", Bearing::Same), ("prefixItems", Bearing::Part)];
/// Keywords that hold them by name.
const MAPS: [(&str, Bearing); 5] = [
    ("properties", Bearing::Part),
    ("patternProperties", Bearing::Part),
    ("dependentSchemas", Bearing::Same),
    ("$defs", Bearing::Nothing),
    ("definitions", Bearing::Nothing),
];

/// Where the drafts have their names, behind the scheme.
const DRAFTS: &str = "json-schema.org/draft";
/// What older drafts say otherwise. Unknown keywords are taken, and say nothing: these would be taken for more.
const OLDER: [(&str, &str); 3] = [
    ("additionalItems", "use prefixItems for the first items, and items for the others"),
    ("dependencies", "use dependentRequired or dependentSchemas"),
    ("$recursiveRef", "use $ref"),
];

/// The schemas that stand directly within this one.
pub(super) fn inner(schema: &Value) -> Vec<Inner<'_>> {
    let Value::Object(fields) = schema else { return Vec::new() };
    let mut found = Vec::new();
    for (keyword, bearing) in SINGLE {
        if let Some(schema) = fields.get(keyword).filter(|value| is_schema(value)) {
            found.push(Inner { bearing, keyword, step: Step::Only, schema });
        }
    }
    for (keyword, bearing) in LISTS {
        let list = fields.get(keyword).and_then(Value::as_array).into_iter().flatten();
        let schemas = list.enumerate();
        found.extend(schemas.map(|(at, schema)| Inner { bearing, keyword, step: Step::Number(at), schema }));
    }
    for (keyword, bearing) in MAPS {
        let map = fields.get(keyword).and_then(Value::as_object).into_iter().flatten();
        let schemas = map.filter(|(_, value)| is_schema(value));
        found.extend(schemas.map(|(name, schema)| Inner { bearing, keyword, step: Step::Name(name), schema }));
    }
    found
}

fn is_schema(value: &Value) -> bool {
    value.is_object() || value.is_boolean()
}

/// Visits a schema and all within it, the innermost first. What looks like a schema and is none is left alone: data, and
/// what stands under keywords that nobody knows.
pub fn visit(schema: &mut Value, see: &mut impl FnMut(&mut Map<String, Value>)) {
    let Value::Object(fields) = schema else { return };
    for (keyword, held) in fields.iter_mut() {
        let has = |keywords: &[(&str, Bearing)]| keywords.iter().any(|(known, _)| known == keyword);
        match held {
            Value::Object(named) if has(&MAPS) => named.values_mut().for_each(|schema| visit(schema, see)),
            Value::Array(list) if has(&LISTS) => list.iter_mut().for_each(|schema| visit(schema, see)),
            one if has(&SINGLE) => visit(one, see),
            _ => {}
        }
    }
    see(fields);
}

/// Every schema in it, itself the first.
pub(super) fn all(root: &Value) -> Vec<&Value> {
    let (mut found, mut next) = (vec![root], 0);
    while next < found.len() {
        found.extend(inner(found[next]).into_iter().map(|inner| inner.schema));
        next += 1;
    }
    found
}

/// A schema with what it refers to.
#[derive(Debug, Clone, Copy)]
pub struct Document<'a> {
    pub root: &'a Value,
}

impl<'a> Document<'a> {
    /// What a schema refers to; `None` where it does not, or the reference leads nowhere.
    pub fn target(self, schema: &Value) -> Option<&'a Value> {
        self.find(schema.get("$ref")?.as_str()?)
    }

    /// Only what [`all`] comes to is found: what stands elsewhere, as under a keyword that nobody knows or among data,
    /// was not looked at, and would be compiled all the same.
    fn find(self, reference: &str) -> Option<&'a Value> {
        let place = reference.strip_prefix('#')?;
        if place.is_empty() {
            return Some(self.root);
        }
        // Who compiles it decodes `%2F` to a step more, and would come to another place.
        if place.contains('%') {
            return None;
        }
        let mut steps = place.strip_prefix('/')?.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
        let mut schema = self.root;
        while let Some(keyword) = steps.next() {
            let held = schema.as_object()?.get(&keyword)?;
            let has = |keywords: &[(&str, Bearing)]| keywords.iter().any(|(known, _)| *known == keyword);
            schema = match held {
                Value::Object(named) if has(&MAPS) => named.get(&steps.next()?)?,
                Value::Array(list) if has(&LISTS) => list.get(number(&steps.next()?)?)?,
                one if has(&SINGLE) => one,
                _ => return None,
            };
            if !is_schema(schema) {
                return None;
            }
        }
        Some(schema)
    }
}

/// A place in a list, as JSON pointers have it: there is one way to write each.
fn number(step: &str) -> Option<usize> {
    let number: usize = step.parse().ok()?;
    (number.to_string() == step).then_some(number)
}

/// Looks whether a schema may be compiled and tried on anything: its size, its references, how often it bears on
/// itself.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn look_at_shape(root: &Value) -> Result<Cost, String> {
    if depth(root) > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX}: make it flatter"));
    }
    let schemas = all(root);
    if schemas.len() > SCHEMAS_MAX {
        return Err(format!("it holds more than {SCHEMAS_MAX} schemas: make it smaller"));
    }
    let document = Document { root };
    for (at, schema) in schemas.iter().enumerate() {
        if let Value::Object(fields) = schema {
            look_at_draft(fields, at == 0)?;
            look_at_references(document, fields, at == 0)?;
        }
    }
    let mut trials = Trials { document, counted: HashMap::new(), under_way: HashSet::new() };
    let mut cost = Cost { trials: 1, ways: 1 };
    for schema in schemas {
        let count = trials.count(schema, 0)?;
        cost = Cost { trials: cost.trials.max(count.schemas), ways: cost.ways.max(count.ways) };
    }
    Ok(cost)
}

/// How many levels a value has; a number has none.
pub(super) fn depth(value: &Value) -> usize {
    // serde_json has bounded it when the announcement was read.
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whatever `$schema` says, a schema is read as JSON Schema 2020-12: in the documents it stands among others of that
/// draft.
fn look_at_draft(fields: &Map<String, Value>, is_root: bool) -> Result<(), String> {
    if let Some(draft) = fields.get("$schema").and_then(Value::as_str) {
        let known = draft.split_once("://").is_some_and(|(_, place)| place.starts_with(DRAFTS));
        if !is_root || !known {
            return Err(format!("its $schema {:?} is not known here: leave it out", shorten(draft.into(), 100)));
        }
    }
    if fields.get("items").is_some_and(Value::is_array) {
        return Err("items is a list in it: use prefixItems, as JSON Schema 2020-12 has it".into());
    }
    match OLDER.iter().find(|(keyword, _)| fields.contains_key(*keyword)) {
        Some((keyword, instead)) => Err(format!("{keyword} is of an older draft than 2020-12: {instead}")),
        None => Ok(()),
    }
}

/// The keyword whose value holds this place; `None` at a schema.
pub(super) fn keyword(place: &str) -> Option<&str> {
    let mut steps = place.strip_prefix('/')?.split('/');
    while let Some(keyword) = steps.next() {
        let has = |keywords: &[(&str, Bearing)]| keywords.iter().any(|(known, _)| *known == keyword);
        let within = has(&MAPS) || has(&LISTS);
        let is_value = if within { steps.next().is_none() } else { !has(&SINGLE) };
        if is_value {
            return Some(keyword);
        }
    }
    None
}

fn look_at_references(document: Document<'_>, fields: &Map<String, Value>, is_root: bool) -> Result<(), String> {
    if fields.contains_key("$dynamicRef") {
        return Err("$dynamicRef is not supported: use $ref".into());
    }
    // The older drafts call it `id`.
    if !is_root && ["$id", "id"].iter().any(|keyword| fields.get(*keyword).is_some_and(Value::is_string)) {
        return Err("a schema within it has an $id, which changes what references mean: leave it out".into());
    }
    let Some(reference) = fields.get("$ref") else { return Ok(()) };
    match reference.as_str() {
        Some(text) if !text.starts_with('#') => {
            let text = shorten(text.into(), 100);
            Err(format!("it refers to {text:?}, and nothing is fetched: put that under $defs"))
        }
        Some(text) if document.find(text).is_some() => Ok(()),
        Some(text) => {
            let text = shorten(text.into(), 100);
            Err(format!(
                "it refers to {text:?}, where no schema stands: put one under $defs, and refer to it as \"#/$defs/name\""
            ))
        }
        None => Err("a $ref in it is no text".into()),
    }
}

/// Counts what is tried on one value.
struct Trials<'a> {
    document: Document<'a>,
    counted: HashMap<*const Value, Count>,
    under_way: HashSet<*const Value>,
}

/// What it takes at most to try the schemas of a document on a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    /// How many schemas are tried on one value, each time that one comes to it.
    pub(super) trials: u64,
    /// How often they come to each part of it.
    pub(super) ways: u64,
}

/// What comes of trying a schema on a value.
#[derive(Debug, Clone, Copy)]
struct Count {
    /// How many schemas are tried, with itself.
    schemas: u64,
    /// How often one part of the value is looked at.
    ways: u64,
    /// How many schemas stand in a row below it.
    below: usize,
}

impl<'a> Trials<'a> {
    fn count(&mut self, schema: &'a Value, chain: usize) -> Result<Count, String> {
        let key = std::ptr::from_ref(schema);
        let too_long = || format!("more than {CHAIN_MAX} schemas in a row bear on one value: make it flatter");
        if let Some(&count) = self.counted.get(&key) {
            return if chain + count.below > CHAIN_MAX { Err(too_long()) } else { Ok(count) };
        }
        if chain > CHAIN_MAX {
            return Err(too_long());
        }
        if !self.under_way.insert(key) {
            return Err("a reference in it leads back to itself, and says nothing: take it out of the circle".into());
        }
        let inner = inner(schema);
        let mut count = Count { schemas: 1, ways: ways(&inner), below: 0 };
        let same = |inner: &Inner<'_>| matches!(inner.bearing, Bearing::Same | Bearing::Trial);
        let held = inner.iter().filter(|inner| same(inner)).map(|inner| inner.schema);
        for schema in held.chain(self.document.target(schema)) {
            let more = self.count(schema, chain + 1)?;
            count.schemas = count.schemas.saturating_add(more.schemas);
            count.ways = count.ways.saturating_add(more.ways);
            count.below = count.below.max(more.below + 1);
        }
        if count.schemas > TRIALS_MAX {
            return Err(format!("more than {TRIALS_MAX} schemas bear on one value: make it smaller"));
        }
        self.under_way.remove(&key);
        self.counted.insert(key, count);
        Ok(count)
    }
}

/// How often a schema looks at one part of a value, or at one name of a field: once, unless its keywords overlap.
fn ways(inner: &[Inner<'_>]) -> u64 {
    let any = |keywords: &[&str]| u64::from(inner.iter().any(|inner| keywords.contains(&inner.keyword)));
    let patterns = inner.iter().filter(|inner| inner.keyword == "patternProperties").count();
    let named = any(&["properties", "additionalProperties"]) + any(&["unevaluatedProperties"]) + patterns as u64;
    let fields = named.max(any(&["propertyNames"]));
    let items = any(&["items", "prefixItems"]) + any(&["contains"]) + any(&["unevaluatedItems"]);
    fields.max(items)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn schemas_are_told_from_data() {
        let schema = json!({
            "properties": { "$ref": { "type": "string" }, "enum": { "items": true } },
            "enum": [{ "$ref": "https://a.example" }],
            "default": { "properties": { "a": false } },
            "allOf": [{ "not": false }],
        });
        let inner: Vec<_> = inner(&schema).iter().map(|inner| (inner.keyword, inner.step)).collect();
        let named = |name| ("properties", Step::Name(name));
        assert_eq!(inner, [("allOf", Step::Number(0)), named("$ref"), named("enum")]);
        assert_eq!(all(&schema).len(), 6);
        assert_eq!(look_at_shape(&schema), Ok(Cost { trials: 3, ways: 1 }));
    }

    #[test]
    fn a_reference_is_followed_within_the_document() {
        let root = json!({ "$defs": { "a/b": { "not": { "title": "here" } } }, "$ref": "#/$defs/a~1b" });
        let document = Document { root: &root };
        assert_eq!(document.target(&root), root.pointer("/$defs/a~1b"));
        assert_eq!(document.find("#/$defs/a~1b/not"), root.pointer("/$defs/a~1b/not"));
        assert_eq!(document.find("#"), Some(&root));
    }

    /// Every place of a value, as a pointer.
    fn places(value: &Value, at: &str) -> Vec<String> {
        let parts: Vec<(String, &Value)> = match value {
            Value::Object(fields) => {
                fields.iter().map(|(name, part)| (name.replace('~', "~0").replace('/', "~1"), part)).collect()
            }
            Value::Array(items) => items.iter().enumerate().map(|(at, part)| (at.to_string(), part)).collect(),
            _ => Vec::new(),
        };
        let within = parts.into_iter().flat_map(|(step, part)| places(part, &format!("{at}/{step}")));
        std::iter::once(at.to_owned()).chain(within).collect()
    }

    /// A place that a reference could lead to and nothing was counted at would be a way around every bound.
    #[test]
    fn a_reference_leads_to_what_was_looked_at_and_nowhere_else() {
        let mut root = json!({
            "x": { "properties": { "a": true } },
            "enum": [{ "items": true }],
            "const": { "not": {} },
            "default": { "properties": { "a": false } },
            "examples": [true],
            "required": ["a"],
            "dependencies": { "a": ["b"], "c": { "items": [true, { "x": { "not": true } }] } },
            "properties": { "$ref": {}, "a/b": {}, "m~n": {}, "": {}, "items": { "not": { "enum": [{}] } } },
        });
        for (keyword, _) in SINGLE {
            root[keyword] = json!({ "x": {}, keyword: { "default": {} } });
        }
        for (keyword, _) in LISTS {
            root[keyword] = json!([{ "x": {} }, false, { keyword: [{}] }]);
        }
        for keyword in ["patternProperties", "dependentSchemas", "$defs", "definitions"] {
            root[keyword] = json!({ "x": { "x": {} }, keyword: { keyword: { "y": {} } } });
        }
        let document = Document { root: &root };
        let seen: HashSet<_> = all(&root).into_iter().map(std::ptr::from_ref).collect();
        let mut found = HashSet::new();
        for place in places(&root, "") {
            let schema = root.pointer(&place).map(std::ptr::from_ref);
            let target = document.find(&format!("#{place}")).map(std::ptr::from_ref);
            assert_eq!(target, schema.filter(|schema| seen.contains(schema)), "{place}");
            found.extend(target);
        }
        assert_eq!(found, seen);
    }

    #[test]
    fn what_refers_to_itself_through_its_parts_is_fine() {
        let tree = json!({
            "$defs": { "Tree": { "properties": { "children": { "items": { "$ref": "#/$defs/Tree" } } } } },
            "$ref": "#/$defs/Tree",
        });
        assert_eq!(look_at_shape(&tree), Ok(Cost { trials: 2, ways: 1 }));
        let two =
            json!({ "anyOf": [{ "properties": { "next": { "$ref": "#" } } }, { "additionalProperties": false }] });
        assert_eq!(look_at_shape(&two), Ok(Cost { trials: 4, ways: 2 }));
    }

    #[test]
    fn a_place_in_a_schema_is_read_from_its_front() {
        for (place, found) in [
            ("", None),
            ("/type", Some("type")),
            ("/items/allOf/0/type", Some("type")),
            ("/enum/0", Some("enum")),
            ("/properties", Some("properties")),
            ("/properties/type", None),
            ("/$defs/pattern", None),
            ("/properties/properties/type", Some("type")),
            ("/dependentSchemas/pattern/pattern", Some("pattern")),
        ] {
            assert_eq!(keyword(place), found, "{place}");
        }
    }

    #[test]
    fn what_would_never_end_or_grow_without_bound_is_refused() {
        let nested = (0..70).fold(json!(true), |inner, _| json!({ "not": inner }));
        let many: Map<_, _> = (0..2001).map(|n| (n.to_string(), json!(true))).collect();
        // Each refers twice to the next: 2^30 trials.
        let doubling: Map<_, _> = (0..30)
            .map(|n| {
                let next = json!({ "$ref": format!("#/$defs/{}", n + 1) });
                (n.to_string(), json!({ "allOf": [next, next] }))
            })
            .chain([("30".into(), json!(true))])
            .collect();
        let row: Map<_, _> = (0..40)
            .map(|n| (n.to_string(), json!({ "$ref": format!("#/$defs/{}", n + 1) })))
            .chain([("40".into(), json!(true))])
            .collect();
        // The same, out of sight: they stand under a keyword that nobody knows.
        let mut hidden: Map<_, _> = (0..30)
            .map(|n| {
                let next = json!({ "$ref": format!("#/x/b{}", n + 1) });
                (format!("b{n}"), json!({ "allOf": [next, next] }))
            })
            .chain([("b30".into(), json!(true))])
            .collect();
        hidden.insert("properties".into(), json!({ "a": { "$ref": "#/x/b0" } }));
        for (schema, part) in [
            (json!({ "$ref": "#/x", "x": hidden }), "no schema stands"),
            (json!({ "$ref": "#/$defs", "$defs": { "not": true } }), "no schema stands"),
            (json!({ "$ref": "#/properties/a/x", "properties": { "a": { "x": {} } } }), "no schema stands"),
            (json!({ "$ref": "#/enum/0", "enum": [{ "type": "string" }] }), "no schema stands"),
            (json!({ "$ref": "#/default", "default": { "type": "string" } }), "no schema stands"),
            (json!({ "$ref": "#/allOf/00", "allOf": [{ "type": "string" }] }), "no schema stands"),
            (json!({ "$ref": "#/allOf/+0", "allOf": [{ "type": "string" }] }), "no schema stands"),
            (json!({ "$ref": "#a", "$defs": { "a": { "$anchor": "a" } } }), "refer to it as"),
            (json!({ "$ref": "#a", "$defs": { "a": { "$dynamicAnchor": "a" } } }), "refer to it as"),
            (json!({ "$ref": "#/%24defs/a", "$defs": { "a": true } }), "no schema stands"),
            (json!({ "$ref": "#/$defs/%61", "$defs": { "a": true } }), "no schema stands"),
            (json!({ "$ref": "#/$defs/a%2Fx", "$defs": { "a%2Fx": true, "a": { "x": {} } } }), "no schema stands"),
            (json!({ "items": { "id": "https://a.example" } }), "leave it out"),
            (nested, "nested deeper"),
            (json!({ "properties": many }), "more than 2000"),
            (json!({ "$ref": "#" }), "back to itself"),
            (json!({ "$defs": { "a": { "anyOf": [{ "$ref": "#/$defs/a" }] } } }), "back to itself"),
            (json!({ "$defs": { "a": { "$ref": "#/$defs/b" }, "b": { "not": { "$ref": "#/$defs/a" } } } }), "itself"),
            (json!({ "$defs": doubling, "$ref": "#/$defs/20" }), "bear on one value"),
            (json!({ "$defs": row }), "in a row"),
            (json!({ "items": { "$ref": "https://a.example/schema" } }), "nothing is fetched"),
            (json!({ "items": { "$ref": "other.json#/a" } }), "nothing is fetched"),
            (json!({ "items": { "$ref": "file:///etc/passwd" } }), "nothing is fetched"),
            (json!({ "$ref": "#/$defs/missing" }), "no schema stands"),
            (json!({ "$ref": 7 }), "no text"),
            (json!({ "$dynamicRef": "#a" }), "use $ref"),
            (json!({ "$recursiveRef": "#" }), "use $ref"),
            (json!({ "items": [true, false] }), "use prefixItems"),
            (json!({ "not": { "additionalItems": false } }), "use prefixItems"),
            (json!({ "dependencies": { "a": ["b"] } }), "use dependentRequired"),
            (json!({ "$schema": "https://a.example/own" }), "leave it out"),
            (json!({ "items": { "$schema": "https://json-schema.org/draft/2020-12/schema" } }), "leave it out"),
            (json!({ "items": { "$id": "https://a.example" } }), "leave it out"),
        ] {
            let refused = look_at_shape(&schema).unwrap_err();
            assert!(refused.contains(part), "{refused}: {schema}");
        }
    }
}
