//! Reads a recording, its schema first: a recording of another version gets another error than a damaged one.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error, IntoDeserializer, MapAccess, Visitor,
        value::{MapAccessDeserializer, StringDeserializer},
    },
};

use crate::model::{Recording, SCHEMA};

/// What is known of the schema once reading has ended, well or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Schema {
    /// There was none, or it did not come first.
    #[default]
    NotFirst,
    Ours,
    Other(String),
}

/// Reads a recording. Reading ends at its first field if that is another schema than ours.
pub(super) struct Document<'a>(pub(super) &'a mut Schema);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = Recording;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Recording, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Recording;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a recording")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut rest: A) -> Result<Recording, A::Error> {
        let key: Option<String> = rest.next_key()?;
        let mut first = First { key, schema: None, rest };
        if first.key.as_deref() == Some("schema") {
            let schema: String = first.rest.next_value()?;
            if schema != SCHEMA {
                *self.0 = Schema::Other(schema);
                return Err(A::Error::custom("another schema"));
            }
            *self.0 = Schema::Ours;
            first.schema = Some(schema);
        }
        let recording = Recording::deserialize(MapAccessDeserializer::new(first))?;
        *self.0 = if recording.schema == SCHEMA { Schema::Ours } else { Schema::Other(recording.schema.clone()) };
        Ok(recording)
    }
}

/// A map of which the first key was read already, and its value as well if that is the schema.
struct First<A> {
    key: Option<String>,
    schema: Option<String>,
    rest: A,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for First<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        match self.key.take() {
            Some(key) => {
                let key: StringDeserializer<A::Error> = key.into_deserializer();
                seed.deserialize(key).map(Some)
            }
            None => self.rest.next_key_seed(seed),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        match self.schema.take() {
            Some(schema) => {
                let schema: StringDeserializer<A::Error> = schema.into_deserializer();
                seed.deserialize(schema)
            }
            None => self.rest.next_value_seed(seed),
        }
    }
}
