//! Values with a unit.

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::fmt::friendly::{SpanParser, SpanPrinter};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A duration: text with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

impl Period {
    /// So many seconds.
    #[must_use]
    pub const fn secs(secs: u64) -> Self {
        Self(Duration::from_secs(secs))
    }

    fn parse(text: &str) -> Result<Self, String> {
        match SpanParser::new().parse_unsigned_duration(text) {
            Ok(duration) => Ok(Self(duration)),
            Err(_) => Err(format!("{text:?} is not a duration; {UNITS}")),
        }
    }
}

const UNITS: &str = "write it with a unit, like \"30s\", \"5m\" or \"1h30m\"";

/// As it is written in files: `30s`.
impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&SpanPrinter::new().unsigned_duration_to_string(&self.0))
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = |number: u64| Err(format!("{number} is not a duration; {UNITS}"));
        deserializer.deserialize_any(TextOrNumber { expecting: "a duration", text: Self::parse, number })
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]", "examples": ["500ms", "30s", "5m", "1h30m"] })
    }
}

/// A number of bytes: text with a unit, or a plain number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    /// So many KiB.
    #[must_use]
    pub const fn kib(kib: u64) -> Self {
        Self(kib * 1024)
    }

    fn parse(text: &str) -> Result<Self, String> {
        match ByteSize::from_str(text.trim()) {
            Ok(size) => Ok(Self(size.as_u64())),
            Err(_) => Err(format!("{text:?} is not a size; write it like \"64KiB\" or \"10MiB\"")),
        }
    }
}

/// As it is written in files: `10MiB`, or plain bytes where no unit divides the number.
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.into_iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = |bytes: u64| Ok(Self(bytes));
        deserializer.deserialize_any(TextOrNumber { expecting: "a size", text: Self::parse, number })
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"], "pattern": "^[0-9]", "minimum": 0, "examples": ["64KiB", "10MiB", 65536],
        })
    }
}

/// The longest body: a size, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLimit(pub Option<Size>);

impl Serialize for BodyLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(size) => size.serialize(serializer),
            None => serializer.serialize_str("unlimited"),
        }
    }
}

impl<'de> Deserialize<'de> for BodyLimit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |text: &str| match text {
            "unlimited" => Ok(Self(None)),
            _ => match Size::parse(text) {
                Ok(size) => Ok(Self(Some(size))),
                Err(error) => Err(format!("{error}, or \"unlimited\"")),
            },
        };
        let number = |bytes: u64| Ok(Self(Some(Size(bytes))));
        deserializer.deserialize_any(TextOrNumber { expecting: "a size", text, number })
    }
}

impl JsonSchema for BodyLimit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "BodyLimit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "integer"], "pattern": "^([0-9].*|unlimited)$", "minimum": 0,
            "examples": ["1MiB", "unlimited"],
        })
    }
}

/// A limit in time: a duration, or `"off"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(pub Option<Period>);

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(period) => period.serialize(serializer),
            None => serializer.serialize_str("off"),
        }
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |text: &str| match text {
            "off" => Ok(Self(None)),
            _ => match Period::parse(text) {
                Ok(period) => Ok(Self(Some(period))),
                Err(error) => Err(format!("{error}, or \"off\"")),
            },
        };
        let number = |number: u64| Err(format!("{number} is not a duration; write it with a unit, like \"30s\""));
        deserializer.deserialize_any(TextOrNumber { expecting: "a duration", text, number })
    }
}

impl JsonSchema for Limit {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([0-9].*|off)$", "examples": ["30s", "5m", "off"] })
    }
}

/// A number from 1, or `"unlimited"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count(pub Option<NonZeroU32>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const FORM: &str = "write a number from 1 to 4294967295, or \"unlimited\"";
        let text = |text: &str| match text {
            "unlimited" => Ok(Self(None)),
            _ => Err(format!("{text:?} is not a number; {FORM}")),
        };
        let number = |number: u64| match u32::try_from(number).ok().and_then(NonZeroU32::new) {
            Some(number) => Ok(Self(Some(number))),
            None => Err(format!("{number} is out of range; {FORM}")),
        };
        deserializer.deserialize_any(TextOrNumber { expecting: "a number", text, number })
    }
}

struct TextOrNumber<T, N> {
    expecting: &'static str,
    text: T,
    number: N,
}

impl<V, T: FnOnce(&str) -> Result<V, String>, N: FnOnce(u64) -> Result<V, String>> Visitor<'_> for TextOrNumber<T, N> {
    type Value = V;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<V, E> {
        (self.text)(text).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<V, E> {
        match u64::try_from(number) {
            Ok(number) => (self.number)(number).map_err(E::custom),
            Err(_) => Err(E::custom(format_args!("{number} is negative"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, String> {
        // JSON numbers arrive as `u64`; TOML's as `i64`.
        let toml = format!("value = {json}");
        #[derive(Deserialize)]
        struct One<T> {
            value: T,
        }
        toml::from_str::<One<T>>(&toml).map(|one| one.value).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn durations_have_units() {
        for (text, millis) in [("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h30m", 5_400_000), ("0s", 0)] {
            assert_eq!(read(&format!("{text:?}")), Ok(Period(Duration::from_millis(millis))), "{text}");
        }
        for wrong in ["\"30\"", "\"\"", "\"-5s\"", "\"5 parsecs\"", "30", "-1", "true"] {
            assert!(read::<Period>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_have_units_or_are_bytes() {
        for (text, bytes) in [("\"10MiB\"", 10 << 20), ("\"64 KiB\"", 65_536), ("\"1MB\"", 1_000_000), ("42", 42)] {
            assert_eq!(read(text), Ok(Size(bytes)), "{text}");
        }
        assert!(read::<Size>("\"big\"").is_err() && read::<Size>("-1").is_err());
        assert_eq!(read("\"unlimited\""), Ok(BodyLimit(None)));
        assert_eq!(read("\"off\""), Ok(Limit(None)));
        assert_eq!(read("\"5s\""), Ok(Limit(Some(Period::secs(5)))));
        assert!(read::<Limit>("\"never\"").is_err() && read::<Limit>("5").is_err());
        assert_eq!(read("\"unlimited\""), Ok(Count(None)));
        assert_eq!(read("5"), Ok(Count(NonZeroU32::new(5))));
        assert!(read::<Count>("0").is_err() && read::<Count>("-1").is_err() && read::<Count>("\"5\"").is_err());
        assert_eq!(read("\"1KiB\""), Ok(BodyLimit(Some(Size(1024)))));
    }

    #[test]
    fn values_print_as_they_are_written() {
        for text in ["500ms", "30s", "5m", "1h 30m", "24h"] {
            assert_eq!(read::<Period>(&format!("{text:?}")).unwrap().to_string(), text);
        }
        for text in ["10MiB", "32KiB", "1500B", "2GiB"] {
            assert_eq!(Size::parse(text).unwrap().to_string(), text);
        }
    }
}
