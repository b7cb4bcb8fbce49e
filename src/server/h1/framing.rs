//! Where an HTTP/1 message begins and ends, read strictly (RFC 9112).
//!
//! hyper parses requests; this module decides beforehand *which bytes* are a request. [`HeadScanner`] finds the end of a
//! head and refuses whatever two parsers could read differently; [`BodyTracker`](super::body::BodyTracker) finds the end
//! of the body that follows. Together they always know where the next head starts, which hyper does not tell.
//!
//! Why twice: request smuggling lives on the gap between two readings of one message. What passes here passes hyper
//! only if hyper agrees; if either refuses, the connection dies. So the set of requests served is the intersection, and
//! an error here can refuse a good request but cannot let a bad one through. In particular hyper alone takes
//! `Transfer-Encoding: gzip, chunked` as chunked, drops a `Content-Length` beside it, joins equal `Content-Length`
//! lines, and accepts bare LF; none of these arrives there.
//!
//! Both are pure: bytes in, decision out, the same for any split of the bytes. They allocate nothing.

use crate::policy::rejection::Rejection;

/// Longest method that is passed on; the registered ones have at most 17 bytes.
const METHOD_BYTES: usize = 32;

/// How a request line ends.
const VERSION: &[u8] = b"HTTP/1.1\r\n";

/// Empty lines that may precede a request (RFC 9112 section 2.2 asks for at least one).
const EMPTY_LINES: u8 = 2;

/// Digits of a `Content-Length`; 19 hold every number below 2^63.
const LENGTH_DIGITS: usize = 19;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head with its final empty line.
    pub head_bytes: usize,
    /// Bytes of the request target.
    pub uri_bytes: usize,
    /// Header field lines.
    pub fields: usize,
}

/// How the body that follows a head is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    None,
    /// This many bytes, below 2^63.
    Length(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// What [`HeadScanner::scan`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// The head goes on; call again with the same bytes and more behind them.
    Partial,
    /// So many bytes are empty lines before the request: drop them and call again with the rest.
    Skip(usize),
    /// A whole head.
    Head {
        /// Its bytes, with the final empty line.
        length: usize,
        /// What follows it.
        framing: Framing,
    },
}

/// Finds the end of a request head in bytes that arrive piece by piece.
#[derive(Debug, Clone, Copy)]
pub struct HeadScanner {
    limits: HeadLimits,
    /// Bytes looked at so far.
    scanned: usize,
    /// Where the current line starts.
    line: usize,
    part: Part,
    empty_lines: u8,
    fields: usize,
    old_version: bool,
    length: Option<u64>,
    chunked: bool,
}

/// Part of the head that the next byte belongs to. Numbers are positions.
#[derive(Debug, Clone, Copy)]
enum Part {
    Start,
    Method,
    Target(usize),
    Version,
    Fields,
}

/// Classes of bytes, for one table look-up per byte.
const TOKEN: u8 = 1;
const TARGET: u8 = 2;

const CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        // tchar (RFC 9110 section 5.6.2).
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
            )
        {
            table[byte] |= TOKEN;
        }
        // A fragment is not part of a target (RFC 9112 section 3.2), and hyper would silently cut it off.
        if b > b' ' && b != 0x7f && b != b'#' {
            table[byte] |= TARGET;
        }
        byte += 1;
    }
    table
};

/// Whether `byte` may be in a token, such as a field name.
pub(super) const fn is_token(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// Whether `byte` must not be in a field value: a control other than HTAB (RFC 9110 section 5.5).
pub(super) const fn is_forbidden(byte: u8) -> bool {
    (byte < b' ' && byte != b'\t') || byte == 0x7f
}

/// Whether there is a byte that must not be in a field value. Sixteen at a time, which the compiler turns into a few
/// instructions; the last sixteen may overlap those before.
fn has_forbidden(bytes: &[u8]) -> bool {
    let any = |bytes: &[u8]| bytes.iter().fold(false, |found, byte| found | is_forbidden(*byte));
    match bytes.last_chunk::<16>() {
        Some(last) => bytes.as_chunks::<16>().0.iter().any(|chunk| any(chunk)) || any(last),
        None => any(bytes),
    }
}

impl HeadScanner {
    /// A scanner at the start of a head.
    #[must_use]
    pub const fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            scanned: 0,
            line: 0,
            part: Part::Start,
            empty_lines: 0,
            fields: 0,
            old_version: false,
            length: None,
            chunked: false,
        }
    }

    /// Looks at the head that starts at `bytes[0]`: all of it that has arrived, every time. Only what was not seen
    /// before is looked at again, apart from an unfinished line.
    ///
    /// # Errors
    ///
    /// [`Rejection::UriTooLong`], [`Rejection::HeadTooLarge`], [`Rejection::MethodNotImplemented`] for an overlong method, or [`Rejection::RequestMalformed`] for what is not valid
    /// or could be read in two ways; whichever byte comes first decides. After an error the scanner is of no more use.
    pub fn scan(&mut self, bytes: &[u8]) -> Result<Scan, Rejection> {
        if matches!(self.part, Part::Start) {
            match *bytes {
                [] | [b'\r'] => return Ok(Scan::Partial),
                [b'\r', b'\n', ..] if self.empty_lines < EMPTY_LINES => {
                    self.empty_lines += 1;
                    return Ok(Scan::Skip(2));
                }
                _ => self.part = Part::Method,
            }
        }
        if !matches!(self.part, Part::Fields) && !self.request_line(bytes)? {
            return Ok(Scan::Partial);
        }
        self.field_lines(bytes)
    }

    /// Reads on in the request line (RFC 9112 section 3); `true` when it is complete.
    fn request_line(&mut self, bytes: &[u8]) -> Result<bool, Rejection> {
        let seen = bytes.get(..self.limits.head_bytes).unwrap_or(bytes);
        // Each round reads one part, to the first byte that is not of it.
        while let Some(rest @ [byte, ..]) = seen.get(self.scanned..) {
            let run = |class| rest.iter().position(|byte| CLASS[usize::from(*byte)] & class == 0);
            match self.part {
                Part::Start | Part::Method => {
                    let end = run(TOKEN).map_or(seen.len(), |run| self.scanned + run);
                    if end > METHOD_BYTES {
                        return Err(Rejection::MethodNotImplemented);
                    }
                    self.scanned = end;
                    if self.ends_part(seen, 0)? {
                        self.part = Part::Target(self.scanned);
                    }
                }
                Part::Target(from) => {
                    let end = run(TARGET).map_or(seen.len(), |run| self.scanned + run);
                    if end - from > self.limits.uri_bytes {
                        return Err(Rejection::UriTooLong);
                    }
                    self.scanned = end;
                    if self.ends_part(seen, from)? {
                        self.part = Part::Version;
                        self.line = self.scanned;
                    }
                }
                Part::Version => {
                    // Usually it is there at once.
                    if rest.starts_with(VERSION) && self.scanned == self.line {
                        self.scanned += VERSION.len();
                        self.part = Part::Fields;
                        self.line = self.scanned;
                        return Ok(true);
                    }
                    let place = self.scanned - self.line;
                    self.scanned += 1;
                    match VERSION.get(place) {
                        Some(b'\n') if *byte == b'\n' => {
                            self.part = Part::Fields;
                            self.line = self.scanned;
                            return Ok(true);
                        }
                        Some(wanted) if byte == wanted => {}
                        _ if place == 7 && *byte == b'0' => self.old_version = true,
                        _ => return Err(Rejection::RequestMalformed),
                    }
                }
                Part::Fields => return Ok(true),
            }
        }
        if bytes.len() > seen.len() { Err(Rejection::HeadTooLarge) } else { Ok(false) }
    }

    /// Whether the part that began at `from` ends here, with the space that must follow it. Takes the space.
    fn ends_part(&mut self, seen: &[u8], from: usize) -> Result<bool, Rejection> {
        match seen.get(self.scanned) {
            None => Ok(false),
            Some(b' ') if self.scanned > from => {
                self.scanned += 1;
                Ok(true)
            }
            Some(_) => Err(Rejection::RequestMalformed),
        }
    }

    /// Reads on in the field lines (RFC 9112 section 5).
    fn field_lines(&mut self, bytes: &[u8]) -> Result<Scan, Rejection> {
        loop {
            let found = bytes.get(self.scanned..).and_then(|rest| memchr::memchr(b'\n', rest));
            let Some(found) = found else {
                self.scanned = bytes.len();
                // A line is judged when it is complete, so that the verdict does not depend on how the bytes arrived.
                return if bytes.len() > self.limits.head_bytes {
                    Err(Rejection::HeadTooLarge)
                } else {
                    Ok(Scan::Partial)
                };
            };
            let end = self.scanned + found;
            if end >= self.limits.head_bytes {
                return Err(Rejection::HeadTooLarge);
            }
            let line = bytes.get(self.line..end).and_then(|line| line.strip_suffix(b"\r"));
            let line = line.ok_or(Rejection::RequestMalformed)?;
            self.scanned = end + 1;
            self.line = end + 1;
            if line.is_empty() {
                return Ok(Scan::Head { length: end + 1, framing: self.framing()? });
            }
            self.fields += 1;
            if self.fields > self.limits.fields {
                return Err(Rejection::HeadTooLarge);
            }
            self.field(line)?;
        }
    }

    /// Judges one field line. Folding, a space before the colon and an empty name all fail as names.
    fn field(&mut self, line: &[u8]) -> Result<(), Rejection> {
        let name = line.iter().position(|&byte| !is_token(byte)).ok_or(Rejection::RequestMalformed)?;
        let (name, value) = line.split_at(name);
        let [b':', value @ ..] = value else { return Err(Rejection::RequestMalformed) };
        // No token byte is forbidden, and a longer piece is checked quicker.
        if name.is_empty() || has_forbidden(line) {
            return Err(Rejection::RequestMalformed);
        }
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(trim(value)),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(trim(value)),
            _ => Ok(()),
        }
    }

    /// One line of plain digits (RFC 9110 section 8.6). The list that a recipient may repair is refused.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Rejection> {
        let digits = !value.is_empty() && value.len() <= LENGTH_DIGITS && value.iter().all(u8::is_ascii_digit);
        if !digits || self.length.is_some() {
            return Err(Rejection::RequestMalformed);
        }
        let length = value.iter().fold(0_u64, |length, digit| length * 10 + u64::from(digit - b'0'));
        if length > i64::MAX as u64 {
            return Err(Rejection::RequestMalformed);
        }
        self.length = Some(length);
        Ok(())
    }

    /// One line with the one coding that everyone reads alike (RFC 9112 section 6.1).
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Rejection> {
        if self.chunked || self.old_version || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Rejection::RequestMalformed);
        }
        self.chunked = true;
        Ok(())
    }

    fn framing(&self) -> Result<Framing, Rejection> {
        match (self.length, self.chunked) {
            (None | Some(0), false) => Ok(Framing::None),
            (Some(length), false) => Ok(Framing::Length(length)),
            (None, true) => Ok(Framing::Chunked),
            (Some(_), true) => Err(Rejection::RequestMalformed),
        }
    }
}

/// Without the optional whitespace around a value (RFC 9110 section 5.6.3).
fn trim(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let from = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let to = value.iter().rposition(|byte| !blank(byte)).map_or(from, |last| last + 1);
    value.get(from..to).unwrap_or_default()
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
