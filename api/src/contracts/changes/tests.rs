use buzzer_shared::contract::{Checker, Document, examine};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::comparison::TOO_LARGE;
use super::keywords::{alternatives, followed};
use super::*;

fn found(side: Side, old: &Value, new: &Value) -> Vec<(String, ChangeType)> {
    let changes = match side {
        Side::Input => compare(side, old, new),
        Side::Output => compare(side, new, old),
    };
    changes.into_iter().map(|change| (change.at, change.change)).collect()
}

#[test]
fn what_breaks_those_who_send_is_found() {
    use ChangeType::{Narrowed, Removed, Required, Unclear};
    let a = |schema: Value| json!({ "type": "object", "properties": { "a": schema } });
    let string = || json!({ "type": "string" });
    let variant = |name: &str| json!({ "type": "object", "properties": { "t": { "const": name } }, "required": ["t"] });
    let one_of = |alternatives: &[&str]| {
        let alternatives: Vec<_> = alternatives.iter().map(|r#type| json!({ "type": r#type })).collect();
        json!({ "oneOf": alternatives })
    };
    let others =
        |named: Value| json!({ "type": "object", "properties": named, "additionalProperties": { "type": "integer" } });
    let tagged_by = |first: Value| {
        let one = |tag: &str| json!({ "type": "object", "properties": { "t": { "$ref": format!("#/$defs/{tag}") } }, "required": ["t"] });
        json!({ "$defs": { "A": first, "B": { "const": "b" } }, "oneOf": [one("A"), one("B")] })
    };
    let defined =
        |schema: Value| json!({ "$defs": { "A": schema }, "type": "array", "items": { "$ref": "#/$defs/A" } });
    let beside = |schema: Value| json!({ "$defs": { "A": schema }, "type": "object", "properties": { "a": { "$ref": "#/$defs/A", "minLength": 1 } } });
    let both = |properties: Value| json!({ "allOf": [{ "properties": properties }] });
    for (old, new, at, change) in [
        (
            a(string()),
            json!({ "type": "object", "properties": { "a": string() }, "required": ["a"] }),
            "/input/a",
            Required,
        ),
        (json!({ "type": "object" }), json!({ "type": "object", "required": ["b/c"] }), "/input/b~1c", Required),
        (a(string()), json!({ "type": "object", "properties": {} }), "/input/a", Removed),
        (
            json!({ "type": "object", "properties": { "a": string() }, "additionalProperties": false }),
            json!({ "type": "object", "additionalProperties": false }),
            "/input/a",
            Removed,
        ),
        (json!({ "type": "object" }), json!({ "type": "object", "additionalProperties": false }), "/input/*", Narrowed),
        (a(string()), a(json!({ "type": "integer" })), "/input/a", Narrowed),
        (a(json!({ "type": "number" })), a(json!({ "type": "integer" })), "/input/a", Narrowed),
        (a(json!({ "type": ["string", "null"] })), a(string()), "/input/a", Narrowed),
        (a(json!({ "anyOf": [string(), { "type": "null" }] })), a(string()), "/input/a", Narrowed),
        (a(json!(true)), a(string()), "/input/a", Narrowed),
        (a(string()), a(json!(false)), "/input/a", Narrowed),
        (a(json!({ "enum": ["x", "y"] })), a(json!({ "enum": ["x"] })), "/input/a", Narrowed),
        (a(string()), a(json!({ "type": "string", "enum": ["x"] })), "/input/a", Narrowed),
        (a(json!({ "type": "number" })), a(json!({ "type": "number", "minimum": 0 })), "/input/a", Narrowed),
        (
            a(json!({ "type": "number", "minimum": 0 })),
            a(json!({ "type": "number", "exclusiveMinimum": 0 })),
            "/input/a",
            Narrowed,
        ),
        (
            a(json!({ "type": "number", "maximum": 9 })),
            a(json!({ "type": "number", "maximum": 8 })),
            "/input/a",
            Narrowed,
        ),
        (
            a(json!({ "type": "integer", "multipleOf": 2 })),
            a(json!({ "type": "integer", "multipleOf": 4 })),
            "/input/a",
            Narrowed,
        ),
        (
            a(json!({ "type": "string", "maxLength": 9 })),
            a(json!({ "type": "string", "maxLength": 8 })),
            "/input/a",
            Narrowed,
        ),
        (a(string()), a(json!({ "type": "string", "minLength": 1 })), "/input/a", Narrowed),
        (a(string()), a(json!({ "type": "string", "pattern": "^a" })), "/input/a", Narrowed),
        (a(string()), a(json!({ "type": "string", "format": "uri" })), "/input/a", Narrowed),
        (json!({ "type": "array" }), json!({ "type": "array", "items": string() }), "/input/*", Narrowed),
        (json!({ "type": "array" }), json!({ "type": "array", "uniqueItems": true }), "/input", Narrowed),
        (json!({ "oneOf": [variant("x"), variant("y")] }), json!({ "oneOf": [variant("x")] }), "/input/t", Narrowed),
        (
            json!({ "oneOf": [variant("x"), variant("y")] }),
            json!({ "oneOf": [variant("x"), variant("z")] }),
            "/input",
            Narrowed,
        ),
        (one_of(&["integer"]), one_of(&["integer", "number"]), "/input", Unclear),
        (json!({ "type": "integer" }), one_of(&["integer", "number"]), "/input", Unclear),
        (others(json!({})), others(json!({ "a": string() })), "/input/a", Narrowed),
        (
            json!({ "oneOf": [{ "const": 1 }] }),
            json!({ "oneOf": [{ "const": 1 }, { "const": 1.0 }] }),
            "/input",
            Unclear,
        ),
        // The same words, and another tag behind them.
        (tagged_by(json!({ "const": "a" })), tagged_by(json!({ "enum": ["a", "b"] })), "/input", Unclear),
        (defined(string()), defined(json!({ "type": "null" })), "/input/*", Narrowed),
        (beside(string()), beside(json!({ "type": "string", "maxLength": 5 })), "/input/a", Narrowed),
        (a(json!({ "minLength": 1 })), beside(string()), "/input/a", Narrowed),
        (json!({}), json!({ "not": { "const": 1 } }), "/input", Unclear),
        (
            json!({ "dependentRequired": { "title": ["a"] } }),
            json!({ "dependentRequired": { "title": ["b"] } }),
            "/input",
            Unclear,
        ),
        (both(json!({ "title": string() })), both(json!({ "title": { "type": "null" } })), "/input", Unclear),
        (
            json!({ "not": { "const": { "title": 1 } } }),
            json!({ "not": { "const": { "title": 2 } } }),
            "/input",
            Unclear,
        ),
        (json!({ "allOf": [{ "minimum": 1 }] }), json!({ "allOf": [{ "minimum": 2 }] }), "/input", Unclear),
        (
            json!({ "anyOf": [{ "type": "integer" }, { "type": "number" }] }),
            json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] }),
            "/input",
            Unclear,
        ),
        (
            json!({ "anyOf": [true], "oneOf": [string()] }),
            json!({ "anyOf": [true], "oneOf": [{ "type": "null" }] }),
            "/input",
            Unclear,
        ),
        (
            json!({ "type": "number", "multipleOf": 0.1 }),
            json!({ "type": "number", "multipleOf": 0.03 }),
            "/input",
            Narrowed,
        ),
    ] {
        assert_eq!(found(Side::Input, &old, &new), [(at.to_owned(), change)], "{old} {new}");
    }
    let either = json!({ "type": "object", "anyOf": [{ "required": ["a"] }, { "required": ["b"] }] });
    let referring = json!({ "type": "object", "$ref": "#/$defs/R", "$defs": { "R": { "required": ["c"] } } });
    assert!(found(Side::Input, &either, &referring).contains(&("/input/c".into(), Required)));
}

#[test]
fn what_breaks_those_who_read_is_found() {
    use ChangeType::{Removed, Widened};
    let a = |schema: Value, required: &[&str]| json!({ "type": "object", "properties": { "a": schema }, "required": required });
    let (string, null) = (json!({ "type": "string" }), json!({ "type": ["string", "null"] }));
    let none = json!({ "type": "object", "properties": {} });
    for (old, new, change) in [
        (a(string.clone(), &["a"]), none.clone(), Removed),
        (a(string.clone(), &[]), none, Removed),
        (a(string.clone(), &["a"]), a(string.clone(), &[]), Removed),
        (a(string.clone(), &["a"]), a(null, &["a"]), Widened),
        (a(json!({ "enum": ["x"] }), &["a"]), a(json!({ "enum": ["x", "y"] }), &["a"]), Widened),
        (a(string.clone(), &[]), json!({ "type": "object", "additionalProperties": { "type": "integer" } }), Widened),
    ] {
        assert_eq!(found(Side::Output, &old, &new), [("/output/a".into(), change)], "{old} {new}");
    }
}

#[test]
fn what_only_gives_more_breaks_nobody() {
    let tree = |extra: Value| {
        json!({ "$defs": { "T": { "type": "object", "properties": { "next": { "$ref": "#/$defs/T" }, "extra": extra } } },
                "$ref": "#/$defs/T" })
    };
    let inline =
        json!({ "type": "object", "title": "Other", "properties": { "n": { "type": "integer", "format": "uint8" } } });
    let referred = json!({ "$defs": { "N": { "type": ["number", "null"] } }, "type": "object",
        "properties": { "n": { "$ref": "#/$defs/N", "description": "how many" }, "m": { "type": "null" } } });
    let nothing: [(String, ChangeType); 0] = [];
    assert_eq!(found(Side::Input, &inline, &referred), nothing);
    assert_eq!(
        found(
            Side::Output,
            &inline,
            &json!({ "type": "object", "properties": { "n": { "type": "integer" }, "m": true } })
        ),
        nothing
    );
    assert_eq!(found(Side::Input, &tree(json!({ "type": "string" })), &tree(json!(true))), nothing);
    assert_eq!(
        found(
            Side::Input,
            &json!({ "allOf": [{ "$ref": "#/$defs/a" }], "$defs": { "a": { "minimum": 1 } } }),
            &json!({ "allOf": [{ "minimum": 1, "title": "a" }] })
        ),
        nothing
    );
    assert_eq!(found(Side::Input, &json!({ "minItems": 1 }), &json!({})), nothing);
    let either = json!([{ "required": ["a"] }, { "required": ["b"] }]);
    let former = json!({ "type": "object", "properties": { "a": true }, "anyOf": either });
    assert_eq!(found(Side::Input, &former, &json!({ "type": "object", "properties": { "a": true } })), nothing);
    let multiple = |of: f64| json!({ "type": "number", "multipleOf": of });
    assert_eq!(found(Side::Input, &multiple(1.0), &multiple(0.01)), nothing);
    let tagged = |tags: &[&str]| {
        let of = |tag: &&str| json!({ "type": "object", "properties": { "t": { "const": tag } }, "required": ["t"] });
        json!({ "oneOf": tags.iter().map(of).collect::<Vec<_>>() })
    };
    assert_eq!(found(Side::Input, &tagged(&["x"]), &tagged(&["x", "y"])), nothing);
    assert_eq!(found(Side::Output, &tagged(&["x", "y"]), &tagged(&["x"])), nothing);
    let overlapping = json!({ "oneOf": [{ "type": "integer" }, { "type": "number" }] });
    assert_eq!(found(Side::Input, &overlapping, &overlapping), nothing, "as they were");
    assert_eq!(found(Side::Input, &json!({ "const": 1 }), &json!({ "const": 1.0 })), nothing, "the same number");
    let not = |values: Value| json!({ "not": { "enum": values } });
    assert_eq!(found(Side::Input, &not(json!([[1], { "a": 2 }])), &not(json!([[1.0], { "a": 2.0 }]))), nothing);
    let several = |keyword: &str| json!({ keyword: [{ "type": "integer" }, { "type": "string" }] });
    assert_eq!(found(Side::Input, &several("oneOf"), &several("anyOf")), nothing);
}

#[test]
fn changes_are_told_in_words() {
    let old = json!({ "type": "object", "properties": { "n": { "type": "number" }, "s": { "type": "string" } } });
    let new = json!({ "type": "object", "additionalProperties": false, "properties": {
        "n": { "type": "number", "exclusiveMaximum": 10 }, "s": { "type": "string", "minLength": 2 } } });
    let told: Vec<_> = compare(Side::Input, &old, &new).into_iter().map(|change| change.detail).collect();
    assert_eq!(
        told,
        [
            "an input may be below 10 now; it could be other numbers",
            "an input may be of 2 characters or more now; it could be of fewer",
            "an input may have no other fields now"
        ]
    );
}

#[test]
fn what_is_said_beside_the_schemas_counts() {
    use buzzer_shared::time::Span;
    let old = KindSpec::any("a".parse().unwrap());
    let new = KindSpec { timeout: Span::from_secs(1), delivery: DeliveryMode::AtMostOnce, ..old.clone() };
    let at: Vec<_> = changes(&old, &new).into_iter().map(|change| change.at).collect();
    assert_eq!(at, ["/timeout", "/delivery"]);
    assert_eq!(changes(&new, &old), []);
}

/// Many alternatives within alternatives come to an end.
#[test]
fn large_schemas_are_compared_in_bounded_time() {
    let part = |depth: usize, salt: usize| {
        (0..depth).fold(json!({ "const": salt }), |inner, _| {
            let all: Vec<_> =
                (0..10).map(|n| json!({ "properties": { format!("p{n}"): inner.clone() } })).take(4).collect();
            json!({ "anyOf": all })
        })
    };
    let begun = std::time::Instant::now();
    assert!(!compare(Side::Input, &part(6, 1), &part(6, 2)).is_empty());
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn deep_and_wide_schemas_are_compared_in_bounded_time() {
    use std::time::{Duration, Instant};
    // As deep as an announced schema may be, and again behind each reference.
    let nested = |leaf: &str| {
        let within = |inner: Value| (0..28).fold(inner, |inner, _| json!({ "anyOf": [inner] }));
        let level = |at: usize| within(json!({ "properties": { "a": { "$ref": format!("#/$defs/{}", at + 1) } } }));
        let mut definitions: Map<_, _> = (0..59).map(|at| (at.to_string(), level(at))).collect();
        definitions.insert("59".into(), json!({ "type": leaf }));
        json!({ "$defs": definitions, "$ref": "#/$defs/0" })
    };
    let begun = Instant::now();
    let mut old = KindSpec::any("a".parse().unwrap());
    let mut new = old.clone();
    (old.input_schema, new.input_schema) = (nested("string"), nested("null"));
    examine(&new).unwrap();
    assert_ne!(changes(&old, &new), []);
    let large = |first: usize| {
        let values = |at: usize| (0..2_000).map(|n| json!(format!("{}", first + at * 2_000 + n))).collect::<Vec<_>>();
        json!({ "anyOf": (0..16).map(|at| json!({ "enum": values(at) })).collect::<Vec<_>>() })
    };
    (old.input_schema, new.input_schema) = (large(0), large(1));
    assert_ne!(changes(&old, &new), []);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// Each of them refers to the next one twice: 2^60 ways lead to the last.
#[test]
fn what_is_compared_as_a_whole_is_compared_in_bounded_time() {
    let chain = |last: Value, title: &str| {
        let next = |n: usize| json!({ "$ref": format!("#/$defs/E{}", n + 1) });
        let mut definitions: Map<_, _> =
            (0..30).map(|n| (format!("E{n}"), json!({ "properties": { "a": next(n), "b": next(n) } }))).collect();
        definitions.insert("E30".into(), last);
        json!({ "title": title, "allOf": [{ "$ref": "#/$defs/E0" }], "$defs": definitions })
    };
    let (text, number) = (json!({ "type": "string" }), json!({ "type": "integer" }));
    let begun = std::time::Instant::now();
    assert_eq!(found(Side::Input, &chain(text.clone(), "old"), &chain(text.clone(), "new")), []);
    let changed = found(Side::Input, &chain(text, "old"), &chain(number, "new"));
    assert_eq!(changed, [("/input".into(), ChangeType::Unclear)]);
    assert!(begun.elapsed() < std::time::Duration::from_secs(5), "{:?}", begun.elapsed());
}

/// Many fields, each with alternatives beyond what is compared: no alternative passes for one that fits.
#[test]
fn alternatives_past_the_bound_are_told_of_at_once() {
    let many = |offset: usize| {
        let alternatives: Vec<_> =
            (0..300).map(|n| json!({ "type": "object", "properties": { "t": { "const": n + offset } } })).collect();
        let field = |n: usize| (format!("p{n}"), json!({ "oneOf": alternatives }));
        json!({ "type": "object", "properties": (0..20).map(field).collect::<Map<_, _>>() })
    };
    let begun = std::time::Instant::now();
    let told = compare(Side::Input, &many(0), &many(1_000));
    assert!(told.iter().any(|change| change.detail == TOO_LARGE), "{told:?}");
    assert!(begun.elapsed() < std::time::Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn an_unchanged_type_that_holds_itself_is_no_change() {
    let tree = |keyword: &str, note: &str, leaf: &str| {
        let node = json!({ "properties": { "next": { "$ref": "#/$defs/T" }, "leaf": { "type": leaf } } });
        let held = match keyword {
            "allOf" | "prefixItems" => json!([{ "$ref": "#/$defs/T" }]),
            "patternProperties" => json!({ "^a": { "$ref": "#/$defs/T" } }),
            _ => json!({ "$ref": "#/$defs/T" }),
        };
        json!({ "description": note, "$defs": { "T": node }, keyword: held })
    };
    for keyword in ["allOf", "not", "prefixItems", "contains", "propertyNames", "patternProperties"] {
        let (old, new) = (tree(keyword, "old", "string"), tree(keyword, "new", "string"));
        assert_eq!(found(Side::Input, &old, &new), [], "{keyword}");
        let changed = found(Side::Input, &old, &tree(keyword, "new", "null"));
        assert_eq!(changed, [("/input".into(), ChangeType::Unclear)], "{keyword}");
    }
}

/// A plain schema, with values that may or may not fit it.
fn plain() -> impl Strategy<Value = Value> {
    let bound = || proptest::option::of(0_i64..6);
    let with = |r#type: &'static str, least: &'static str, most: &'static str| {
        (bound(), bound()).prop_map(move |(low, high)| {
            let mut schema = json!({ "type": r#type });
            low.inspect(|low| schema[least] = json!(low));
            high.inspect(|high| schema[most] = json!(high));
            schema
        })
    };
    let leaf = prop_oneof![
        Just(json!(true)),
        Just(json!({ "type": ["null", "boolean"] })),
        Just(json!({ "type": ["string", "null"] })),
        with("integer", "minimum", "maximum"),
        with("number", "exclusiveMinimum", "maximum"),
        with("string", "minLength", "maxLength"),
        proptest::collection::vec(0_i64..5, 1..4).prop_map(|values| json!({ "enum": values })),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let fields = proptest::collection::btree_map("[ab]", inner.clone(), 0..3);
        let required = proptest::collection::btree_set("[abc]", 0..2);
        let others = prop_oneof![Just(json!(true)), Just(json!(false)), inner.clone()];
        prop_oneof![
            (fields, required, others).prop_map(|(fields, required, others)| {
                json!({ "type": "object", "properties": fields, "required": required, "additionalProperties": others })
            }),
            (inner.clone(), bound_items())
                .prop_map(|(items, most)| { json!({ "type": "array", "items": items, "maxItems": most }) }),
            (proptest::collection::vec(inner, 1..3), prop_oneof![Just("anyOf"), Just("oneOf")])
                .prop_map(|(alternatives, keyword)| json!({ keyword: alternatives })),
        ]
    })
}

fn bound_items() -> impl Strategy<Value = u64> {
    0_u64..4
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1_i64..8).prop_map(Value::from),
        Just(json!(2.5)),
        "[xy]{0,7}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 10, 3, |inner| {
        prop_oneof![
            proptest::collection::btree_map("[ab]", inner.clone(), 0..3).prop_map(|fields| json!(fields)),
            proptest::collection::vec(inner, 0..4).prop_map(Value::from),
        ]
    })
}

/// The fields of a value that a schema does not name: what it says of them nobody relies on.
fn names_all(document: Document<'_>, schema: &Value, value: &Value) -> bool {
    let schema = followed(document, schema);
    if let Some(any) = schema.as_object().and_then(alternatives) {
        return any.into_iter().all(|schema| names_all(document, schema, value));
    }
    match value {
        Value::Object(fields) => fields.iter().all(|(name, value)| {
            let others = || schema.get("additionalProperties").filter(|others| others.is_object());
            let schema = schema["properties"].get(name).or_else(others);
            schema.is_some_and(|schema| names_all(document, schema, value))
        }),
        Value::Array(items) => items.iter().all(|item| names_all(document, &schema["items"], item)),
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whoever is told of no change is not refused.
    #[test]
    fn what_was_taken_is_taken_or_the_change_is_told(
        old in plain(), new in plain(), values in proptest::collection::vec(value(), 20),
    ) {
        let told = compare(Side::Input, &old, &new);
        let (before, after) = (Checker::new(&old).unwrap(), Checker::new(&new).unwrap());
        for value in values {
            let fitted = before.misfits(&value).is_empty() && names_all(Document { root: &old }, &old, &value);
            if fitted && !after.misfits(&value).is_empty() {
                prop_assert!(!told.is_empty(), "{value} fitted {old}, does not fit {new}, and nothing is told");
            }
        }
    }

    #[test]
    fn nothing_has_changed_where_nothing_has(schema in plain()) {
        prop_assert_eq!(compare(Side::Input, &schema, &schema), []);
        prop_assert_eq!(compare(Side::Output, &schema, &schema), []);
    }
}
