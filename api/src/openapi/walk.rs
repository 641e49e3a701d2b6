//! The schemas within a schema.

use serde_json::{Map, Value};

/// Visits a schema and all within it, the innermost first. Data that looks like a schema is left alone.
pub(crate) fn walk(schema: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match schema {
        Value::Object(fields) => {
            for (keyword, value) in fields.iter_mut() {
                within(keyword, value, visit);
            }
            visit(fields);
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| walk(schema, visit)),
        _ => {}
    }
}

fn within(keyword: &str, value: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match (keyword, value) {
        ("const" | "enum" | "default" | "examples" | "required" | "dependentRequired", _) => {}
        // Under these stand names, which may be those of keywords.
        ("properties" | "patternProperties" | "dependentSchemas" | "$defs" | "definitions", Value::Object(named)) => {
            named.values_mut().for_each(|schema| walk(schema, visit));
        }
        (_, value) => walk(value, visit),
    }
}
