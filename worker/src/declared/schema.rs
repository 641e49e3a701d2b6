use buzzer_shared::contract::{Checker, Misfit, usable};
use serde_json::Value;

/// So many mismatches are told.
const MISFITS_MAX: usize = 5;

/// What an input or an output of a kind must be, and what looks at it. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Schema {
    /// As it is written: JSON Schema (2020-12).
    pub(crate) written: Value,
    checker: Checker,
}

impl Schema {
    /// # Errors
    /// Why the API would not take it, and what to do: what stands behind "the schema".
    pub(super) fn new(schema: Value) -> Result<Self, String> {
        let checker = usable(&schema)?;
        Ok(Self { written: schema, checker })
    }

    /// What is wrong with this JSON. `None` when it fits.
    pub(crate) fn misfit(&self, json: &[u8]) -> Option<String> {
        if self.checker.takes_all() {
            return None;
        }
        let misfits = match serde_json::from_slice(json) {
            Ok(value) => self.checker.misfits(&value),
            Err(error) => return Some(error.to_string()),
        };
        let told: Vec<_> = misfits.iter().take(MISFITS_MAX).map(told).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }
}

/// Any JSON.
impl Default for Schema {
    fn default() -> Self {
        Self { written: Value::Bool(true), checker: Checker::default() }
    }
}

/// What is wrong, and where.
fn told(misfit: &Misfit) -> String {
    match misfit.pointer.as_str() {
        "" => misfit.detail.clone(),
        place => format!("{place}: {}", misfit.detail),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_does_not_fit_is_told_with_its_place() {
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } }, "required": ["n"] });
        let integer = Schema::new(schema).unwrap();
        assert_eq!(integer.misfit(br#"{"n": 1}"#), None);
        assert_eq!(integer.misfit(br#"{"n": "x"}"#).as_deref(), Some("/n: \"x\" is not of type \"integer\""));
        assert!(integer.misfit(b"{}").unwrap().contains("\"n\" is a required property"));
        assert!(integer.misfit(b"{").is_some());
        assert_eq!(Schema::default().misfit(b"anything"), None);
        assert_eq!(Schema::new(json!(true)).unwrap().misfit(b"anything"), None);
    }
}
