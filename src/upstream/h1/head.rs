//! The head of a response: read strictly, framed once, free of everything that concerns only this hop.

use std::mem::MaybeUninit;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::response::Parts;
use http::{Response, StatusCode, Version};

use super::decoder::Decoder;
use super::section::Section;
use crate::upstream::UpstreamError;

/// Most bytes of a head.
const HEAD_BYTES: usize = 64 * 1024;

/// Most fields of a head.
const FIELDS_MAX: usize = 256;

/// Fields the front adds to an answer: room for them is made at once, so that the map does not grow.
const ROOM: usize = 8;

/// Interim responses to one request.
const INTERIM_MAX: u8 = 16;

/// A connection is given up this much before the upstream says it will close it.
const KEEP_ALIVE_MARGIN: Duration = Duration::from_millis(500);

/// A final response head and what follows from it.
#[derive(Debug)]
pub(in crate::upstream) struct ResponseHead {
    pub(super) parts: Parts,
    /// For the body.
    pub(super) decoder: Decoder,
    /// Whether the connection may carry another call after the body.
    pub(super) reusable: bool,
    /// How long it may rest, if the upstream says so.
    pub(super) rest: Option<Duration>,
}

impl ResponseHead {
    /// Its status.
    pub(in crate::upstream) fn status(&self) -> u16 {
        self.parts.status.as_u16()
    }

    /// Whether the connection speaks another protocol from here on.
    pub(super) fn switches(&self) -> bool {
        self.parts.status == StatusCode::SWITCHING_PROTOCOLS
    }
}

/// What [`HeadReader::read`] found.
#[derive(Debug)]
pub(super) enum Read {
    /// Nothing yet.
    Partial,
    /// A response of class 1xx; another one follows.
    Interim(Parts),
    /// The response.
    Final(ResponseHead),
}

/// Reads response heads from bytes that arrive piece by piece.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    section: Section,
    interim: u8,
    /// Protocols that were asked for.
    upgrade: Option<HeaderValue>,
}

impl HeadReader {
    /// For the response to a request that asks to switch to one of these protocols.
    pub(super) fn new(upgrade: Option<HeaderValue>) -> Self {
        Self { upgrade, ..Self::default() }
    }

    /// Takes the next head from `input`, if all of it is there. `to_head` says whether the request was HEAD.
    ///
    /// # Errors
    /// `Malformed` or `TooLarge`.
    pub(super) fn read(&mut self, input: &mut BytesMut, to_head: bool) -> Result<Read, UpstreamError> {
        // Told at once, not after a time-out: what speaks another protocol sends no empty line.
        const START: &[u8] = b"HTTP/1.";
        let begun = input.len().min(START.len());
        if input.get(..begun) != START.get(..begun) {
            return Err(UpstreamError::Malformed("not HTTP/1"));
        }
        let Some(end) = self.section.end(input, HEAD_BYTES)? else { return Ok(Read::Partial) };
        self.section = Section::default();
        let (status, version, fields) = parse(&input.split_to(end).freeze())?;
        if status == StatusCode::SWITCHING_PROTOCOLS {
            return fields.into_switch(version, self.upgrade.as_ref()).map(Read::Final);
        }
        if status.is_informational() {
            self.interim += 1;
            if self.interim > INTERIM_MAX {
                return Err(UpstreamError::Malformed("too many interim responses"));
            }
            return Ok(Read::Interim(fields.into_interim(status, version)));
        }
        Ok(Read::Final(fields.into_head(status, version, to_head)?))
    }

    /// Whether an interim response was seen.
    pub(super) const fn is_begun(&self) -> bool {
        self.interim > 0
    }
}

/// The fields of a head, and what those of this hop said.
#[derive(Debug)]
struct Fields {
    map: HeaderMap,
    length: Option<u64>,
    /// The length as it was written.
    length_value: Option<HeaderValue>,
    chunked: bool,
    close: bool,
    rest: Option<Duration>,
    /// Fields that `connection` names.
    nominated: Vec<HeaderName>,
}

fn parse(bytes: &Bytes) -> Result<(StatusCode, Version, Fields), UpstreamError> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, &mut slots);
    match parsed {
        Ok(httparse::Status::Complete(end)) if end == bytes.len() => {}
        Err(httparse::Error::TooManyHeaders) => return Err(UpstreamError::TooLarge),
        Ok(_) | Err(_) => return Err(UpstreamError::Malformed("the head")),
    }
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(UpstreamError::Malformed("the status"))?;
    let version = if head.version == Some(1) { Version::HTTP_11 } else { Version::HTTP_10 };
    let mut fields = Fields {
        map: HeaderMap::with_capacity(head.headers.len() + ROOM),
        length: None,
        length_value: None,
        chunked: false,
        close: version == Version::HTTP_10,
        rest: None,
        nominated: Vec::new(),
    };
    for field in head.headers.iter() {
        fields.add(bytes, field.name, field.value)?;
    }
    Ok((status, version, fields))
}

fn parts(status: StatusCode, version: Version, fields: HeaderMap) -> Parts {
    let (mut parts, ()) = Response::new(()).into_parts();
    (parts.status, parts.version, parts.headers) = (status, version, fields);
    parts
}

impl Fields {
    fn add(&mut self, head: &Bytes, name: &str, value: &[u8]) -> Result<(), UpstreamError> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            14 if is("content-length") => {
                let length = digits(value).ok_or(UpstreamError::Malformed("a length"))?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(UpstreamError::Malformed("two lengths"));
                }
                self.length = Some(length);
                // A slice costs nothing; only what is written oddly is written anew.
                let plain = HeaderValue::from_maybe_shared(head.slice_ref(value)).ok();
                self.length_value = plain.filter(|_| !value.starts_with(b"0") || value.len() == 1);
                return Ok(());
            }
            17 if is("transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(UpstreamError::Malformed("a transfer coding"));
                }
                self.chunked = true;
                return Ok(());
            }
            10 if is("connection") => {
                self.connection(value);
                return Ok(());
            }
            10 if is("keep-alive") => {
                self.rest = timeout(value).map(|limit| limit.saturating_sub(KEEP_ALIVE_MARGIN)).or(self.rest);
                return Ok(());
            }
            16 if is("proxy-connection") => return Ok(()),
            _ => {}
        }
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| UpstreamError::Malformed("a field name"))?;
        let value = HeaderValue::from_maybe_shared(head.slice_ref(value))
            .map_err(|_| UpstreamError::Malformed("a field value"))?;
        self.map.append(name, value);
        Ok(())
    }

    /// The head of an interim response, without what `connection` names.
    fn into_interim(mut self, status: StatusCode, version: Version) -> Parts {
        for name in &self.nominated {
            self.map.remove(name);
        }
        parts(status, version, self.map)
    }

    /// The head of a `101`, if it is for what was asked (RFC 9110 sections 7.8 and 15.2.2).
    fn into_switch(mut self, version: Version, asked: Option<&HeaderValue>) -> Result<ResponseHead, UpstreamError> {
        const UNASKED: UpstreamError = UpstreamError::Malformed("a switch of protocols that nobody asked for");
        let asked = asked.ok_or(UNASKED)?;
        let was_asked = |one: &[u8]| protocols(asked).any(|known| known.eq_ignore_ascii_case(one));
        let chosen = self.map.get_all(header::UPGRADE);
        if chosen.iter().count() != 1 || !chosen.iter().flat_map(protocols).all(was_asked) {
            return Err(UNASKED);
        }
        let framed = self.chunked || self.length.is_some();
        if framed || version == Version::HTTP_10 || !self.nominated.contains(&header::UPGRADE) {
            return Err(UpstreamError::Malformed("a switch of protocols in doubt"));
        }
        for name in self.nominated.iter().filter(|name| **name != header::UPGRADE) {
            self.map.remove(name);
        }
        let parts = parts(StatusCode::SWITCHING_PROTOCOLS, version, self.map);
        Ok(ResponseHead { parts, decoder: Decoder::Done, reusable: false, rest: None })
    }

    fn connection(&mut self, value: &[u8]) {
        for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if !token.eq_ignore_ascii_case(b"keep-alive") {
                self.nominated.extend(HeaderName::from_bytes(token).ok());
            }
        }
    }

    /// How the body is delimited (RFC 9112 section 6.3), and what of it the answer may say.
    fn into_head(mut self, status: StatusCode, version: Version, to_head: bool) -> Result<ResponseHead, UpstreamError> {
        if self.chunked && version == Version::HTTP_10 {
            return Err(UpstreamError::Malformed("a transfer coding in HTTP/1.0"));
        }
        for name in &self.nominated {
            self.map.remove(name);
        }
        let bodiless = to_head || status == StatusCode::NOT_MODIFIED;
        let mut reusable = !self.close;
        let decoder = if status == StatusCode::NO_CONTENT {
            // It says there is something although there cannot be: whoever wrote this may send it, too.
            reusable &= !self.chunked && self.length.is_none_or(|length| length == 0);
            self.length = None;
            Decoder::Done
        } else if bodiless {
            Decoder::Done
        } else if self.chunked {
            Decoder::chunked()
        } else {
            match self.length {
                Some(length) => Decoder::length(length),
                None => {
                    reusable = false;
                    Decoder::UntilClose
                }
            }
        };
        if self.chunked {
            // With both, the length is not that of the body, and somebody may have been misled by it.
            reusable &= self.length.is_none();
        } else if let Some(length) = self.length {
            let value = self.length_value.unwrap_or_else(|| HeaderValue::from(length));
            self.map.insert(header::CONTENT_LENGTH, value);
        }
        reusable &= self.rest != Some(Duration::ZERO);
        Ok(ResponseHead { parts: parts(status, version, self.map), decoder, reusable, rest: self.rest })
    }
}

/// A length: plain digits, below 2^63. A list of equal numbers could be repaired; it is refused.
fn digits(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let length = value.iter().fold(0_u64, |length, digit| length * 10 + u64::from(digit - b'0'));
    (length <= i64::MAX as u64).then_some(length)
}

/// The protocols of an `upgrade` field.
fn protocols(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// `timeout=N` of a `keep-alive` field.
fn timeout(value: &[u8]) -> Option<Duration> {
    let mut parameters = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    parameters.find_map(|parameter| {
        let (name, seconds) = parameter.split_at_checked(8)?;
        name.eq_ignore_ascii_case(b"timeout=").then(|| digits(seconds)).flatten().map(Duration::from_secs)
    })
}
