//! A scenario as written. docs/load.md describes each key; `compile` judges what the values mean.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use sessiongate::config::raw::{At, Period, SecretRef, Table};

use crate::cli::load::chance::Think;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    pub name: Option<At<String>>,
    pub session: Table<Session>,
    pub headers: BTreeMap<String, At<String>>,
    pub clients: Vec<Table<Client>>,
    pub flows: Vec<Table<Flow>>,
}

/// How sessions are opened and closed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Session {
    pub per: Per,
    pub path: Option<At<String>>,
    pub header: Option<At<String>>,
    pub headers: BTreeMap<String, At<String>>,
    pub body: Option<At<String>>,
    pub close: bool,
}

/// What a session is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Per {
    /// One walk.
    #[default]
    Walk,
    /// All walks on one connection.
    Connection,
}

/// Who calls.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Client {
    pub id: Option<At<String>>,
    pub weight: Option<At<f64>>,
    pub token: Option<At<SecretRef>>,
    pub secret: Option<At<SecretRef>>,
    pub subject: Option<At<String>>,
    pub subjects: Option<At<u32>>,
    pub scope: Option<At<String>>,
    pub issuer: Option<At<String>>,
    pub audience: Option<At<String>>,
    pub claims: BTreeMap<String, serde_json::Value>,
}

/// A way through the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Flow {
    pub name: Option<At<String>>,
    pub weight: Option<At<f64>>,
    pub steps: Vec<Table<Step>>,
}

/// A call of a flow.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Step {
    pub name: Option<At<String>>,
    pub method: Option<At<String>>,
    pub path: Option<At<String>>,
    pub headers: BTreeMap<String, At<String>>,
    pub body: Option<At<String>>,
    pub expect: Option<At<Vec<Status>>>,
    pub think: Option<At<Pause>>,
    pub repeat: Option<At<Repeat>>,
    pub go_on: Option<At<f64>>,
    pub capture: BTreeMap<String, At<Source>>,
}

/// Where a captured value is found.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// In the JSON body, by a pointer (RFC 6901).
    Json(String),
    /// In a header field.
    Header(String),
}

/// A status, or a class of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// This one.
    Exactly(u16),
    /// All that begin with this digit.
    Class(u16),
}

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        const HOW: &str = "write a status like 201, or a class like \"2xx\"";

        impl Visitor<'_> for Read {
            type Value = Status;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Status, E> {
                match u16::try_from(number) {
                    Ok(status @ 100..=599) => Ok(Status::Exactly(status)),
                    _ => Err(E::custom(format_args!("{number} is not a status; {HOW}"))),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Status, E> {
                match text.as_bytes() {
                    [digit @ b'1'..=b'5', b'x', b'x'] => Ok(Status::Class(u16::from(digit - b'0'))),
                    _ => Err(E::custom(format_args!("{text:?} is not a status; {HOW}"))),
                }
            }
        }

        deserializer.deserialize_any(Read)
    }
}

/// A pause: `"1s"`, `{ uniform = ["1s", "3s"] }` or `{ exponential = "2s" }`.
#[derive(Debug, Clone, Copy)]
pub struct Pause(pub Think);

impl<'de> Deserialize<'de> for Pause {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "snake_case")]
        enum Spread {
            Uniform([Period; 2]),
            Exponential(Period),
        }

        struct Read;

        impl<'de> Visitor<'de> for Read {
            type Value = Pause;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration, or a table with `uniform` or `exponential`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Pause, E> {
                let period = Period::deserialize(serde::de::value::StrDeserializer::new(text))?;
                Ok(Pause(Think::Fixed(period.0)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Pause, A::Error> {
                Ok(Pause(match Spread::deserialize(MapAccessDeserializer::new(map))? {
                    Spread::Uniform([low, high]) if low <= high => Think::Uniform(low.0, high.0),
                    Spread::Uniform(_) => return Err(A::Error::custom("the shorter time comes first")),
                    Spread::Exponential(mean) => Think::Exponential(mean.0),
                }))
            }
        }

        deserializer.deserialize_any(Read)
    }
}

impl Default for Pause {
    fn default() -> Self {
        Self(Think::Fixed(Duration::ZERO))
    }
}

/// How many times a step is made: `3`, or from `[1, 4]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeat {
    /// At least.
    pub low: u64,
    /// At most.
    pub high: u64,
}

impl<'de> Deserialize<'de> for Repeat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        const HOW: &str = "write a number like 3, or the least and the most like [1, 4]";

        impl<'de> Visitor<'de> for Read {
            type Value = Repeat;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or the least and the most of them")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Repeat, E> {
                match u64::try_from(number) {
                    Ok(times @ 1..=10_000) => Ok(Repeat { low: times, high: times }),
                    _ => Err(E::custom(format_args!("{number} is not from 1 to 10000; {HOW}"))),
                }
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Repeat, A::Error> {
                match (list.next_element()?, list.next_element()?, list.next_element::<u64>()?) {
                    (Some(low @ 1..=10_000), Some(high), None) if low <= high && high <= 10_000 => {
                        Ok(Repeat { low, high })
                    }
                    _ => Err(A::Error::custom(format_args!(
                        "two numbers from 1 to 10000 are needed, the smaller first; {HOW}"
                    ))),
                }
            }
        }

        deserializer.deserialize_any(Read)
    }
}
