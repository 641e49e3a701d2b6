use std::sync::Arc;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

/// So many mismatches are told.
const ERRORS_MAX: usize = 5;
/// What a pattern may take as a program, in bytes. The API has the same bound.
const PATTERN_MAX: usize = 1 << 20;
/// To list what is wrong, a part is looked at once for each way in which references come to it, and so are the parts
/// of it. Where that may become so many looks, it is only told that the JSON does not fit.
const LOOKS_MAX: u64 = 10_000;

/// What an input or an output of a kind must be. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Contract {
    /// JSON Schema (2020-12).
    pub(crate) schema: Value,
    /// `None` where everything fits.
    validator: Option<Arc<Validator>>,
    /// How many references the schema has. Without any, nothing is looked at more often than the schema is long.
    references: u64,
}

impl Contract {
    /// Any JSON.
    pub(super) fn any() -> Self {
        Self { schema: Value::Bool(true), validator: None, references: 0 }
    }

    /// # Errors
    /// When it is no JSON Schema, points to others elsewhere, or has a pattern whose time is not linear. The text says
    /// where.
    pub(super) fn new(schema: Value) -> Result<Self, String> {
        if schema == Value::Bool(true) {
            return Ok(Self::any());
        }
        jsonschema::meta::validate(&schema).map_err(|error| told(&error))?;
        // As the API has them: a pattern that others choke on harms nobody, and what passes here passes there.
        let patterns = PatternOptions::regex().size_limit(PATTERN_MAX).dfa_size_limit(PATTERN_MAX);
        let validator = jsonschema::options().with_pattern_options(patterns).build(&schema).map_err(|error| {
            let linear = if error.instance_path().as_str().ends_with("/pattern") {
                "; patterns have no look-around and no back references, and are at most 1 MiB as a program"
            } else {
                ""
            };
            told(&error) + linear
        })?;
        let references = references(&schema);
        Ok(Self { schema, validator: Some(Arc::new(validator)), references })
    }

    /// What is wrong with this JSON. `None` when it fits.
    pub(crate) fn misfit(&self, json: &[u8]) -> Option<String> {
        let validator = self.validator.as_ref()?;
        let value = match serde_json::from_slice(json) {
            Ok(value) => value,
            Err(error) => return Some(error.to_string()),
        };
        // Whether it fits can always be told soon: what came of a part is remembered. What does not fit cannot.
        if validator.is_valid(&value) {
            return None;
        }
        let looks = self.references.saturating_pow(depth(&value));
        if looks > LOOKS_MAX {
            return Some("it does not fit, and is nested too deep to tell where".into());
        }
        let misfits: Vec<_> = validator.iter_errors(&value).take(ERRORS_MAX).map(|error| told(&error)).collect();
        Some(misfits.join("; "))
    }
}

/// What is wrong, and where.
fn told(error: &ValidationError<'_>) -> String {
    match error.instance_path().as_str() {
        "" => error.to_string(),
        place => format!("{place}: {error}"),
    }
}

fn references(schema: &Value) -> u64 {
    match schema {
        Value::Object(fields) => {
            let own = ["$ref", "$dynamicRef", "$recursiveRef"].into_iter().filter(|name| fields.contains_key(*name));
            own.count() as u64 + fields.values().map(references).sum::<u64>()
        }
        Value::Array(items) => items.iter().map(references).sum(),
        _ => 0,
    }
}

/// How many levels it has. The parser has bounded them.
fn depth(value: &Value) -> u32 {
    match value {
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use serde_json::json;

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        let contract = Contract::new(schema).unwrap();
        assert_eq!(contract.misfit(br#"{"n": 1}"#), None);
        assert_eq!(contract.misfit(br#"{"n": "x"}"#).as_deref(), Some("/n: \"x\" is not of type \"integer\""));
        assert!(contract.misfit(b"{}").unwrap().contains("\"n\" is a required property"));
        assert!(contract.misfit(b"{").is_some());
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for (schema, part) in [
            (json!({ "type": "text" }), "/type"),
            (json!({ "$ref": "https://example.com/schema" }), "example.com"),
            (json!({ "properties": { "a": { "minimum": "x" } } }), "/properties/a/minimum"),
            (json!({ "pattern": "(" }), "/pattern: "),
            (json!({ "pattern": "^(?=.*[0-9]).*$" }), "no look-around"),
            (json!({ "properties": { "a": { "pattern": "^(a)\\1$" } } }), "no back references"),
            (json!({ "pattern": "((a{1000}){1000}){1000}" }), "at most 1 MiB"),
        ] {
            let error = Contract::new(schema.clone()).expect_err(&schema.to_string());
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(Contract::new(json!(true)).unwrap().misfit(b"anything"), None);
        assert!(Contract::new(json!(false)).unwrap().misfit(b"1").is_some());
    }

    #[test]
    fn a_hostile_text_takes_no_time() {
        let contract = Contract::new(json!({ "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$" })).unwrap();
        let begun = Instant::now();
        assert!(contract.misfit(json!("a".repeat(60_000)).to_string().as_bytes()).is_some());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    /// Each level is tried once for each of the alternatives, which hold it again.
    #[test]
    fn a_hostile_value_takes_no_time() {
        let again = json!({ "$ref": "#/$defs/E" });
        let variant = |name: &str| json!({ "properties": { "a": again, "t": { "const": name } }, "required": ["t"] });
        let either = json!({ "anyOf": [variant("x"), variant("y"), { "type": "integer" }] });
        let contract = Contract::new(json!({ "$defs": { "E": either }, "$ref": "#/$defs/E" })).unwrap();
        let deep = |innermost: &str, levels| {
            (0..levels).fold(innermost.to_owned(), |inner, _| format!(r#"{{"t": "y", "a": {inner}}}"#))
        };
        let begun = Instant::now();
        assert_eq!(contract.misfit(deep("1", 100).as_bytes()), None);
        let misfit = contract.misfit(deep(r#"{"t": "z"}"#, 100).as_bytes()).unwrap();
        assert!(misfit.contains("too deep to tell where"), "{misfit}");
        let misfit = contract.misfit(deep(r#"{"t": "z"}"#, 2).as_bytes()).unwrap();
        assert!(misfit.contains("anyOf"), "{misfit}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
