//! What a schema makes of values.

use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use crate::text::shorten;

use super::misfit::{Misfit, Telling};
use super::schema::{Document, all, depth, keyword, look_at_shape};
use super::stack::on_a_deep_stack;

/// So many patterns may one contract hold, in its input and output together: each may become a program of
/// [`PATTERN_MAX`], which takes time to make, and stays in memory.
const PATTERNS_MAX: usize = 64;
/// What a pattern may take as a program, in bytes: a count like `{1000}` of a count makes it grow.
const PATTERN_MAX: usize = 1 << 20;
/// What all patterns of a schema may take together. How large each becomes nobody tells, so each may take the same share.
const PATTERNS_SIZE_MAX: usize = 16 << 20;
/// So much of a wrong keyword is told, in bytes.
const INSTANCE_MAX: usize = 100;
/// A value of so few levels needs no stack of its own.
const FLAT: usize = 8;

/// Looks, before anything is compiled, whether the patterns of a whole contract are few enough.
///
/// # Errors
/// How many there are, and what to do.
pub(super) fn look_at_patterns(schemas: [&Value; 2]) -> Result<(), String> {
    let patterns: usize = schemas.into_iter().map(patterns).sum();
    if patterns > PATTERNS_MAX {
        return Err(format!(
            "its schemas hold {patterns} patterns, and may hold {PATTERNS_MAX} together: refer to one that is used \
             more than once by $ref, or use enum or maxLength"
        ));
    }
    Ok(())
}

/// How many patterns a schema has, at all depths.
fn patterns(schema: &Value) -> usize {
    let of = |schema: &Value| {
        let named = schema.get("patternProperties").and_then(Value::as_object).map_or(0, serde_json::Map::len);
        named + usize::from(schema.get("pattern").is_some())
    };
    all(schema).into_iter().map(of).sum()
}

/// A schema that is ready to be tried on values. Cheap to clone. The default takes every value.
#[derive(Debug, Clone, Default)]
pub struct Checker(Option<Arc<Compiled>>);

#[derive(Debug)]
struct Compiled {
    validator: Validator,
    /// Whether values may be as deep as they like, and still be looked at to their ground.
    refers: bool,
    telling: Telling,
}

impl Checker {
    /// # Errors
    /// Why the schema cannot be used, and what to do.
    pub fn new(schema: &Value) -> Result<Self, String> {
        if schema.as_bool() == Some(true) || schema.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(Self::default());
        }
        let cost = look_at_shape(schema)?;
        let (document, schemas) = (Document { root: schema }, all(schema));
        let refers = schemas.iter().any(|schema| document.target(schema).is_some());
        let validator = on_a_deep_stack(|| compile(schema))?;
        Ok(Self(Some(Arc::new(Compiled { validator, refers, telling: Telling::new(&schemas, refers, cost) }))))
    }

    /// Whether every value fits, so that none need be read.
    pub fn takes_all(&self) -> bool {
        self.0.is_none()
    }

    /// What is wrong about a value, at most 20 things; nothing when it fits. Takes time in proportion to the value's size.
    pub fn misfits(&self, value: &Value) -> Vec<Misfit> {
        let Some(compiled) = &self.0 else { return Vec::new() };
        let Compiled { validator, refers, telling } = &**compiled;
        // Whether it fits always can be told in time: what came of a part is remembered.
        let look = || if validator.is_valid(value) { Vec::new() } else { telling.misfits(validator, value) };
        if *refers && depth(value) > FLAT { on_a_deep_stack(look) } else { look() }
    }
}

fn compile(schema: &Value) -> Result<Validator, String> {
    // An engine whose time is linear: a pattern that others choke on harms nobody here.
    let size = (PATTERNS_SIZE_MAX / patterns(schema).max(1)).min(PATTERN_MAX);
    let patterns = PatternOptions::regex().size_limit(size).dfa_size_limit(size);
    let options = jsonschema::options().with_draft(Draft::Draft202012).with_pattern_options(patterns);
    options.build(schema).map_err(|error| {
        let at = error.instance_path().as_str();
        let reason = match error.kind() {
            ValidationErrorKind::Format { format } if format == "regex" => format!(
                "{error}; patterns have no look-around and no back references, and each of this schema's is at most {} KiB as a program",
                size >> 10
            ),
            _ if keyword(at) == Some("type") => format!(
                "{} is neither a type of JSON nor a list of different ones: \
                 array, boolean, integer, null, number, object, string",
                shorten(error.instance().to_string(), INSTANCE_MAX)
            ),
            _ => error.to_string(),
        };
        format!("it is no schema at {at:?}: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    #[test]
    fn a_misfit_says_where() {
        let schema = json!({ "type": "object", "properties": { "n": { "type": "number" } }, "required": ["to"] });
        let misfits = Checker::new(&schema).unwrap().misfits(&json!({ "n": "x" }));
        let pointers: Vec<_> = misfits.iter().map(|misfit| misfit.pointer.as_str()).collect();
        assert_eq!(misfits.len(), 2);
        assert!(pointers.contains(&"/n") && pointers.contains(&""), "{pointers:?}");
        assert!(Checker::new(&json!({})).unwrap().takes_all() && Checker::new(&json!(true)).unwrap().takes_all());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let back = json!({ "pattern": "^(a)\\1$" });
        let around = json!({ "properties": { "a": { "pattern": "^(?=.*[0-9]).*$" } } });
        let large = json!({ "pattern": "((a{1000}){1000}){1000}" });
        let named = json!({ "patternProperties": { "^(?=a)b": true } });
        for (schema, part) in [
            (json!({ "type": "strin" }), "no schema at \"/type\""),
            (
                json!({ "items": { "type": "text" } }),
                "at \"/items/type\": \"text\" is neither a type of JSON nor a list of different ones: array",
            ),
            (json!({ "properties": [] }), "no schema at \"/properties\""),
            (json!(7), "no schema"),
            (back, "back references"),
            (around, "look-around"),
            (large, "at most 1024 KiB"),
            (named, "look-around"),
        ] {
            let refused = Checker::new(&schema).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
        let property = Checker::new(&json!({ "properties": { "pattern": 7, "type": 7 } })).unwrap_err();
        assert!(!property.contains("look-around") && !property.contains("neither"), "{property}");
    }

    #[test]
    fn every_schema_is_read_as_2020_12() {
        let schema = json!({ "$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
            "prefixItems": [{ "type": "string" }, { "$ref": "#", "maxItems": 1 }] });
        let checker = Checker::new(&schema).unwrap();
        assert_eq!(checker.misfits(&json!(["a", ["b"]])), []);
        assert_eq!(checker.misfits(&json!([1])).len(), 1, "of draft 7, prefixItems is no keyword");
        assert_eq!(checker.misfits(&json!(["a", ["b", []]])).len(), 1, "and what stands beside $ref says nothing");
    }

    #[test]
    fn patterns_are_counted_wherever_they_stand() {
        let named = |count: usize| -> serde_json::Map<_, _> {
            (0..count).map(|n| (format!("a{{{n}}}"), json!({ "pattern": "^a" }))).collect()
        };
        let half = json!({ "patternProperties": named(PATTERNS_MAX / 4) });
        assert_eq!(look_at_patterns([&half, &half]), Ok(()));
        let one = json!({ "$defs": { "a": { "items": { "pattern": "b" } } }, "properties": { "pattern": true } });
        assert_eq!(look_at_patterns([&one, &half]), Ok(()));
        let above = json!({ "not": half, "allOf": [one] });
        for schemas in [[&above, &half], [&half, &above]] {
            let refused = look_at_patterns(schemas).unwrap_err();
            assert!(refused.contains("hold 65 patterns, and may hold 64"), "{refused}");
        }
        let data = json!({ "enum": [{ "pattern": "a" }], "default": { "patternProperties": named(100) } });
        assert_eq!(look_at_patterns([&data, &data]), Ok(()));
    }

    #[test]
    fn large_patterns_may_be_few() {
        let large = |count: usize| -> serde_json::Map<_, _> {
            (0..count).map(|n| (n.to_string(), json!({ "pattern": format!("(a{{100}}){{{}}}", 100 + n) }))).collect()
        };
        Checker::new(&json!({ "properties": large(8) })).unwrap();
        let refused = Checker::new(&json!({ "properties": large(PATTERNS_MAX) })).unwrap_err();
        assert!(refused.contains("at most 256 KiB"), "{refused}");
    }

    #[test]
    fn a_hostile_pattern_takes_no_time() {
        let checker = Checker::new(&json!({ "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$" })).unwrap();
        let begun = Instant::now();
        assert_eq!(checker.misfits(&"a".repeat(60_000).into()).len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }

    /// An expression as Rust has it: an enum whose variants hold it again. Each level is tried once for each variant.
    #[test]
    fn a_hostile_value_takes_no_time() {
        let variant = |name: &str| {
            json!({ "type": "object", "properties": { "a": { "$ref": "#/$defs/E" }, "b": { "$ref": "#/$defs/E" }, "t": { "const": name } },
                    "required": ["t"] })
        };
        for union in ["oneOf", "anyOf"] {
            let e = json!({ union: [variant("x"), variant("y"), { "type": "integer" }] });
            let checker = Checker::new(&json!({ "$defs": { "E": e }, "$ref": "#/$defs/E" })).unwrap();
            let deep =
                |innermost: Value, levels| (0..levels).fold(innermost, |inner, _| json!({ "t": "y", "a": inner }));
            let begun = Instant::now();
            assert_eq!(checker.misfits(&deep(json!(1), 100)), []);
            assert_eq!(checker.misfits(&deep(json!("no"), 100)).len(), 1);
            assert!(!checker.misfits(&deep(json!("no"), 10)).is_empty());
            assert!(begun.elapsed() < Duration::from_secs(5), "{union}: {:?}", begun.elapsed());
        }
    }

    #[test]
    fn deep_schemas_and_values_do_not_overflow_the_stack() {
        let definitions: serde_json::Map<_, _> = (0..600)
            .map(|n| {
                let next = if n < 599 { format!("#/$defs/{}", n + 1) } else { "#/$defs/0".into() };
                (n.to_string(), json!({ "properties": { "a": { "$ref": next } } }))
            })
            .collect();
        let checker = Checker::new(&json!({ "$defs": definitions, "$ref": "#/$defs/0" })).unwrap();
        let deep = (0..120).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert_eq!(checker.misfits(&deep), []);

        // As many schemas in a row as may be, at each of as many levels as a value has.
        let row =
            (0..14).fold(json!({ "properties": { "a": { "$ref": "#" } } }), |inner, _| json!({ "allOf": [inner] }));
        assert_eq!(Checker::new(&row).unwrap().misfits(&deep), []);
    }
}
