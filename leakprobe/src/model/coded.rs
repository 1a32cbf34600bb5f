//! Statements that recordings hold as a code with fields: `{"code": "kernel-names-hidden", "why": "…", "text": "…"}`. The sentence
//! `text` is for readers that do not know the code; it is written by `report`, and not needed by this version.
//!
//! Such a type derives serde's traits with `#[serde(remote = "Self", tag = "code")]` and has a variant `Text(String)` that is
//! skipped: a sentence from a recording of another version, which is all that is known of it.

use schemars::Schema;
use serde_json::{Value, json};

/// Implements `Deserialize`: a code that is known with its fields, else the sentence beside it, or a sentence alone, as in recordings
/// of older versions.
macro_rules! read_coded {
    ($type:ident) => {
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                type Coded = $type;
                #[derive(serde::Deserialize)]
                #[serde(untagged, expecting = "neither a code with its fields nor a sentence")]
                enum Read {
                    Known(#[serde(deserialize_with = "Coded::deserialize")] Coded),
                    Unknown { text: String },
                    Sentence(String),
                }
                Ok(match <Read as serde::Deserialize>::deserialize(deserializer)? {
                    Read::Known(coded) => coded,
                    Read::Unknown { text } | Read::Sentence(text) => Self::Text(text),
                })
            }
        }
    };
}
pub(super) use read_coded;

/// Completes the schema of such a type: each code has its sentence beside it, and may be a sentence alone.
pub(super) fn describe(schema: &mut Schema) {
    let Some(Value::Array(kinds)) = schema.get_mut("oneOf") else { return };
    for kind in kinds.iter_mut().filter_map(Value::as_object_mut) {
        if let Some(Value::Object(properties)) = kind.get_mut("properties") {
            properties.insert("text".to_owned(), json!({ "description": "The same as a sentence.", "type": "string" }));
        }
        if let Some(Value::Array(required)) = kind.get_mut("required") {
            required.push(json!("text"));
        }
    }
    kinds.push(json!({ "description": "A sentence alone: of another version.", "type": "string" }));
}
