//! What is wrong about a value, told in bounded time and memory.

use std::borrow::Cow;

use jsonschema::{ValidationError, Validator};
use serde_json::Value;

use super::schema::Cost;
use crate::text::shorten;

/// More misfits of one value help nobody.
const MISFITS_MAX: usize = 20;
/// To list what is wrong, all of it is found first, some hundred bytes for each look. Where there may be more looks, only
/// the first misfit is told.
const LOOKS_MAX: u64 = 20_000;
/// Even to find the first one, parts are looked at again and again, and of alternatives all that is wrong is found.
const FIRST_MAX: u64 = 2_000_000;
/// So much of a value is told, and of what was expected instead, in bytes.
const VALUE_MAX: usize = 100;
const DETAIL_MAX: usize = 500;
/// A place that takes more bytes, for names may be long, is told as the place around it.
const POINTER_MAX: usize = 500;

/// One thing that is wrong about a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// A JSON pointer into the value, at most some 500 bytes: to the place itself, or to one around it.
    pub pointer: String,
    /// At most some 500 bytes.
    pub detail: String,
}

/// How much of what is wrong can be told.
#[derive(Debug)]
pub(super) struct Telling {
    cost: Cost,
    /// How many schemas look at one part at most; `None` where a reference may bring them there again.
    schemas: Option<u64>,
    /// Whether it has alternatives.
    chooses: bool,
}

impl Telling {
    /// `schemas` are all within one, of which some may refer to others.
    pub(super) fn new(schemas: &[&Value], refers: bool, cost: Cost) -> Self {
        let chooses = schemas.iter().any(|schema| schema.get("anyOf").or_else(|| schema.get("oneOf")).is_some());
        Self { cost, schemas: (!refers).then_some(schemas.len() as u64), chooses }
    }

    /// Of a value that does not fit.
    pub(super) fn misfits(&self, validator: &Validator, value: &Value) -> Vec<Misfit> {
        let looks = self.looks(value, 1);
        if looks <= LOOKS_MAX {
            return validator.iter_errors(value).take(MISFITS_MAX).map(|error| misfit(&error)).collect();
        }
        let first = if looks <= FIRST_MAX && !self.chooses { validator.validate(value).err() } else { None };
        vec![first.as_ref().map_or_else(unknown, misfit)]
    }

    /// How many schemas look at a value, at its parts and at the names of its fields, when they come to it in so many ways.
    fn looks(&self, value: &Value, ways: u64) -> u64 {
        let within = ways.saturating_mul(self.cost.ways);
        let parts = |part: &Value| self.looks(part, within);
        let looks = match value {
            Value::Object(fields) => {
                let names = self.at_one(within).saturating_mul(fields.len() as u64);
                fields.values().map(parts).fold(names, u64::saturating_add)
            }
            Value::Array(items) => items.iter().map(parts).fold(0, u64::saturating_add),
            _ => 0,
        };
        looks.saturating_add(self.at_one(ways))
    }

    fn at_one(&self, ways: u64) -> u64 {
        self.cost.trials.saturating_mul(ways).min(self.schemas.unwrap_or(u64::MAX))
    }
}

fn unknown() -> Misfit {
    let detail = "it does not fit the schema, and is too large or nested too deep to tell where".into();
    Misfit { pointer: String::new(), detail }
}

fn misfit(error: &ValidationError<'_>) -> Misfit {
    let value = error.instance().to_string();
    let detail = if value.len() > VALUE_MAX {
        error.masked_with(Cow::Owned(shorten(value, VALUE_MAX))).to_string()
    } else {
        error.to_string()
    };
    Misfit { pointer: around(error.instance_path().as_str()).to_owned(), detail: shorten(detail, DETAIL_MAX) }
}

/// As many whole steps of a pointer as may be told.
fn around(pointer: &str) -> &str {
    let ends = pointer.match_indices('/').map(|(at, _)| at).chain([pointer.len()]);
    &pointer[..ends.take_while(|end| *end <= POINTER_MAX).last().unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::contract::Checker;

    fn misfits(schema: &Value, value: &Value) -> Vec<Misfit> {
        Checker::new(schema).unwrap().misfits(value)
    }

    #[test]
    fn of_much_that_is_wrong_some_is_told() {
        let items = |count: usize| Value::from(vec![1; count]);
        let texts = json!({ "items": { "type": "string" } });
        assert_eq!(misfits(&texts, &items(1_000)).len(), MISFITS_MAX);
        let first = misfits(&texts, &items(500_000));
        assert_eq!((first.len(), first[0].pointer.as_str()), (1, "/0"));
    }

    /// To tell why none of some alternatives fits, the library finds all that is wrong of each: 600 MB here.
    #[test]
    fn of_alternatives_and_a_large_value_no_place_is_told() {
        let choice = json!({ "items": { "anyOf": [{ "type": "string" }, { "type": "null" }] } });
        let large = misfits(&choice, &Value::from(vec![1; 500_000]));
        assert_eq!(large, [unknown()]);
        assert_eq!(misfits(&choice, &json!([1, "a"]))[0].pointer, "/0");

        // Each level doubles how many schemas bear on one item: a value of 24 KB took 1 GB.
        let doubled = (0..7).fold(json!({ "type": "string" }), |inner, _| json!({ "allOf": [inner, inner] }));
        assert_eq!(misfits(&json!({ "items": doubled }), &Value::from(vec![1; 12_000])).len(), 1);
    }

    /// A value of one field took 326 MB.
    #[test]
    fn the_names_of_fields_are_looked_at_too() {
        let names = json!({ "propertyNames": { "$ref": "#/$defs/P" } });
        let schema =
            json!({ "$defs": { "P": { "allOf": vec![json!({ "maxLength": 0 }); 700] } }, "allOf": vec![names; 600] });
        assert_eq!(misfits(&schema, &json!({ "a": 1 })).len(), 1);
        let plain = json!({ "propertyNames": { "maxLength": 1 } });
        assert_eq!(misfits(&plain, &json!({ "aa": 1, "bb": 2, "c": 3 })).len(), 2);
    }

    #[test]
    fn a_long_name_is_told_as_what_is_around_it() {
        let schema = json!({ "properties": { "a": { "additionalProperties": { "type": "string" } } } });
        let value = json!({ "a": { "n".repeat(1_000): 1 } });
        assert_eq!(misfits(&schema, &value)[0].pointer, "/a");
        assert_eq!(around("/a/b"), "/a/b");
    }

    #[test]
    fn a_large_value_is_told_in_brief() {
        let schema = json!({ "allOf": vec![json!({ "minItems": 900_000 }); 20] });
        let told = misfits(&schema, &Value::from(vec![1; 500]));
        assert_eq!(told.len(), MISFITS_MAX);
        let detail = &told[0].detail;
        assert!(
            detail.len() < 200 && detail.starts_with("[1,1,") && detail.ends_with("… has less than 900000 items"),
            "{detail}"
        );
        let named: Vec<_> = (0..900).map(|n| n.to_string()).collect();
        let told = misfits(&json!({ "enum": named }), &json!("x"));
        assert!(told[0].detail.len() < 600 && told[0].detail.starts_with("\"x\" is not one of"), "{told:?}");
    }
}
