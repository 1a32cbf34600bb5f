//! How recordings hold statements: as a code with fields, and the sentence beside them as `text`.

/// Implements `Serialize` for a type of `model` that derives it remotely, with the sentence that is its `Display`. A sentence from a
/// recording of another version stays alone.
macro_rules! write_coded {
    ($type:ident) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                type Coded = $type;
                #[derive(serde::Serialize)]
                struct WithText<'a> {
                    #[serde(flatten, serialize_with = "Coded::serialize")]
                    coded: &'a Coded,
                    text: String,
                }
                match self {
                    Self::Text(text) => serializer.serialize_str(text),
                    coded => serde::Serialize::serialize(&WithText { coded, text: coded.to_string() }, serializer),
                }
            }
        }
    };
}
pub(super) use write_coded;
