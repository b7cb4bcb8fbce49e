//! Where the body of a response ends, and the pieces of it on the way there (RFC 9112 sections 6.3 and 7.1).

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};

use super::section::Section;
use crate::upstream::UpstreamError;
use crate::upstream::fields::is_forbidden_trailer;

/// Digits of a chunk size; 16 hold every number below 2^64.
const SIZE_DIGITS: u8 = 16;

/// Bytes of the extensions of one chunk.
const EXTENSION_BYTES: u16 = 1024;

/// Bytes and fields of the trailer section.
const TRAILER_BYTES: usize = 16 * 1024;
const TRAILER_FIELDS: usize = 64;

/// Follows a body to its end. It takes bytes from a buffer and gives slices of that buffer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// The body has ended.
    Done,
    /// So many bytes are left.
    Length(u64),
    /// Chunked transfer coding.
    Chunked(Chunked),
    /// The body ends when the connection does.
    UntilClose,
}

/// The state of the chunked transfer coding.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    part: Part,
    /// Bytes of extensions that may still come in this chunk.
    extensions: u16,
    trailers: Section,
}

/// What the next byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
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
    /// The trailer section.
    Trailers,
}

/// What [`Decoder::decode`] found.
#[derive(Debug)]
pub(super) enum Decoded {
    /// It needs more bytes.
    More,
    /// A piece of the body, or its trailers.
    Frame(Frame<Bytes>),
    /// The end.
    End,
}

const BROKEN: UpstreamError = UpstreamError::Malformed("the chunks of the body");

impl Decoder {
    /// For a body of so many bytes.
    pub(super) const fn length(length: u64) -> Self {
        if length == 0 { Self::Done } else { Self::Length(length) }
    }

    /// For a chunked body.
    pub(super) fn chunked() -> Self {
        Self::Chunked(Chunked { part: Part::Size(0, 0), extensions: EXTENSION_BYTES, trailers: Section::default() })
    }

    /// Whether the body has ended.
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes from `input` what belongs to the body, and nothing behind it. The end is noticed as soon as its bytes are
    /// there, not only when somebody asks for more.
    ///
    /// # Errors
    /// `Malformed` or `TooLarge`, again and again.
    pub(super) fn decode(&mut self, input: &mut BytesMut) -> Result<Decoded, UpstreamError> {
        match self {
            Self::Done => Ok(Decoded::End),
            _ if input.is_empty() => Ok(Decoded::More),
            Self::UntilClose => Ok(Decoded::Frame(Frame::data(input.split().freeze()))),
            Self::Length(left) => {
                let data = take(left, input);
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Decoded::Frame(Frame::data(data)))
            }
            Self::Chunked(chunked) => {
                let (decoded, done) = chunked.decode(input)?;
                if done {
                    *self = Self::Done;
                }
                Ok(decoded)
            }
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    /// `Closed`, unless that is also the end of the body.
    pub(super) const fn end(&mut self) -> Result<(), UpstreamError> {
        match self {
            Self::Done | Self::UntilClose => {
                *self = Self::Done;
                Ok(())
            }
            Self::Length(_) | Self::Chunked(_) => Err(UpstreamError::Closed),
        }
    }

    /// Bytes still to come, as far as they are known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match self {
            Self::Done => SizeHint::with_exact(0),
            Self::Length(left) => SizeHint::with_exact(*left),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }
}

impl Chunked {
    /// The next frame, and whether the body has ended behind it.
    fn decode(&mut self, input: &mut BytesMut) -> Result<(Decoded, bool), UpstreamError> {
        self.step_over(input)?;
        match &mut self.part {
            Part::Data(left) if !input.is_empty() => {
                let data = take(left, input);
                if *left == 0 {
                    self.part = Part::DataCr;
                }
                // A fault behind the data is told next time: the data was good.
                let done = self.step_over(input).is_ok() && self.ends_here(input);
                Ok((Decoded::Frame(Frame::data(data)), done))
            }
            Part::Trailers => match self.trailers.end(input, TRAILER_BYTES)? {
                None => Ok((Decoded::More, false)),
                Some(end) => {
                    let fields = trailers(&input.split_to(end).freeze())?;
                    let frame = if fields.is_empty() { Decoded::End } else { Decoded::Frame(Frame::trailers(fields)) };
                    Ok((frame, true))
                }
            },
            _ => Ok((Decoded::More, false)),
        }
    }

    /// Whether the body ends without trailers, right here.
    fn ends_here(&self, input: &mut BytesMut) -> bool {
        let ends = self.part == Part::Trailers && input.starts_with(b"\r\n");
        if ends {
            input.advance(2);
        }
        ends
    }

    /// Goes on to the next byte of data or of the trailer section.
    fn step_over(&mut self, input: &mut BytesMut) -> Result<(), UpstreamError> {
        let mut at = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() && !matches!(self.part, Part::Data(_) | Part::Trailers) {
            let Some(&byte) = input.get(at) else { break };
            outcome = self.step(byte);
            at += usize::from(outcome.is_ok());
        }
        input.advance(at);
        outcome
    }

    /// One byte of the coding.
    fn step(&mut self, byte: u8) -> Result<(), UpstreamError> {
        self.part = match (self.part, byte) {
            (Part::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < SIZE_DIGITS => {
                let digit = char::from(byte).to_digit(16).ok_or(BROKEN)?;
                Part::Size(size << 4 | u64::from(digit), digits + 1)
            }
            (Part::Size(size, 1..), b'\r') | (Part::Extension(size), b'\r') => Part::SizeLf(size),
            (Part::Size(size, 1..), b';') => {
                self.extensions = EXTENSION_BYTES;
                Part::Extension(size)
            }
            (Part::Extension(size), b'\t' | b' '..=b'~' | 0x80..) => {
                self.extensions = self.extensions.checked_sub(1).ok_or(BROKEN)?;
                Part::Extension(size)
            }
            (Part::SizeLf(0), b'\n') => Part::Trailers,
            (Part::SizeLf(size), b'\n') => Part::Data(size),
            (Part::DataCr, b'\r') => Part::DataLf,
            (Part::DataLf, b'\n') => Part::Size(0, 0),
            _ => return Err(BROKEN),
        };
        Ok(())
    }
}

/// Takes at most `left` bytes, without copying.
fn take(left: &mut u64, input: &mut BytesMut) -> Bytes {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= taken as u64;
    input.split_to(taken).freeze()
}

/// The fields of a trailer section, without those that may not be there.
fn trailers(section: &Bytes) -> Result<HeaderMap, UpstreamError> {
    let mut fields = HeaderMap::new();
    let mut slots = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
    let parsed = match httparse::parse_headers(section, &mut slots) {
        Ok(httparse::Status::Complete((end, parsed))) if end == section.len() => parsed,
        Err(httparse::Error::TooManyHeaders) => return Err(UpstreamError::TooLarge),
        Ok(_) | Err(_) => return Err(UpstreamError::Malformed("the trailers")),
    };
    for field in parsed {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(section.slice_ref(field.value));
        match (name, value) {
            (Ok(name), Ok(value)) if !is_forbidden_trailer(&name) => _ = fields.append(name, value),
            (Ok(_), Ok(_)) => {}
            (Err(_), _) | (_, Err(_)) => return Err(UpstreamError::Malformed("the trailers")),
        }
    }
    Ok(fields)
}
