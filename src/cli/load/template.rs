//! Texts with variables: `/offers/{offer}?page={repeat}`.
//!
//! A name in braces is a variable; every other brace stands for itself, so JSON needs no escapes. `{{` is a brace before
//! what would be a variable otherwise.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::chance::Chance;

/// What every template may use.
pub const BUILT_IN: [&str; 8] = ["uuid", "n", "repeat", "random", "token", "client_id", "subject", "session_id"];

/// All that is not unreserved (RFC 3986 section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Where a text stands, and so how the values of variables are written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In a path or query: percent-encoded.
    Path,
    /// In a header field: as it is.
    Field,
    /// In a body: as inside of a JSON string.
    Body,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Uuid,
    Number,
    Repeat,
    Random,
    Token,
    ClientId,
    Subject,
    SessionId,
    Authority,
    /// The value in this slot.
    Captured(usize),
}

/// A text with variables, ready to be rendered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template(Vec<(Part, Option<Place>)>);

/// The values of one call.
#[derive(Debug)]
pub struct Values<'v> {
    /// Host and port of the target.
    pub authority: &'v str,
    /// The access token.
    pub token: &'v str,
    /// Whose it is.
    pub client_id: &'v str,
    /// The user it is for.
    pub subject: &'v str,
    /// The session, once it is open.
    pub session_id: &'v str,
    /// The number of the walk, from 0.
    pub number: u64,
    /// How many times the step was made before in a row.
    pub repeat: u64,
    /// What was captured, by slot.
    pub captured: &'v [String],
}

impl Template {
    /// Reads a text; `captured` gives the slot of a name.
    ///
    /// # Errors
    /// The first name that is no variable.
    pub fn parse(text: &str, place: Place, captured: impl Fn(&str) -> Option<usize>) -> Result<Self, String> {
        let mut template = Self::default();
        let mut rest = text;
        while let Some(at) = rest.find('{') {
            let (before, from) = rest.split_at(at);
            template.push_text(before);
            let inner = &from[1..];
            if let Some(after) = inner.strip_prefix('{') {
                template.push_text("{");
                // What follows is text, as far as it looks like a variable.
                let end = name(after).map_or(0, |name| name.len() + 1);
                template.push_text(&after[..end]);
                rest = &after[end..];
            } else if let Some(name) = name(inner) {
                let part = match name {
                    "uuid" => Part::Uuid,
                    "n" => Part::Number,
                    "repeat" => Part::Repeat,
                    "random" => Part::Random,
                    "token" => Part::Token,
                    "client_id" => Part::ClientId,
                    "subject" => Part::Subject,
                    "session_id" => Part::SessionId,
                    _ => Part::Captured(captured(name).ok_or_else(|| name.to_owned())?),
                };
                template.0.push((part, Some(place)));
                rest = &inner[name.len() + 1..];
            } else {
                template.push_text("{");
                rest = inner;
            }
        }
        template.push_text(rest);
        Ok(template)
    }

    /// Adds text without variables.
    pub fn push_text(&mut self, text: &str) {
        match self.0.last_mut() {
            _ if text.is_empty() => {}
            Some((Part::Text(last), _)) => *last = format!("{last}{text}").into(),
            _ => self.0.push((Part::Text(text.into()), None)),
        }
    }

    /// Adds host and port of the target.
    pub fn push_authority(&mut self) {
        self.0.push((Part::Authority, None));
    }

    /// Adds another template.
    pub fn push(&mut self, other: &Self) {
        for (part, place) in &other.0 {
            match part {
                Part::Text(text) => self.push_text(text),
                _ => self.0.push((part.clone(), *place)),
            }
        }
    }

    /// The text, if there are no variables in it.
    pub fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [] => Some(""),
            [(Part::Text(text), _)] => Some(text),
            _ => None,
        }
    }

    /// Whether the text has this variable.
    #[cfg(test)]
    fn uses(&self, part: &Part) -> bool {
        self.0.iter().any(|(used, _)| used == part)
    }

    /// Appends the text to `out`.
    pub fn render(&self, values: &Values<'_>, chance: &mut Chance, out: &mut Vec<u8>) {
        for (part, place) in &self.0 {
            let text = match part {
                Part::Text(text) => text,
                Part::Token => values.token,
                Part::SessionId => values.session_id,
                Part::ClientId => values.client_id,
                Part::Authority => values.authority,
                Part::Uuid => {
                    push_uuid(chance, out);
                    continue;
                }
                Part::Number => {
                    push_number(values.number, out);
                    continue;
                }
                Part::Repeat => {
                    push_number(values.repeat, out);
                    continue;
                }
                Part::Random => {
                    push_number(chance.between(0, 999_999), out);
                    continue;
                }
                Part::Subject => values.subject,
                Part::Captured(slot) => values.captured.get(*slot).map_or("", String::as_str),
            };
            match place {
                None | Some(Place::Field) => out.extend_from_slice(text.as_bytes()),
                Some(Place::Path) => {
                    utf8_percent_encode(text, RESERVED).for_each(|part| out.extend_from_slice(part.as_bytes()))
                }
                Some(Place::Body) => push_json(text, out),
            }
        }
    }
}

/// The name of a variable and its closing brace stand here.
fn name(text: &str) -> Option<&str> {
    let end = text.find(|letter: char| !(letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_'))?;
    let name = &text[..end];
    (text[end..].starts_with('}') && name.starts_with(|letter: char| letter.is_ascii_lowercase())).then_some(name)
}

fn push_uuid(chance: &mut Chance, out: &mut Vec<u8>) {
    let mut bytes = [0; 16];
    let (first, second) = bytes.split_at_mut(8);
    first.copy_from_slice(&chance.next().to_ne_bytes());
    second.copy_from_slice(&chance.next().to_ne_bytes());
    let mut text = uuid::Uuid::encode_buffer();
    let uuid = uuid::Builder::from_random_bytes(bytes).into_uuid();
    out.extend_from_slice(uuid.hyphenated().encode_lower(&mut text).as_bytes());
}

fn push_number(number: u64, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    _ = write!(out, "{number}");
}

fn push_json(text: &str, out: &mut Vec<u8>) {
    let start = out.len();
    // Writing to a vector cannot fail; the quotes are already in the template.
    if serde_json::to_writer(&mut *out, text).is_ok() {
        out.pop();
        out.remove(start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(captured: &[String]) -> Values<'_> {
        Values {
            authority: "host:1",
            token: "tok",
            client_id: "app",
            subject: "al ice",
            session_id: "sess",
            number: 7,
            repeat: 2,
            captured,
        }
    }

    fn rendered(text: &str, place: Place, captured: &str) -> String {
        let template = Template::parse(text, place, |name| (name == "offer").then_some(0)).unwrap();
        let mut out = Vec::new();
        let captured = [captured.to_owned()];
        template.render(&values(&captured), &mut Chance::of_walk(1, 1), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn variables_are_put_in() {
        assert_eq!(rendered("/a/{n}/{repeat}/{client_id}?s={session_id}", Place::Path, ""), "/a/7/2/app?s=sess");
        let uuid = rendered("{uuid}", Place::Field, "");
        assert!(uuid.parse::<uuid::Uuid>().is_ok_and(|uuid| uuid.get_version_num() == 4), "{uuid}");
    }

    #[test]
    fn braces_that_are_no_variables_stand_for_themselves() {
        for text in [r#"{"a":{"b":1},"c":{}}"#, "{", "}", "{ n }", "{N}", "{n", "{}", "{1}"] {
            assert_eq!(rendered(text, Place::Body, ""), text);
        }
        assert_eq!(rendered("{{n}/{n}", Place::Path, ""), "{n}/7");
    }

    #[test]
    fn values_are_written_as_their_place_demands() {
        assert_eq!(rendered("/o/{offer}", Place::Path, "a/b c"), "/o/a%2Fb%20c");
        assert_eq!(rendered(r#"{"o":"{offer}"}"#, Place::Body, "a\"b"), r#"{"o":"a\"b"}"#);
        assert_eq!(rendered("{offer}", Place::Field, "a/b"), "a/b");
    }

    #[test]
    fn a_name_that_nobody_captured_is_refused() {
        assert_eq!(Template::parse("{nope}", Place::Path, |_| None), Err("nope".into()));
        assert!(Template::parse("{token}", Place::Field, |_| None).unwrap().uses(&Part::Token));
    }

    proptest! {
        #[test]
        fn a_text_without_variables_is_itself(text in "[^{]*") {
            let template = Template::parse(&text, Place::Field, |_| None).unwrap();
            prop_assert_eq!(template.constant(), Some(text.as_str()));
        }

        #[test]
        fn any_captured_text_keeps_json_whole(value in ".*") {
            let body = rendered(r#"{"v":"{offer}"}"#, Place::Body, &value);
            let read: serde_json::Value = serde_json::from_str(&body).unwrap();
            prop_assert_eq!(read["v"].as_str(), Some(value.as_str()));
        }
    }
}
