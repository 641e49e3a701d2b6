//! The schemas of the document, in the draft that AsyncAPI has.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::draft7::to_draft7;
use crate::openapi::moved;

/// Where they stand in the document.
const PATH: &str = "/components/schemas";

/// Schemas that were asked for, and those that they refer to.
#[derive(Debug)]
pub(super) struct Schemas {
    /// Of what the API reads: what it does not need may be left out.
    read: SchemaGenerator,
    /// Of what the API writes.
    written: SchemaGenerator,
    of_kinds: Map<String, Value>,
}

impl Default for Schemas {
    fn default() -> Self {
        let settings = || {
            SchemaSettings::draft07().with(|settings| {
                settings.definitions_path = PATH.into();
                settings.meta_schema = None;
            })
        };
        Self {
            read: settings().for_deserialize().into_generator(),
            written: settings().for_serialize().into_generator(),
            of_kinds: Map::new(),
        }
    }
}

impl Schemas {
    pub(super) fn read<T: JsonSchema>(&mut self) -> Schema {
        self.read.subschema_for::<T>()
    }

    pub(super) fn written<T: JsonSchema>(&mut self) -> Schema {
        self.written.subschema_for::<T>()
    }

    /// What makes schemas of what the API reads, and of what it writes.
    pub(super) fn generators(&mut self) -> (&mut SchemaGenerator, &mut SchemaGenerator) {
        (&mut self.read, &mut self.written)
    }

    /// A schema as a kind announced it, under this name.
    pub(super) fn announced(&mut self, name: &str, schema: &Value) -> Value {
        let mut schemas = moved(name, schema);
        to_draft7(schemas.iter_mut().map(|(_, schema)| schema));
        self.of_kinds.extend(schemas);
        json!({ "$ref": format!("#{PATH}/{name}") })
    }

    /// All of them, by their names. What the API reads and writes has the looser schema, the one of what it reads.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut all = self.written.take_definitions(true);
        all.extend(self.read.take_definitions(true));
        all.extend(self.of_kinds);
        all
    }
}
