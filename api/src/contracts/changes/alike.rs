//! Whether two schemas say the same.

use std::collections::BTreeSet;

use buzzer_shared::contract::Document;
use serde_json::{Map, Value};

use super::comparison::{DEPTH_MAX, Met, PAIRS_MAX};
use super::keywords::{followed, same, tells};

/// One look at two schemas.
#[derive(Debug)]
pub(super) struct Likeness<'a, 'b> {
    pub(super) one: Document<'a>,
    pub(super) other: Document<'a>,
    /// How many pairs were looked at, here and elsewhere.
    pub(super) pairs: &'b mut usize,
    pub(super) met: Met,
}

impl Likeness<'_, '_> {
    /// Whether what stands under one keyword says the same of values. Under some of them stand names, which may be those
    /// of keywords.
    pub(super) fn keyword(&mut self, keyword: &str, one: &Value, other: &Value, depth: usize) -> bool {
        match (keyword, one, other) {
            // What they lead to was compared.
            ("$ref", _, _) => true,
            ("const" | "enum", _, _) => same(one, other),
            (
                "properties" | "patternProperties" | "dependentSchemas" | "dependentRequired",
                Value::Object(one),
                Value::Object(other),
            ) => {
                one.len() == other.len()
                    && one
                        .iter()
                        .all(|(name, one)| other.get(name).is_some_and(|other| self.schemas(one, other, depth)))
            }
            _ => self.schemas(one, other, depth),
        }
    }

    /// Whether two say the same of values, wherever that is written. A pair that is under way, or was, is alike as far
    /// as it goes: if it is not, that is found where it was met first, and then nothing is alike.
    pub(super) fn schemas(&mut self, one: &Value, other: &Value, depth: usize) -> bool {
        let (one, other) = (followed(self.one, one), followed(self.other, other));
        if !one.is_object() && !one.is_array() {
            return one == other;
        }
        if !self.met.insert((one, other)) {
            return true;
        }
        *self.pairs += 1;
        if *self.pairs > PAIRS_MAX || depth > DEPTH_MAX {
            return false;
        }
        if let (Some(one), Some(other)) = (self.one.target(one), self.other.target(other))
            && !self.schemas(one, other, depth + 1)
        {
            return false;
        }
        match (one, other) {
            (Value::Object(one), Value::Object(other)) => {
                let telling = |fields: &Map<String, Value>| -> BTreeSet<String> {
                    fields.keys().filter(|keyword| tells(keyword)).cloned().collect()
                };
                let keywords = telling(one);
                keywords == telling(other)
                    && keywords.iter().all(|keyword| self.keyword(keyword, &one[keyword], &other[keyword], depth + 1))
            }
            (Value::Array(one), Value::Array(other)) => {
                one.len() == other.len()
                    && one.iter().zip(other).all(|(one, other)| self.schemas(one, other, depth + 1))
            }
            _ => false,
        }
    }
}
