//! The document in words that generators of code know. What it says stays the same: JSON Schema has several ways to say it,
//! and they understand one of them.

use serde_json::{Value, json};

/// Makes it plain:
/// - a schema of the document has its name and no title beside it: several kinds may call their input `Input`;
/// - one of several words is an `enum`, where each has a schema of its own because it has a description of its own;
/// - what may be anything is `{}`, not `true`.
pub(super) fn plain(mut document: Value) -> Value {
    if let Some(Value::Object(schemas)) = document.pointer_mut("/components/schemas") {
        for schema in schemas.values_mut() {
            if let Value::Object(schema) = schema {
                schema.remove("title");
            }
            simplify(schema);
        }
    }
    find_schemas(&mut document);
    document
}

/// Simplifies the schemas of parameters, headers and bodies.
fn find_schemas(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match name.as_str() {
                    "schema" => simplify(value),
                    // What these have is no part of the document's own structure.
                    "schemas" | "example" | "examples" => {}
                    _ => find_schemas(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(find_schemas),
        _ => {}
    }
}

fn simplify(schema: &mut Value) {
    if *schema == Value::Bool(true) {
        *schema = json!({});
    }
    let Value::Object(fields) = schema else { return };
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("properties" | "patternProperties" | "dependentSchemas" | "$defs", Value::Object(each)) => {
                each.values_mut().for_each(simplify);
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems", Value::Array(each)) => each.iter_mut().for_each(simplify),
            ("items" | "not" | "contains" | "if" | "then" | "else" | "propertyNames", one) => simplify(one),
            // That anything else may be there is said by `true` in every document.
            ("additionalProperties" | "unevaluatedProperties", one @ Value::Object(_)) => simplify(one),
            _ => {}
        }
    }
    if let Some(words) = fields.get("oneOf").and_then(words) {
        fields.remove("oneOf");
        let own = fields.get("description").and_then(Value::as_str).map(str::to_owned);
        let each = words.iter().filter_map(|word| Some(format!("`{}`: {}", word.text, word.description.as_ref()?)));
        let said: Vec<String> = own.into_iter().chain(each).collect();
        if !said.is_empty() {
            fields.insert("description".into(), said.join("\n\n").into());
        }
        fields.insert("type".into(), "string".into());
        fields.insert("enum".into(), words.into_iter().map(|word| word.text).collect());
    }
}

/// One of the words that a text may be.
struct Word {
    text: String,
    description: Option<String>,
}

/// The words, where each variant is one or several; `None` where one is something else.
fn words(variants: &Value) -> Option<Vec<Word>> {
    let mut words = Vec::new();
    for variant in variants.as_array()? {
        let fields = variant.as_object()?;
        if fields.keys().any(|name| !matches!(name.as_str(), "type" | "const" | "enum" | "description")) {
            return None;
        }
        let texts = match (fields.get("const"), fields.get("enum")) {
            (Some(text), None) => std::slice::from_ref(text),
            (None, Some(texts)) => texts.as_array()?.as_slice(),
            _ => return None,
        };
        let description = fields.get("description").and_then(Value::as_str).map(str::to_owned);
        for text in texts {
            words.push(Word { text: text.as_str()?.to_owned(), description: description.clone() });
        }
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schemas(schemas: Value) -> Value {
        plain(json!({ "components": { "schemas": schemas } }))["components"]["schemas"].take()
    }

    #[test]
    fn a_schema_of_the_document_has_no_title_beside_its_name() {
        let title = json!({ "title": "Input", "properties": { "title": { "title": "A title" } } });
        let plain = json!({ "properties": { "title": { "title": "A title" } } });
        assert_eq!(schemas(json!({ "a_input": title })), json!({ "a_input": plain }));
    }

    #[test]
    fn one_of_several_words_is_an_enum_and_says_what_each_means() {
        let words = json!([
            { "type": "string", "enum": ["a", "b"] },
            { "type": "string", "const": "c", "description": "The last." },
        ]);
        let plain = schemas(json!({ "Letter": { "description": "A letter.", "oneOf": words } }));
        let letter = json!({ "description": "A letter.\n\n`c`: The last.", "type": "string", "enum": ["a", "b", "c"] });
        assert_eq!(plain["Letter"], letter);
        for other in [json!([{ "const": 1 }]), json!([{ "type": "object" }]), json!([{ "const": "a", "maxLength": 1 }])]
        {
            let given = json!({ "Other": { "oneOf": other } });
            assert_eq!(schemas(given.clone()), given, "that is something else");
        }
    }

    #[test]
    fn what_may_be_anything_is_an_empty_schema_and_an_example_stays_as_it_is() {
        let body = json!({ "schema": true, "example": { "schema": true } });
        let document = json!({
            "paths": { "/a": { "post": { "requestBody": body } } },
            "components": { "schemas": { "A": { "properties": { "x": true }, "additionalProperties": true, "default": true } } },
        });
        let document = plain(document);
        let body = json!({ "schema": {}, "example": { "schema": true } });
        assert_eq!(document["paths"]["/a"]["post"]["requestBody"], body);
        let schema = json!({ "properties": { "x": {} }, "additionalProperties": true, "default": true });
        assert_eq!(document["components"]["schemas"]["A"], schema);
    }
}
