//! Messages of serde in plain words. Values of the wrong type are left out of them: one may be a misplaced secret.

use super::nearest::{did_you_mean, listed, nearest};

/// What is wrong with the shape of a file.
pub(super) struct Fault {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The key that was meant.
    pub(super) meant: Option<String>,
}

impl Fault {
    pub(super) fn read(text: &str) -> Self {
        let plain = |message: String| Self { message, hint: None, meant: None };
        let mut quoted = text.split('`').skip(1).step_by(2);
        if text.starts_with("unknown field") {
            let word = quoted.next().unwrap_or_default();
            let known: Vec<&str> = quoted.collect();
            let meant = nearest(word, known.iter().copied());
            let hint = match meant {
                Some(meant) => Some(format!("did you mean {meant:?}?")),
                None if known.is_empty() => None,
                None => Some(format!("known here: {}", known.join(", "))),
            };
            return Self { message: format!("unknown key {word:?}"), hint, meant: meant.map(str::to_owned) };
        }
        if text.starts_with("unknown variant") {
            let word = quoted.next().unwrap_or_default();
            let known: Vec<&str> = quoted.collect();
            let message = format!("{word:?} is not one of {}", listed(&known));
            return Self { message, hint: did_you_mean(word, known.iter().copied()), meant: None };
        }
        let parts = |rest: &str| rest.split_once(", expected ").map(|(a, b)| (a.to_owned(), b.to_owned()));
        if let Some((found, expected)) = text.strip_prefix("invalid type: ").and_then(parts) {
            return plain(format!("expected {}, found {}", expected_kind(&expected), found_kind(&found)));
        }
        if let Some((found, expected)) = text.strip_prefix("invalid value: ").and_then(parts) {
            let found = found.split('`').nth(1).unwrap_or("this").to_owned();
            return plain(format!("{found} is out of range; expected {}", expected_kind(&expected)));
        }
        if text == "wanted string or table" {
            return plain("expected a word".to_owned());
        }
        plain(text.trim().replace('\n', "; "))
    }
}

fn expected_kind(expected: &str) -> &str {
    match expected {
        "a string" => "text",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        "u16" => "a whole number up to 65535",
        "u8" | "u32" | "u64" | "usize" => "a whole number from 0",
        "i64" => "a whole number",
        "a nonzero u32" => "a whole number from 1",
        _ if expected.starts_with("struct ") => "a table",
        _ if expected.contains("enum ") => "a word",
        _ => expected,
    }
}

fn found_kind(found: &str) -> &str {
    match found.split([' ', '`']).next() {
        Some("string" | "character") => "text",
        Some("integer" | "floating") => "a number",
        Some("boolean") => "true or false",
        Some("sequence") => "a list",
        Some("map") => "a table",
        Some("unit") => "nothing",
        _ => "something else",
    }
}
