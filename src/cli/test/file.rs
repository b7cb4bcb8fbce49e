//! A file of scenarios as written. docs/rules.md describes each key; `compile` judges what the values mean.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use sessiongate::config::raw::{At, Period, Table};

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct File {
    pub config: Option<At<String>>,
    pub scenario: Vec<Table<Scenario>>,
}

/// A scenario.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    pub name: Option<At<String>>,
    pub client: Option<At<String>>,
    pub subject: Option<At<String>>,
    pub scopes: Option<Vec<At<String>>>,
    pub headers: BTreeMap<String, At<String>>,
    pub call: Vec<Table<Call>>,
}

/// A call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Call {
    pub method: Option<At<String>>,
    pub path: Option<At<String>>,
    pub after: Option<At<Period>>,
    pub client: Option<At<String>>,
    pub subject: Option<At<String>>,
    pub scopes: Option<Vec<At<String>>>,
    pub headers: BTreeMap<String, At<String>>,
    pub body: Option<At<String>>,
    pub answer: Option<At<Answer>>,
    pub expect: Option<At<String>>,
    pub reason: Option<At<String>>,
    pub replayed: Option<bool>,
    pub step: Option<At<String>>,
    pub allowed_next: Option<Vec<At<String>>>,
    pub session: Option<At<String>>,
}

/// What the upstream does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It answers with this status.
    Status(u16),
    /// It does not answer in time.
    Timeout,
    /// It breaks the connection before it has answered.
    Reset,
    /// It cannot be reached: nothing is sent.
    Unreachable,
}

impl<'de> Deserialize<'de> for Answer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        const HOW: &str = "write a status like 201, or \"timeout\", \"reset\" or \"unreachable\"";

        impl Visitor<'_> for Read {
            type Value = Answer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, or what happened in its place")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Answer, E> {
                match u16::try_from(number) {
                    Ok(status @ 200..=599) => Ok(Answer::Status(status)),
                    _ => Err(E::custom(format_args!("{number} is not a status; {HOW}"))),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Answer, E> {
                match text {
                    "timeout" => Ok(Answer::Timeout),
                    "reset" => Ok(Answer::Reset),
                    "unreachable" => Ok(Answer::Unreachable),
                    _ => Err(E::custom(format_args!("{text:?} is not an answer; {HOW}"))),
                }
            }
        }

        deserializer.deserialize_any(Read)
    }
}
