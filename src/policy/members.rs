//! JSON objects that read the same to everyone: no member is there twice, at any depth (RFC 8725 section 2.4, RFC 7515
//! section 4, RFC 7519 section 4).

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The members of an object: their names, and whether they are more than `null`.
#[derive(Debug, Default)]
pub struct Members(Vec<(String, bool)>);

impl Members {
    /// Reads a JSON object; none if it is not one, or if something in it is there twice.
    #[must_use]
    pub fn read(json: &str) -> Option<Self> {
        match serde_json::from_str(json) {
            Ok(Shape::Object(members)) => Some(Self(members)),
            Ok(Shape::Null | Shape::Other) | Err(_) => None,
        }
    }

    /// Whether a member is there and not `null`.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(known, there)| known == name && *there)
    }
}

/// A JSON value, of which only this is of interest.
enum Shape {
    Object(Vec<(String, bool)>),
    Null,
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Shape>()? {
            members.push((name, !matches!(value, Shape::Null)));
        }
        // Whoever writes many names pays no more than for sorting them.
        members.sort_unstable();
        if members.windows(2).any(|pair| matches!(pair, [(name, _), (next, _)] if name == next)) {
            return Err(A::Error::custom("a member is there twice"));
        }
        Ok(Shape::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        while seq.next_element::<Shape>()?.is_some() {}
        Ok(Shape::Other)
    }

    fn visit_unit<E: Error>(self) -> Result<Shape, E> {
        Ok(Shape::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_twice_makes_it_unreadable() {
        for good in
            ["{}", r#"{"a":1,"b":{"a":1}}"#, r#"{"a":[{"a":1.5},{"a":-1},null,true,"a"]}"#, r#" {"A":1,"a":1} "#]
        {
            assert!(Members::read(good).is_some(), "{good}");
        }
        for bad in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[{"a":1,"a":2}]}"#,
            r#"{"a":null,"a":1}"#,
            "[]",
            "null",
            "1",
            "{",
            "",
            r#"{"a":1} {}"#,
        ] {
            assert!(Members::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_null_is_not_there() {
        let members = Members::read(r#"{"a":null,"b":0,"c":""}"#).unwrap();
        assert!(!members.contains("a") && members.contains("b") && members.contains("c") && !members.contains("d"));
    }
}
