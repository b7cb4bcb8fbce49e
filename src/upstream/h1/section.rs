//! Where a head or a trailer section ends.

use crate::upstream::UpstreamError;

/// Finds the empty line that ends a section of lines. Every line must end with CRLF: a bare LF is a line end to some
/// parsers only (RFC 9112 section 2.2), and httparse is one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Section {
    scanned: usize,
    line: usize,
}

impl Section {
    /// Length of the section that starts at `bytes[0]`, with its empty line; `None` as long as it has not ended. To be
    /// called with the same bytes and more behind them.
    ///
    /// # Errors
    /// `Malformed` for a bare LF, `TooLarge` for more than `limit` bytes; whichever comes first.
    pub(super) fn end(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, UpstreamError> {
        while let Some(found) = bytes.get(self.scanned..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let at = self.scanned + found;
            if at >= limit {
                return Err(UpstreamError::TooLarge);
            }
            if at == self.line || bytes.get(at - 1) != Some(&b'\r') {
                return Err(UpstreamError::Malformed("a line ends without CR"));
            }
            let empty = at == self.line + 1;
            self.scanned = at + 1;
            self.line = at + 1;
            if empty {
                return Ok(Some(at + 1));
            }
        }
        self.scanned = bytes.len();
        if bytes.len() > limit { Err(UpstreamError::TooLarge) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_ends_with_its_empty_line() {
        for (bytes, end) in [("a\r\nb\r\n\r\nc", Some(8)), ("\r\n", Some(2)), ("a\r\n", None), ("", None), ("\r", None)]
        {
            assert_eq!(Section::default().end(bytes.as_bytes(), 10).unwrap(), end, "{bytes:?}");
        }
    }

    #[test]
    fn a_bare_line_feed_and_too_many_bytes_are_errors() {
        for bytes in ["\n", "a\n", "a\r\n\n", "a\n\n"] {
            let error = Section::default().end(bytes.as_bytes(), 10).unwrap_err();
            assert!(matches!(error, UpstreamError::Malformed(_)), "{bytes:?}");
        }
        assert!(matches!(Section::default().end(b"0123456789\r\n\r\n", 10), Err(UpstreamError::TooLarge)));
        assert!(matches!(Section::default().end(b"0123456789a", 10), Err(UpstreamError::TooLarge)));
        assert_eq!(Section::default().end(b"012345\r\n\r\n", 10).unwrap(), Some(10));
    }
}
