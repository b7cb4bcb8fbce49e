//! Files of other formats, read as the configuration is: all mistakes at once, each with its line, column and hint.

use std::ops::Range;

use serde::de::DeserializeOwned;

use super::document::Document;
use super::error::{ConfigErrors, Found};
use super::nearest::did_you_mean;

/// What is wrong with the meaning of a file whose shape is right.
#[derive(Debug, Default)]
pub struct Mistakes(Vec<Found>);

impl Mistakes {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_found(self) -> Vec<Found> {
        self.0
    }

    /// Notes a mistake at a place of the text, as byte offsets.
    pub fn add(&mut self, place: Range<usize>, message: impl Into<String>) {
        self.0.push(Found::new(place, message));
    }

    /// Notes a mistake, and what to do about it.
    pub fn add_with_hint(&mut self, place: Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Found::new(place, message).hint(hint));
    }

    /// Notes a word that is not known here; the hint is the one that was probably meant, or all of them.
    pub fn add_unknown<'k>(
        &mut self,
        place: Range<usize>,
        message: impl Into<String>,
        word: &str,
        known: impl IntoIterator<Item = &'k str> + Clone,
    ) {
        let hint = did_you_mean(word, known.clone())
            .unwrap_or_else(|| format!("known here: {}", known.into_iter().collect::<Vec<_>>().join(", ")));
        self.add_with_hint(place, message, hint);
    }
}

/// Reads `text` into a raw form and then judges its meaning. `origin` is the name of the file in messages. What `judge`
/// gives counts only if it noted no mistake.
///
/// # Errors
/// Everything that is wrong with it: its syntax, else its shape, else its meaning.
pub fn read<T: DeserializeOwned, V>(
    text: &str,
    origin: &str,
    judge: impl FnOnce(&T, &mut Mistakes) -> V,
) -> Result<V, ConfigErrors> {
    let (document, mut found) = Document::parse(text);
    if found.is_empty() {
        let reading = document.read::<T>();
        found = reading.found;
        if let (Some(file), true) = (&reading.file, found.is_empty()) {
            let mut mistakes = Mistakes::default();
            let value = judge(file, &mut mistakes);
            found = mistakes.into_found();
            if found.is_empty() {
                return Ok(value);
            }
        }
    }
    Err(ConfigErrors::new(origin, text, found, |span| document.path_of(span)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::raw::At;

    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Small {
        number: At<u32>,
    }

    fn read_small(text: &str) -> Result<u32, String> {
        let judge = |file: &Small, mistakes: &mut Mistakes| {
            if *file.number == 0 {
                mistakes.add_with_hint(file.number.span(), "zero", "take one");
            }
            *file.number
        };
        read(text, "small.toml", judge).map_err(|errors| errors.to_string())
    }

    #[test]
    fn syntax_shape_and_meaning_are_judged_in_this_order() {
        assert_eq!(read_small("number = 7"), Ok(7));
        assert_eq!(
            read_small("number = 0"),
            Err("small.toml: 1 mistake\nsmall.toml:1:10: number: zero; take one".into())
        );
        assert!(read_small("nmber = 7").is_err_and(|text| text.contains("did you mean \"number\"?")));
        assert!(read_small("number = [").is_err_and(|text| text.contains("small.toml:1:")));
    }
}
