//! Media types as the header rules compare them (RFC 9110 sections 8.3.1 and 12.5.1).

use std::fmt;

/// A media type with at most one `*`: `application/json`, `application/*+json`, `application/grpc*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPattern {
    head: Box<str>,
    tail: Option<Box<str>>,
}

impl MediaPattern {
    /// Reads a pattern; letters compare without case.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && !b",;\"\\()<>@[]?={}:".contains(&byte));
        let slashes = text.bytes().filter(|byte| *byte == b'/').count();
        let (head, tail) = match text.split_once('*') {
            Some((head, tail)) if !tail.contains('*') => (head.into(), Some(tail.into())),
            Some(_) => return None,
            None => (text.as_str().into(), None),
        };
        (plain && slashes == 1 && !text.starts_with('/') && !text.ends_with('/')).then_some(Self { head, tail })
    }

    /// Whether `essence`, a type without parameters, is of this pattern.
    #[must_use]
    pub fn admits(&self, essence: &[u8]) -> bool {
        let head = self.head.as_bytes();
        let Some(tail) = &self.tail else { return essence.eq_ignore_ascii_case(head) };
        let tail = tail.as_bytes();
        essence.len() >= head.len() + tail.len()
            && essence[..head.len()].eq_ignore_ascii_case(head)
            && essence[essence.len() - tail.len()..].eq_ignore_ascii_case(tail)
    }
}

impl fmt::Display for MediaPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tail {
            Some(tail) => write!(f, "{}*{tail}", self.head),
            None => f.write_str(&self.head),
        }
    }
}

/// The type without its parameters.
#[must_use]
pub fn essence(value: &[u8]) -> &[u8] {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether an `accept` value admits one of `offered`. A weight of zero excludes (RFC 9110 section 12.4.2).
#[must_use]
pub fn accepts(value: &[u8], offered: &[MediaPattern]) -> bool {
    value.split(|byte| *byte == b',').any(|range| {
        let mut parts = range.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let wanted = parts.next().unwrap_or_default();
        let excluded = parts.any(is_weight_zero);
        !excluded && offered.iter().any(|offer| overlaps(wanted, offer))
    })
}

fn is_weight_zero(parameter: &[u8]) -> bool {
    match parameter {
        [b'q' | b'Q', b'=', digits @ ..] => matches!(digits, b"0" | b"0." | b"0.0" | b"0.00" | b"0.000"),
        _ => false,
    }
}

fn overlaps(wanted: &[u8], offer: &MediaPattern) -> bool {
    match wanted {
        b"*/*" => true,
        [family @ .., b'/', b'*'] => offer
            .head
            .as_bytes()
            .get(..=family.len())
            .is_some_and(|head| head[..family.len()].eq_ignore_ascii_case(family) && head[family.len()] == b'/'),
        _ => offer.admits(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json() -> Vec<MediaPattern> {
        ["application/json", "application/*+json"].iter().map(|text| MediaPattern::parse(text).unwrap()).collect()
    }

    #[test]
    fn the_json_family_is_admitted() {
        for (value, admitted) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/merge-patch+json", true),
            ("application/jsonx", false),
            ("text/json", false),
            ("", false),
        ] {
            assert_eq!(json().iter().any(|pattern| pattern.admits(essence(value.as_bytes()))), admitted, "{value}");
        }
    }

    #[test]
    fn accept_is_a_list_with_weights() {
        for (value, admitted) in [
            ("*/*", true),
            ("application/*", true),
            ("text/html, application/json;q=0.5", true),
            ("application/problem+json", true),
            ("text/html", false),
            ("application/json;q=0", false),
            ("application/json; q=0.000, text/*", false),
            ("*/*;q=0", false),
            ("app/*", false),
        ] {
            assert_eq!(accepts(value.as_bytes(), &json()), admitted, "{value}");
        }
    }

    #[test]
    fn patterns_have_one_star_and_one_slash() {
        for wrong in ["json", "a/*+*", "/json", "a/", "a/b/c", "a b/c"] {
            assert!(MediaPattern::parse(wrong).is_none(), "{wrong}");
        }
        assert!(MediaPattern::parse("application/grpc*").unwrap().admits(b"application/grpc+proto"));
    }
}
