//! What compiling notes and shares: mistakes, names, files, ranges.

use std::fmt::Display;
use std::fs::File;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::document::Touched;
use crate::config::error::{ConfigErrors, Found};
use crate::config::raw::{At, Limit, Period};

use super::Wrong;

/// Longest name of a route, an upstream or an issuer.
const NAME_MAX: usize = 64;

/// What is noted while a file is compiled.
pub(super) struct Context<'a> {
    folder: &'a Path,
    touched: &'a Touched,
    found: Vec<Found>,
    files: Vec<ConfigErrors>,
}

impl<'a> Context<'a> {
    pub(super) const fn new(folder: &'a Path, touched: &'a Touched) -> Self {
        Self { folder, touched, found: Vec::new(), files: Vec::new() }
    }

    pub(super) fn into_wrong(self) -> Wrong {
        Wrong { found: self.found, files: self.files }
    }

    /// How many mistakes were noted so far.
    pub(super) fn count(&self) -> usize {
        self.found.len()
    }

    /// Notes a mistake.
    pub(super) fn mistake(&mut self, at: Range<usize>, message: impl Into<String>) {
        self.found.push(Found::new(at, message));
    }

    /// Notes a mistake and what to do about it.
    pub(super) fn mistake_hint(&mut self, at: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.found.push(Found::new(at, message).hint(hint));
    }

    /// Notes a mistake and what to do about it, if anything comes to mind.
    pub(super) fn mistake_guess(&mut self, at: Range<usize>, message: impl Into<String>, hint: Option<String>) {
        self.found.push(Found { hint, ..Found::new(at, message) });
    }

    /// Notes what is wrong with another file, beside the mistake where it is named.
    pub(super) fn mistakes_of(&mut self, files: Vec<ConfigErrors>) {
        self.files.extend(files);
    }

    /// Notes that `key` of `table` is not there or empty, unless it was taken out for a mistake of its own.
    pub(super) fn missing(&mut self, table: Range<usize>, key: &str, message: &str, hint: impl Into<String>) {
        if !self.is_touched(table.clone(), key) {
            self.mistake_hint(table, message, hint);
        }
    }

    /// Whether `key` of `table` was taken out for a mistake of its own.
    pub(super) fn is_touched(&self, table: Range<usize>, key: &str) -> bool {
        self.touched.contains(table, key)
    }

    /// The value of a key that must be there.
    pub(super) fn required<'v>(
        &mut self,
        value: Option<&'v At<String>>,
        table: Range<usize>,
        key: &str,
        example: &str,
    ) -> Option<&'v At<String>> {
        if value.is_none() {
            self.missing(table, key, &format!("{key:?} is missing"), format!("write {key} = {example:?}"));
        }
        value
    }

    /// A name that is a label in metrics and unique among its kind.
    pub(super) fn name<'v>(
        &mut self,
        what: &str,
        name: Option<&'v At<String>>,
        table: Range<usize>,
        example: &str,
        others: &[&str],
    ) -> Option<&'v str> {
        let name = self.required(name, table, "name", example)?;
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if name.is_empty() || name.len() > NAME_MAX || !plain {
            let hint = format!("use 1 to {NAME_MAX} letters, digits, \".\", \"_\" and \"-\"");
            self.mistake_hint(name.span(), format!("{:?} cannot be a name", &**name), hint);
        } else if others.contains(&name.as_str()) {
            self.mistake(name.span(), format!("another {what} is named {:?}", &**name));
        }
        Some(name)
    }

    /// A value within a range; outside of it its lower end.
    pub(super) fn within<T: Copy + PartialOrd + Display>(&mut self, value: &At<T>, range: RangeInclusive<T>) -> T {
        let lowest = *range.start();
        self.check(value.span(), **value, range).unwrap_or(lowest)
    }

    /// A time that something may take at most: 1 ms to 24 h.
    pub(super) fn timeout(&mut self, period: &At<Period>) -> Duration {
        self.within(period, Period(Duration::from_millis(1))..=Period::secs(24 * 3600)).0
    }

    /// A limit in time, or none: 1 ms to 24 h.
    pub(super) fn limit(&mut self, limit: &At<Limit>) -> Option<Duration> {
        let period = (**limit).0?;
        let range = Period(Duration::from_millis(1))..=Period::secs(24 * 3600);
        self.check(limit.span(), period, range).map(|period| period.0)
    }

    /// Notes it if a value is out of range.
    fn check<T: Copy + PartialOrd + Display>(
        &mut self,
        at: Range<usize>,
        value: T,
        range: RangeInclusive<T>,
    ) -> Option<T> {
        if range.contains(&value) {
            return Some(value);
        }
        let allowed = format!("allowed: {} to {}", range.start(), range.end());
        self.mistake_hint(at, format!("{value} is out of range"), allowed);
        None
    }

    /// A path, from the folder of the configuration.
    pub(super) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// A path of a file that can be read.
    pub(super) fn readable(&mut self, text: &At<String>) -> PathBuf {
        let path = self.path(text);
        // Asked first: opening a pipe would wait for its other end.
        let is_file = std::fs::metadata(&path).map(|metadata| metadata.is_file());
        match is_file.and_then(|is_file| if is_file { File::open(&path).map(|_| true) } else { Ok(false) }) {
            Ok(true) => {}
            Ok(false) => self.mistake(text.span(), format!("{} is not a file", path.display())),
            Err(error) => self.mistake(text.span(), format!("cannot read {}: {}", path.display(), plain(&error))),
        }
        path
    }
}

/// An error of the system without its number.
pub(in crate::config) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        std::io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
