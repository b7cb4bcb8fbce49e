//! Where the body of an HTTP/1 request ends (RFC 9112 sections 6.2 and 7.1).

use super::framing::{Framing, is_forbidden, is_token};

/// Digits of a chunk size; 16 hold every number below 2^64.
const SIZE_DIGITS: u8 = 16;

/// Bytes of chunk extensions in one body. Nobody uses them, attacks do.
const EXTENSION_BYTES: u16 = 1024;

/// Bytes of the trailer section, the limit of hyper.
const TRAILER_BYTES: u16 = 16 * 1024;

/// The body does not follow its framing; where the next request starts is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the request body does not follow its framing")]
pub struct Malformed;

/// Follows a body to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyTracker {
    part: Part,
    /// Bytes of extensions and of trailers that may still come.
    extensions: u16,
    trailers: u16,
}

/// What the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing: the body has ended.
    End,
    /// One of so many bytes delimited by `Content-Length`.
    Length(u64),
    /// A digit of a chunk size, with the size and the number of digits so far.
    Size(u64, u8),
    /// In a chunk extension.
    Extension(u64),
    /// LF after a chunk size.
    SizeLf(u64),
    /// Data of a chunk.
    Data(u64),
    /// CR and LF after the data.
    DataCr,
    DataLf,
    /// Start of a line of the trailer section.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    /// LF of the empty line that ends the body.
    LastLf,
}

impl BodyTracker {
    /// A tracker at the start of a body.
    #[must_use]
    pub const fn new(framing: Framing) -> Self {
        let part = match framing {
            Framing::None | Framing::Length(0) => Part::End,
            Framing::Length(length) => Part::Length(length),
            Framing::Chunked => Part::Size(0, 0),
        };
        Self { part, extensions: EXTENSION_BYTES, trailers: TRAILER_BYTES }
    }

    /// Whether the body has ended.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        matches!(self.part, Part::End)
    }

    /// Takes the next bytes of the connection and says how many of them belong to the body; fewer than all only if the
    /// body ends among them.
    ///
    /// # Errors
    ///
    /// [`Malformed`]; the tracker is of no more use then. The bytes before the fault are lost with it, as the whole
    /// request is.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() {
            let rest = bytes.len() - at;
            match self.part {
                Part::End => break,
                Part::Length(left) => {
                    let (taken, left) = take(left, rest);
                    at += taken;
                    self.part = if left == 0 { Part::End } else { Part::Length(left) };
                }
                Part::Data(left) => {
                    let (taken, left) = take(left, rest);
                    at += taken;
                    self.part = if left == 0 { Part::DataCr } else { Part::Data(left) };
                }
                _ => {
                    self.step(bytes[at])?;
                    at += 1;
                }
            }
        }
        Ok(at)
    }

    /// One byte of the chunked coding outside of data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.part = match (self.part, byte) {
            (Part::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS => {
                let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                Part::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Part::Size(size, 1..), b'\r') | (Part::Extension(size), b'\r') => Part::SizeLf(size),
            // No space before the semicolon, although the grammar has room for it: parsers differ there.
            (Part::Size(size, 1..), b';') => Part::Extension(size),
            (Part::Extension(size), b'\t' | b' '..=b'~') => {
                self.extensions = self.extensions.checked_sub(1).ok_or(Malformed)?;
                Part::Extension(size)
            }
            (Part::SizeLf(0), b'\n') => Part::Trailer,
            (Part::SizeLf(size), b'\n') => Part::Data(size),
            (Part::DataCr, b'\r') => Part::DataLf,
            (Part::DataLf, b'\n') => Part::Size(0, 0),
            (Part::Trailer, b'\r') => Part::LastLf,
            (Part::LastLf, b'\n') => Part::End,
            (Part::Trailer | Part::TrailerName, _) if is_token(byte) => self.trailer(Part::TrailerName)?,
            (Part::TrailerName, b':') => self.trailer(Part::TrailerValue)?,
            (Part::TrailerValue, b'\r') => self.trailer(Part::TrailerLf)?,
            (Part::TrailerValue, _) if !is_forbidden(byte) => self.trailer(Part::TrailerValue)?,
            (Part::TrailerLf, b'\n') => self.trailer(Part::Trailer)?,
            _ => return Err(Malformed),
        };
        Ok(())
    }

    fn trailer(&mut self, next: Part) -> Result<Part, Malformed> {
        self.trailers = self.trailers.checked_sub(1).ok_or(Malformed)?;
        Ok(next)
    }
}

/// How many of `available` bytes fit in `left`, and what is left then.
fn take(left: u64, available: usize) -> (usize, u64) {
    let taken = usize::try_from(left).unwrap_or(usize::MAX).min(available);
    (taken, left - taken as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bytes taken and whether the body ended, from one piece.
    fn whole(framing: Framing, bytes: &[u8]) -> Result<(usize, bool), Malformed> {
        let mut tracker = BodyTracker::new(framing);
        let taken = tracker.advance(bytes)?;
        Ok((taken, tracker.is_done()))
    }

    fn chunked(bytes: &str) -> Result<(usize, bool), Malformed> {
        whole(Framing::Chunked, bytes.as_bytes())
    }

    #[test]
    fn a_counted_body_ends_with_its_count() {
        assert_eq!(whole(Framing::Length(3), b"abcGET"), Ok((3, true)));
        assert_eq!(whole(Framing::Length(3), b"ab"), Ok((2, false)));
        assert_eq!(whole(Framing::None, b"GET"), Ok((0, true)));
    }

    #[test]
    fn a_chunked_body_ends_after_its_trailers() {
        assert_eq!(chunked("3\r\nabc\r\n0\r\n\r\nGET"), Ok((13, true)));
        assert_eq!(chunked("00a;x=\"y z\"\r\n0123456789\r\nF\r\n"), Ok((28, false)));
        assert_eq!(chunked("0\r\nx-sum: 1\r\ny:\r\n\r\nGET"), Ok((19, true)));
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_malformed() {
        for bytes in [
            "\r\n",
            ";x\r\n",
            " 1\r\n",
            "1 \r\n",
            "1 ;x\r\n",
            "0x1\r\n",
            "+1\r\n",
            "-1\r\n",
            "g\r\n",
            "1\n",
            "1\r\r\n",
            "1\rx",
            "1;a\nb\r\n",
            "1;\0\r\n",
            "1;\u{7f}\r\n",
            "00000000000000001\r\n",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rx",
            "0\r\n\n",
            "0\r\n x: 1\r\n",
            "0\r\n: 1\r\n",
            "0\r\nx : 1\r\n",
            "0\r\nx\r\n",
            "0\r\nx: a\nb",
            "0\r\nx: \0",
            "0\r\n\rx",
            "1_0\r\n",
            "1\r\naGET",
        ] {
            assert_eq!(chunked(bytes), Err(Malformed), "{bytes:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        assert!(chunked(&format!("1;{}\r\n", "x".repeat(1024))).is_ok());
        assert_eq!(chunked(&format!("1;{}\r\n", "x".repeat(1025))), Err(Malformed));
        let many = "1;0123456789abcdef\r\na\r\n".repeat(70);
        assert_eq!(chunked(&many), Err(Malformed), "the bound is for the whole body");
        assert_eq!(chunked(&format!("0\r\nx: {}\r\n", "y".repeat(17_000))), Err(Malformed));
    }

    /// Bytes that are often almost a chunked body.
    fn almost_chunked() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            8 => (1..20_usize).prop_map(|size| format!("{size:x}\r\n{}\r\n", "d".repeat(size)).into_bytes()),
            2 => (1..20_usize).prop_map(|size| format!("{size:X};e=1\r\n{}\r\n", "d".repeat(size)).into_bytes()),
            2 => Just(b"0\r\n\r\n".to_vec()),
            1 => Just(b"0\r\nt: v\r\n\r\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..4),
        ];
        proptest::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_split_makes_no_difference(bytes in almost_chunked(), cuts in proptest::collection::vec(1..9_usize, 1..60), length in 0..60_u64) {
            for framing in [Framing::Chunked, Framing::Length(length)] {
                let mut tracker = BodyTracker::new(framing);
                let mut taken = Ok(0);
                let mut from = 0;
                for cut in cuts.iter().copied().chain([usize::MAX]) {
                    let to = from + cut.min(bytes.len() - from);
                    let Ok(so_far) = taken else { break };
                    taken = tracker.advance(&bytes[from..to]).map(|n| so_far + n);
                    from = to;
                }
                prop_assert_eq!(taken.map(|n| (n, tracker.is_done())), whole(framing, &bytes));
            }
        }
    }
}
