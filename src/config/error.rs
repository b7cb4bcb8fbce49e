//! Everything that is wrong with a configuration, each with its place.

use std::fmt;
use std::ops::Range;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// Where it is, as the file nests: `routes[3].scopes[0]`; empty for the file as a whole.
    pub path: String,
    /// Byte offsets in the text; `0..0` for the file as a whole.
    pub span: Range<usize>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// All mistakes of one configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    pub(super) origin: String,
    pub(super) text: String,
    mistakes: Vec<Mistake>,
    files: Vec<Self>,
}

/// A mistake before its line and path are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) span: Range<usize>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

impl Found {
    pub(super) fn new(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span, message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl ConfigErrors {
    /// Gives each mistake its line, and its path by `path_of`.
    pub(super) fn new(
        origin: &str,
        text: &str,
        mut found: Vec<Found>,
        path_of: impl Fn(&Range<usize>) -> String,
    ) -> Self {
        found.sort_by_key(|found| (found.span.start, found.span.end));
        found.dedup();
        let mistakes = found.into_iter().map(|Found { span, message, hint }| {
            let (line, column) = place(text, span.start);
            Mistake { path: path_of(&span), span, line, column, message, hint }
        });
        Self { origin: origin.to_owned(), mistakes: mistakes.collect(), text: text.to_owned(), files: Vec::new() }
    }

    /// With what is wrong in files that it names.
    pub(super) fn with_files(self, files: Vec<Self>) -> Self {
        Self { files, ..self }
    }

    /// The mistakes, in the order of the file; at least one.
    #[must_use]
    pub fn mistakes(&self) -> &[Mistake] {
        &self.mistakes
    }

    /// What is wrong in other files that this one names.
    #[must_use]
    pub fn files(&self) -> &[Self] {
        &self.files
    }

    /// The file they are in, or what stands for it.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// `2 mistakes`.
    pub(super) fn count(&self) -> String {
        mistakes(self.mistakes.len())
    }
}

/// `2 mistakes`.
pub(super) fn mistakes(count: usize) -> String {
    match count {
        1 => "1 mistake".to_owned(),
        count => format!("{count} mistakes"),
    }
}

/// Line and column of a byte offset.
pub(super) fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// What is wrong, then what to do: `unknown key "idel"; did you mean "idle"?`
impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// One line per mistake, as compilers print them, so that editors can jump to the place.
impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_own(f)?;
        self.files.iter().try_for_each(|file| write!(f, "\n{file}"))
    }
}

impl ConfigErrors {
    /// The lines about this file.
    pub(super) fn write_own(&self, f: &mut impl fmt::Write) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.count())?;
        for mistake in &self.mistakes {
            write!(f, "\n{}:", self.origin)?;
            // Without a text (`serve` without a file, a file that cannot be read) there are no lines.
            if !self.text.is_empty() {
                write!(f, "{}:{}:", mistake.line, mistake.column)?;
            }
            if !mistake.path.is_empty() {
                write!(f, " {}:", mistake.path)?;
            }
            write!(f, " {mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_in_characters() {
        let text = "a = 1\nö = 2\n";
        assert_eq!(place(text, 0), (1, 1));
        assert_eq!(place(text, 6), (2, 1));
        assert_eq!(place(text, 9), (2, 3));
        assert_eq!(place(text, 999), (1, 1));
    }

    #[test]
    fn mistakes_come_in_the_order_of_the_file() {
        let found = vec![Found::new(6..7, "second"), Found::new(0..1, "first").hint("do"), Found::new(6..7, "second")];
        let errors = ConfigErrors::new("f.toml", "a = 1\nb = 2\n", found, |_| String::new());
        assert_eq!(errors.to_string(), "f.toml: 2 mistakes\nf.toml:1:1: first; do\nf.toml:2:1: second");
    }
}
