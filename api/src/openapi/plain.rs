//! What schemars says in a way that generators of code do not follow, said plainly.

use aide::openapi::{OpenApi, Operation, ReferenceOr};
use schemars::Schema;
use serde_json::{Map, Value, json};

/// Of an answer that may be anything, generators of code want an empty schema, where JSON Schema has just true.
pub(super) fn spell_out(operation: &mut Operation) {
    let responses = operation.responses.iter_mut().flat_map(|responses| responses.responses.values_mut());
    let contents = responses.filter_map(ReferenceOr::as_item_mut).flat_map(|response| response.content.values_mut());
    for schema in contents.filter_map(|content| content.schema.as_mut()) {
        if schema.json_schema.as_bool() == Some(true) {
            schema.json_schema = Schema::default();
        }
    }
}

/// Words, each with a description of its own, as one list of words; the descriptions stand in that of the list.
pub(super) fn list_words(document: &mut OpenApi) {
    let schemas = document.components.iter_mut().flat_map(|components| components.schemas.values_mut());
    for schema in schemas {
        if let Some(list) = schema.json_schema.as_object_mut().and_then(words) {
            schema.json_schema.insert("type".into(), json!("string"));
            schema.json_schema.insert("enum".into(), list);
        }
    }
}

/// The words of a schema that is nothing but a choice of them.
fn words(schema: &mut Map<String, Value>) -> Option<Value> {
    let choices = schema.get("oneOf")?.as_array()?;
    let mut words = Vec::new();
    let mut lines: Vec<String> =
        schema.get("description").and_then(Value::as_str).map(Into::into).into_iter().collect();
    for choice in choices {
        match (&choice["const"], choice["enum"].as_array()) {
            (Value::String(word), None) => {
                words.push(word.clone());
                let about = choice["description"].as_str().map(|about| format!("`{word}`: {about}"));
                lines.extend(about);
            }
            (Value::Null, Some(more)) => {
                let more: Option<Vec<_>> = more.iter().map(|word| word.as_str().map(Into::into)).collect();
                words.extend(more?);
            }
            _ => return None,
        }
    }
    schema.remove("oneOf");
    if !lines.is_empty() {
        schema.insert("description".into(), json!(lines.join("\n\n")));
    }
    Some(json!(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(schema: Value) -> (Option<Value>, Value) {
        let Value::Object(mut fields) = schema else { panic!("no object") };
        (words(&mut fields), fields.into())
    }

    #[test]
    fn words_with_descriptions_are_a_list_and_other_choices_stay() {
        let (list, rest) = listed(json!({ "description": "How.", "oneOf": [
            { "type": "string", "enum": ["b", "c"] }, { "type": "string", "const": "a", "description": "First." },
        ] }));
        assert_eq!(list, Some(json!(["b", "c", "a"])));
        assert_eq!(rest, json!({ "description": "How.\n\n`a`: First." }));
        for other in [json!({ "type": "object" }), json!({ "oneOf": [{ "const": "a" }, { "type": "object" }] })] {
            assert_eq!(listed(other.clone()), (None, other));
        }
    }
}
