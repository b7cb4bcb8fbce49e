//! Names of which all or one is needed.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::place::At;

/// Names of what is needed: a list of which all are, or `{ all = [..], any = [..] }`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameList {
    /// All of these.
    pub all: Vec<At<String>>,
    /// And one of these, unless empty.
    pub any: Vec<At<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Both {
    all: Vec<At<String>>,
    any: Vec<At<String>>,
}

impl<'de> Deserialize<'de> for NameList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrTable;

        impl<'de> Visitor<'de> for ListOrTable {
            type Value = NameList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of names, or a table with `all` and `any`")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<NameList, A::Error> {
                let all = Vec::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(NameList { all, any: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NameList, A::Error> {
                let Both { all, any } = Both::deserialize(MapAccessDeserializer::new(map))?;
                Ok(NameList { all, any })
            }
        }

        deserializer.deserialize_any(ListOrTable)
    }
}

impl Serialize for NameList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.any.is_empty() {
            return self.all.serialize(serializer);
        }
        serializer.collect_map([("all", &self.all), ("any", &self.any)])
    }
}

impl JsonSchema for NameList {
    fn schema_name() -> Cow<'static, str> {
        "NameList".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({ "type": "array", "items": { "type": "string" } });
        json_schema!({
            "description": "A list of names of which all are needed, or a table.",
            "anyOf": [list, {
                "type": "object",
                "properties": {
                    "all": { "description": "All of these.", "type": "array", "items": { "type": "string" } },
                    "any": { "description": "And one of these.", "type": "array", "items": { "type": "string" } },
                },
                "additionalProperties": false,
            }],
        })
    }
}
