//! From text to its raw form, past every mistake: what cannot be read is noted and taken out, and the rest is read on, so
//! that one run shows all mistakes.

use std::collections::HashSet;
use std::ops::Range;

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::Found;
use super::nearest::nearest;
use super::wording::Fault;

/// Most mistakes of shape that are looked for; after these the rest is not read.
const MOST: usize = 100;

/// A text and the tables in it.
pub(super) struct Document<'t> {
    root: Spanned<DeTable<'t>>,
}

/// What could be read.
pub(super) struct Reading<T> {
    /// The file without what was wrong; none if too much was.
    pub(super) file: Option<T>,
    /// What was wrong.
    pub(super) found: Vec<Found>,
    /// What was taken out.
    pub(super) touched: Touched,
}

/// Keys of which something was taken out, by the place of their table. Their absence is no further mistake.
#[derive(Debug, Default)]
pub(super) struct Touched(HashSet<(Range<usize>, String)>);

impl Touched {
    /// Whether `key` of the table at `table` is not as it was written.
    pub(super) fn contains(&self, table: Range<usize>, key: &str) -> bool {
        self.0.contains(&(table, key.to_owned()))
    }

    fn has_table(&self, span: &Range<usize>) -> bool {
        self.0.iter().any(|(table, _)| table == span)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

impl<'t> Document<'t> {
    /// Reads the syntax; all errors of it at once.
    pub(super) fn parse(text: &'t str) -> (Self, Vec<Found>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let found = errors.into_iter().map(|error| {
            let span = error.span().unwrap_or_default();
            let message = error.message().trim().replace('\n', "; ");
            match key_before(text, span.start).filter(|_| message.starts_with("key with no value")) {
                Some(key) => {
                    Found::new(span, format!("the key {key:?} has no value")).hint(format!("write {key} = .."))
                }
                None => Found::new(span, message),
            }
        });
        (Self { root }, found.collect())
    }

    /// The path of what stands at `span`: `routes[3].scopes[0]`.
    pub(super) fn path_of(&self, span: &Range<usize>) -> String {
        let mut path = String::new();
        for step in locate(self.root.get_ref(), span).unwrap_or_default() {
            // A key may hold anything, also what moves a cursor.
            let plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            match step {
                Step::Key(key) if !plain(&key) => {
                    let dot = if path.is_empty() { "" } else { "." };
                    path.push_str(&format!("{dot}{key:?}"));
                }
                Step::Key(key) if path.is_empty() => path.push_str(&key),
                Step::Key(key) => path.extend([".", &key]),
                Step::Index(index) => path.push_str(&format!("[{index}]")),
            }
        }
        path
    }

    /// Places of texts under keys that sound like secrets: written in clear by mistake, they must not be shown.
    pub(super) fn secrets(&self) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        secrets(self.root.get_ref(), false, &mut places);
        places
    }

    /// Reads the shape.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Reading<T> {
        let mut reading = Reading { file: None, found: Vec::new(), touched: Touched::default() };
        let mut root = self.root.clone();
        let mut renamed = HashSet::new();
        for _ in 0..MOST {
            let error = match T::deserialize(toml::Deserializer::from(root.clone())) {
                Ok(file) => {
                    reading.file = Some(file);
                    return reading;
                }
                Err(error) => error,
            };
            let span = error.span().unwrap_or_default();
            let Fault { message, hint, meant } = Fault::read(error.message());
            let Some(path) = locate(root.get_ref(), &span) else {
                reading.found.push(Found { span, message, hint });
                return reading;
            };
            // A key that was taken for another one is one mistake, whatever its value is; so is a table of which
            // something was taken out, whatever it lacks now.
            if !reading.touched.has_table(&span) && !renamed.contains(&span_of_key(root.get_ref(), &path)) {
                reading.found.push(Found { span: span.clone(), message, hint });
            }
            match meant.filter(|meant| rename(&mut root, &path, meant)) {
                Some(_) => drop(renamed.insert(span)),
                None => take_out(&mut root, &path, &mut reading.touched),
            }
        }
        reading
    }
}

/// The word that a line starts with.
fn key_before(text: &str, offset: usize) -> Option<&str> {
    let line = text.get(..offset)?.rsplit('\n').next()?.trim_start();
    let word = line.trim_end();
    let plain = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    plain.then_some(word)
}

/// The deepest thing at exactly `span`, else the deepest around it.
fn locate(root: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    if span.is_empty() {
        return None;
    }
    let exact = |place: Range<usize>| place == *span;
    let around = |place: Range<usize>| place.start <= span.start && span.end <= place.end;
    let mut path = Vec::new();
    (in_table(root, &exact, &mut path) || in_table(root, &around, &mut path)).then_some(path)
}

fn in_table(table: &DeTable<'_>, fits: &impl Fn(Range<usize>) -> bool, path: &mut Vec<Step>) -> bool {
    for (key, value) in table {
        path.push(Step::Key(key.get_ref().to_string()));
        if in_value(value, fits, path) || fits(key.span()) || fits(value.span()) {
            return true;
        }
        path.pop();
    }
    false
}

fn in_value(value: &Spanned<DeValue<'_>>, fits: &impl Fn(Range<usize>) -> bool, path: &mut Vec<Step>) -> bool {
    match value.get_ref() {
        DeValue::Table(table) => in_table(table, fits, path),
        DeValue::Array(array) => array.iter().enumerate().any(|(index, item)| {
            path.push(Step::Index(index));
            let here = in_value(item, fits, path) || fits(item.span());
            if !here {
                path.pop();
            }
            here
        }),
        _ => false,
    }
}

fn secrets(table: &DeTable<'_>, within: bool, places: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let name = key.get_ref().to_lowercase();
        let reference = within && matches!(&*name, "file" | "env");
        let known = ["secret", "token", "password", "pem", "jwks"];
        let sounds = within || nearest(&name, known).is_some() || known.iter().any(|known| name.contains(known));
        match value.get_ref() {
            DeValue::String(_) if sounds && !reference => places.push(value.span()),
            DeValue::Table(inner) => secrets(inner, sounds, places),
            DeValue::Array(array) => {
                for item in array.iter() {
                    match item.get_ref() {
                        DeValue::Table(inner) => secrets(inner, sounds, places),
                        DeValue::String(_) if sounds => places.push(item.span()),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
}

fn step_into<'v, 't>(value: &'v mut DeValue<'t>, step: &Step) -> Option<&'v mut Spanned<DeValue<'t>>> {
    match (value, step) {
        (DeValue::Table(table), Step::Key(key)) => table.get_mut(key.as_str()),
        (DeValue::Array(array), Step::Index(index)) => array.get_mut(*index),
        _ => None,
    }
}

fn span_of_key(root: &DeTable<'_>, path: &[Step]) -> Range<usize> {
    let mut table = root;
    let mut span = 0..0;
    let mut steps = path.iter().peekable();
    while let Some(Step::Key(key)) = steps.next() {
        let Some((name, value)) = table.get_key_value(key.as_str()) else { return span };
        span = name.span();
        let mut value = value.get_ref();
        while let (DeValue::Array(array), Some(Step::Index(index))) = (value, steps.peek()) {
            let Some(item) = array.get(*index) else { return span };
            value = item.get_ref();
            steps.next();
        }
        let DeValue::Table(inner) = value else { return span };
        table = inner;
    }
    span
}

/// Gives the entry at the end of `path` another key, if that one is free.
fn rename(root: &mut Spanned<DeTable<'_>>, path: &[Step], name: &str) -> bool {
    let Some((Step::Key(old), above)) = path.split_last() else { return false };
    let Some(table) = table_at(root, above) else { return false };
    if table.contains_key(name) {
        return false;
    }
    let Some((key, value)) = table.remove_entry(old.as_str()) else { return false };
    table.insert(Spanned::new(key.span(), name.to_owned().into()), value);
    true
}

fn table_at<'v, 't>(root: &'v mut Spanned<DeTable<'t>>, path: &[Step]) -> Option<&'v mut DeTable<'t>> {
    let Some((Step::Key(first), rest)) = path.split_first() else { return Some(root.get_mut()) };
    let mut value = root.get_mut().get_mut(first.as_str())?;
    for step in rest {
        value = step_into(value.get_mut(), step)?;
    }
    match value.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// Takes out what is at the end of `path`, and notes every key on the way.
fn take_out(root: &mut Spanned<DeTable<'_>>, path: &[Step], touched: &mut Touched) {
    let root_span = root.span();
    let Some((Step::Key(first), rest)) = path.split_first() else { return };
    touched.0.insert((root_span, first.clone()));
    if rest.is_empty() {
        root.get_mut().remove(first.as_str());
        return;
    }
    let Some(mut value) = root.get_mut().get_mut(first.as_str()) else { return };
    for (place, step) in rest.iter().enumerate() {
        let span = value.span();
        if let Step::Key(key) = step {
            touched.0.insert((span, key.clone()));
        }
        if place + 1 == rest.len() {
            match (value.get_mut(), step) {
                (DeValue::Table(table), Step::Key(key)) => drop(table.remove(key.as_str())),
                (DeValue::Array(array), Step::Index(index)) if *index < array.len() => {
                    // The array has no `remove`: it is built anew without the item.
                    let keep = |(place, item)| (place != *index).then_some(item);
                    *array =
                        std::mem::replace(array, DeArray::new()).into_iter().enumerate().filter_map(keep).collect();
                }
                _ => {}
            }
            return;
        }
        let Some(next) = step_into(value.get_mut(), step) else { return };
        value = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::File;

    fn mistakes(text: &str) -> Vec<String> {
        let (document, syntax) = Document::parse(text);
        assert!(syntax.is_empty(), "{syntax:?}");
        let reading: Reading<File> = document.read();
        let line = |found: &Found| {
            let hint = found.hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("{}: {}{hint}", document.path_of(&found.span), found.message)
        };
        let mut lines: Vec<String> = reading.found.iter().map(line).collect();
        lines.dedup();
        lines
    }

    #[test]
    fn all_mistakes_of_shape_are_found_in_one_run() {
        let text = r#"
            version = "1"
            [server]
            workers = -1
            frobnicate = true
            [server.drain]
            delay = "soon"
            [sesions]
            idel = "1m"
            create_status = 70000
            [[routes]]
            name = 3
            methods = "GET"
            [[routes]]
            authorization = "stripp"
            headers = { accept = { severity = "wran" } }
        "#;
        let mut found = mistakes(text);
        found.sort();
        assert_eq!(
            found,
            [
                "routes[0].methods: expected a list, found text",
                "routes[0].name: expected text, found a number",
                "routes[1].authorization: \"stripp\" is not one of \"keep\", \"strip\" or \"replace\"; did you mean \"strip\"?",
                "routes[1].headers.accept.severity: \"wran\" is not one of \"off\", \"observe\", \"warn\" or \"enforce\"; did you mean \"warn\"?",
                "server.drain.delay: \"soon\" is not a duration; write it with a unit, like \"30s\", \"5m\" or \"1h30m\"",
                "server.frobnicate: unknown key \"frobnicate\"; known here: workers, via, trusted_proxies, drain",
                "server.workers: -1 is out of range; expected a whole number from 0",
                "sesions.create_status: 70000 is out of range; expected a whole number up to 65535",
                "sesions.idel: unknown key \"idel\"; did you mean \"idle\"?",
                "sesions: unknown key \"sesions\"; did you mean \"sessions\"?",
                "version: expected a whole number, found text",
            ]
        );
    }

    #[test]
    fn wrong_kinds_of_tables_are_found_once() {
        assert_eq!(mistakes("[[server]]\nvia = \"a\""), ["server[0]: expected a table, found a list"]);
        assert_eq!(mistakes("[listeners]\naddress = \"a\""), ["listeners: expected a list, found a table"]);
        assert_eq!(mistakes("listeners = [1, 2]").len(), 2);
    }

    #[test]
    fn a_secret_in_the_file_is_not_repeated() {
        let text = "[admin]\ntoken = \"hunter2hunter2\"\n[[issuers]]\nkeys = [{ secret = \"hunter2\", pem = [\"hunter2\"] }]\nleeway = [\"hunter2\"]";
        let found = mistakes(text).join("\n");
        assert!(!found.contains("hunter2") && found.contains("secrets do not stand in this file"), "{found}");
        let (document, _) = Document::parse(text);
        let shown: Vec<&str> = document.secrets().into_iter().map(|span| &text[span]).collect();
        assert_eq!(shown, ["\"hunter2hunter2\"", "\"hunter2\"", "\"hunter2\""]);
    }
}
