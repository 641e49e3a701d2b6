use std::sync::Arc;

use jsonschema::Validator;
use serde_json::Value;

/// So many mismatches are told.
const ERRORS_MAX: usize = 5;

/// What an input or an output of a kind must be. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Contract {
    /// JSON Schema (2020-12).
    pub(crate) schema: Value,
    /// `None` where everything fits.
    validator: Option<Arc<Validator>>,
}

impl Contract {
    /// Any JSON.
    pub(super) fn any() -> Self {
        Self { schema: Value::Bool(true), validator: None }
    }

    /// # Errors
    /// When it is no JSON Schema, or points to others elsewhere. The text says where.
    pub(super) fn new(schema: Value) -> Result<Self, String> {
        let told = |error: jsonschema::ValidationError<'_>| match error.instance_path().as_str() {
            "" => error.to_string(),
            place => format!("{error} (at {place})"),
        };
        if schema == Value::Bool(true) {
            return Ok(Self::any());
        }
        jsonschema::meta::validate(&schema).map_err(told)?;
        let validator = jsonschema::validator_for(&schema).map_err(told)?;
        Ok(Self { schema, validator: Some(Arc::new(validator)) })
    }

    /// What is wrong with this JSON. `None` when it fits.
    pub(crate) fn misfit(&self, json: &[u8]) -> Option<String> {
        let validator = self.validator.as_ref()?;
        let value = match serde_json::from_slice(json) {
            Ok(value) => value,
            Err(error) => return Some(error.to_string()),
        };
        let told = |error: jsonschema::ValidationError<'_>| match error.instance_path().as_str() {
            "" => error.to_string(),
            place => format!("{place}: {error}"),
        };
        let misfits: Vec<_> = validator.iter_errors(&value).take(ERRORS_MAX).map(told).collect();
        if misfits.is_empty() { None } else { Some(misfits.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
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
            (json!({ "pattern": "(" }), "("),
        ] {
            let error = Contract::new(schema.clone()).expect_err(&schema.to_string());
            assert!(error.contains(part), "{error}");
        }
        assert_eq!(Contract::new(json!(true)).unwrap().misfit(b"anything"), None);
        assert!(Contract::new(json!(false)).unwrap().misfit(b"1").is_some());
    }
}
