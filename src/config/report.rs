//! Mistakes for people: an excerpt of the file with every place marked. Used by the binary.

use std::fmt;
use std::io::IsTerminal;

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};

use super::document::Document;
use super::error::ConfigErrors;

impl ConfigErrors {
    /// The mistakes as excerpts of the file, for standard error: with color only if that is a terminal and `NO_COLOR`
    /// is not set.
    #[must_use]
    pub fn report(&self) -> String {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        self.report_with(std::io::stderr().is_terminal() && !plain, 120)
    }

    /// As [`report`](Self::report), with or without color, in lines of at most `width` characters.
    #[must_use]
    pub fn report_with(&self, color: bool, width: usize) -> String {
        let mut report = self.excerpts(color, width);
        for file in self.files() {
            report.push_str(if report.ends_with('\n') { "\n" } else { "\n\n" });
            report.push_str(&file.report_with(color, width));
        }
        report
    }

    /// Those of this file.
    fn excerpts(&self, color: bool, width: usize) -> String {
        let mut report = String::new();
        if self.text.is_empty() {
            // Writing to a string cannot fail.
            _ = self.write_own(&mut report);
            return report;
        }
        let theme = if color { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
        let handler = GraphicalReportHandler::new_themed(theme).with_width(width).with_links(false);
        let excerpts = Excerpts { errors: self, source: NamedSource::new(self.origin(), self.shown()) };
        if let Err(fmt::Error) = handler.render_report(&mut report, &excerpts) {
            // What cannot be drawn can still be said.
            report.clear();
            _ = self.write_own(&mut report);
        }
        report
    }

    /// The text with stars in place of secrets that someone wrote into it.
    fn shown(&self) -> String {
        let mut shown = self.text.clone();
        for span in Document::parse(&self.text).0.secrets() {
            let Some(secret) = shown.get(span.clone()) else { continue };
            // As many bytes as before, so that every other place stays where it is; lines stay too.
            let star = |byte: u8| if byte == b'\n' { '\n' } else { '*' };
            let stars: String = secret.bytes().map(star).collect();
            shown.replace_range(span, &stars);
        }
        // Where the syntax is broken, the tree above may lack what the line still says.
        let hidden = |line: &str| match line.split_once('=') {
            Some((key, value)) if sounds_secret(key) && !value.trim_start().starts_with(['{', '[']) => {
                format!("{key}={}", "*".repeat(value.len()))
            }
            _ => line.to_owned(),
        };
        shown.split('\n').map(hidden).collect::<Vec<_>>().join("\n")
    }
}

fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    ["secret", "token", "password"].iter().any(|word| key.contains(word))
}

/// All mistakes as one diagnostic with a label each.
struct Excerpts<'e> {
    errors: &'e ConfigErrors,
    source: NamedSource<String>,
}

impl fmt::Display for Excerpts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.errors.origin(), self.errors.count())
    }
}

impl fmt::Debug for Excerpts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Excerpts<'_> {}

impl Diagnostic for Excerpts<'_> {
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&self.source)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let labels = self.errors.mistakes().iter().map(|mistake| {
            // A span over several lines would be drawn as a bracket around the whole table.
            let text = self.errors.text.get(mistake.span.clone()).unwrap_or_default();
            let len = text.lines().next().unwrap_or_default().len();
            LabeledSpan::new(Some(mistake.to_string()), mistake.span.start, len)
        });
        Some(Box::new(labels))
    }
}
