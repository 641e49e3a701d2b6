//! The types that JSON Schema knows.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

use serde_json::{Map, Value};

/// A set of types. What is whole stands apart from other numbers: `integer` is a part of `number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Types(u8);

/// As they are told, `number` before the parts of it.
const NAMES: [(&str, Types); 7] = [
    ("null", Types(1)),
    ("boolean", Types(1 << 1)),
    ("number", Types::NUMBER),
    ("integer", Types(1 << 2)),
    ("string", Types::STRING),
    ("array", Types::ARRAY),
    ("object", Types::OBJECT),
];

impl Types {
    pub(super) const NONE: Self = Self(0);
    pub(super) const ALL: Self = Self(0b111_1111);
    pub(super) const NUMBER: Self = Self(0b1100);
    /// The numbers that are not whole.
    const FRACTION: Self = Self(1 << 3);
    pub(super) const STRING: Self = Self(1 << 4);
    pub(super) const ARRAY: Self = Self(1 << 5);
    pub(super) const OBJECT: Self = Self(1 << 6);

    /// What a schema's `type` names; `None` where it has none.
    pub(super) fn stated(fields: &Map<String, Value>) -> Option<Self> {
        match fields.get("type")? {
            Value::String(one) => Some(Self::named(one)),
            Value::Array(several) => {
                Some(several.iter().filter_map(Value::as_str).map(Self::named).fold(Self::NONE, |all, one| all | one))
            }
            _ => None,
        }
    }

    pub(super) fn of(value: &Value) -> Self {
        match type_of(value) {
            "number" => Self::FRACTION,
            name => Self::named(name),
        }
    }

    pub(super) fn is_empty(self) -> bool {
        self == Self::NONE
    }

    fn named(name: &str) -> Self {
        NAMES.iter().find(|(known, _)| *known == name).map_or(Self::NONE, |(_, types)| *types)
    }
}

impl BitAnd for Types {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Types {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Sub for Types {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// `string or null`.
impl fmt::Display for Types {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = *self;
        for (name, types) in NAMES {
            // Of numbers, those that are not whole are told as all are.
            let told = if types == Self::NUMBER { Self::FRACTION } else { types };
            if !(left & told).is_empty() {
                let or = if left == *self { "" } else { " or " };
                write!(f, "{or}{name}")?;
                left = left - types;
            }
        }
        Ok(())
    }
}

/// Whether every value of this type is of one of these.
pub fn allows(types: &[&str], r#type: &str) -> bool {
    types.iter().any(|own| *own == r#type || (*own, r#type) == ("number", "integer"))
}

/// What JSON Schema calls it.
pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stated(r#type: &Value) -> Types {
        Types::stated(json!({ "type": r#type }).as_object().unwrap()).unwrap()
    }

    #[test]
    fn whole_numbers_are_numbers_and_not_the_other_way_round() {
        let (number, integer) = (stated(&json!("number")), stated(&json!("integer")));
        assert_eq!((number & integer, number | integer), (integer, number));
        assert_eq!(Types::of(&json!(2.0)), integer);
        assert_eq!(Types::of(&json!(2.5)) & integer, Types::NONE);
        assert_eq!(Types::of(&json!(2.5)) & number, Types::of(&json!(2.5)));
        assert_eq!(NAMES.iter().fold(Types::NONE, |all, (_, one)| all | *one), Types::ALL);
    }

    #[test]
    fn they_are_told_by_their_names() {
        assert_eq!(stated(&json!(["object", "null", "integer"])).to_string(), "null or integer or object");
        assert_eq!(stated(&json!(["integer", "number"])).to_string(), "number");
        assert_eq!(Types::of(&json!("")).to_string(), "string");
        assert_eq!((Types::of(&json!(1.5)) | Types::of(&json!(null))).to_string(), "null or number");
    }
}
