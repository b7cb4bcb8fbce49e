//! As much of WebSocket (RFC 6455) as it takes to begin one for a client of HTTP/2, and to end one properly.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::{self, HeaderMap};

/// The question of a handshake (section 4.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) HeaderValue);

impl Key {
    pub(super) fn fresh() -> Self {
        let key = STANDARD.encode(crate::random::bytes::<16>());
        Self(HeaderValue::try_from(key).unwrap_or(HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA==")))
    }

    /// The client's, if there is one that can be answered.
    pub(super) fn of(fields: &HeaderMap) -> Option<Self> {
        let mut keys = fields.get_all(header::SEC_WEBSOCKET_KEY).iter();
        let key = keys.next().filter(|_| keys.next().is_none())?;
        let bytes = STANDARD.decode(key.as_bytes()).ok()?;
        (bytes.len() == 16).then(|| Self(key.clone()))
    }

    /// What answers it (section 4.2.2).
    pub(super) fn answer(&self) -> String {
        let mut question = self.0.as_bytes().to_vec();
        question.extend_from_slice(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &question))
    }

    /// Whether this answers it: anything else was said by someone who does not know what he agrees to.
    pub(super) fn is_answered(&self, fields: &HeaderMap) -> bool {
        let expected = self.answer();
        let mut answers = fields.get_all(header::SEC_WEBSOCKET_ACCEPT).iter();
        answers.next().is_some_and(|answer| answer.as_bytes() == expected.as_bytes()) && answers.next().is_none()
    }
}

/// Whether this is the name of the protocol.
pub(super) fn is_websocket(protocol: &HeaderValue) -> bool {
    protocol.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket")
}

/// Follows the frames of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Frames {
    part: Part,
    closed: bool,
}

/// What the next byte is (RFC 6455 section 5.2).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    /// The first of a frame.
    #[default]
    Start,
    /// The short length, and whether there is a mask.
    Length,
    /// One of so many bytes of the long length, with the length so far and the bytes of the mask.
    Extended(u8, u64, u64),
    /// One of so many bytes of the mask and the content.
    Content(u64),
}

const CLOSE: u8 = 8;

impl Frames {
    /// Takes the next bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) {
        while let [first, rest @ ..] = bytes {
            bytes = rest;
            self.part = match self.part {
                Part::Start => {
                    self.closed |= first & 0x0f == CLOSE;
                    Part::Length
                }
                Part::Length => {
                    let mask = if first & 0x80 == 0 { 0 } else { 4 };
                    match first & 0x7f {
                        126 => Part::Extended(2, 0, mask),
                        127 => Part::Extended(8, 0, mask),
                        length => content(mask + u64::from(length)),
                    }
                }
                Part::Extended(left, length, mask) => {
                    let length = length << 8 | u64::from(*first);
                    match left {
                        1 => content(length.saturating_add(mask)),
                        _ => Part::Extended(left - 1, length, mask),
                    }
                }
                Part::Content(left) => {
                    let more = usize::try_from(left - 1).unwrap_or(usize::MAX).min(bytes.len());
                    bytes = &bytes[more..];
                    content(left - 1 - more as u64)
                }
            };
        }
    }

    /// Whether the last frame was whole, so that another can follow.
    pub(super) const fn is_between(&self) -> bool {
        matches!(self.part, Part::Start)
    }

    /// Whether the last frame can have been (section 5.5.1).
    pub(super) const fn has_closed(&self) -> bool {
        self.closed
    }
}

const fn content(left: u64) -> Part {
    if left == 0 { Part::Start } else { Part::Content(left) }
}

/// A close frame with the status 1008 (section 7.4.1); masked toward a server (section 5.3).
pub(super) fn policy_violation(mask: Option<[u8; 4]>) -> Vec<u8> {
    const REASON: &[u8] = b"\x03\xf0the session has ended";
    let mut frame = vec![0x80 | CLOSE, REASON.len() as u8];
    match mask {
        None => frame.extend_from_slice(REASON),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend_from_slice(&mask);
            frame.extend(REASON.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x80 | opcode];
        match length {
            0..126 => frame.push(mask | length as u8),
            126..0x1_0000 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        frame.resize(frame.len() + length + usize::from(mask / 32), 0x88);
        frame
    }

    #[test]
    fn only_the_answer_to_our_question_is_one() {
        // The example of section 1.3.
        let key = Key(HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
        let mut fields = HeaderMap::new();
        assert!(!key.is_answered(&fields) && Key::of(&fields).is_none());
        fields.insert(header::SEC_WEBSOCKET_KEY, key.0.clone());
        assert_eq!(Key::of(&fields), Some(key.clone()));
        fields.append(header::SEC_WEBSOCKET_KEY, key.0.clone());
        assert_eq!(Key::of(&fields), None, "two keys are none");
        fields.insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(key.is_answered(&fields) && !Key::fresh().is_answered(&fields));
        fields.append(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!key.is_answered(&fields));
    }

    #[test]
    fn the_end_of_each_frame_is_found_however_it_is_cut() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            for masked in [false, true] {
                let bytes = [frame(2, length, masked), frame(1, 3, masked)].concat();
                let first = frame(2, length, masked).len();
                for piece in [1, 2, 3, 7, 1000, bytes.len()] {
                    let mut frames = Frames::default();
                    let mut at = 0;
                    for part in bytes.chunks(piece) {
                        frames.pass(part);
                        at += part.len();
                        assert_eq!(
                            frames.is_between(),
                            at == first || at == bytes.len(),
                            "{length} {masked} {piece} {at}"
                        );
                    }
                    assert!(!frames.has_closed());
                }
            }
        }
    }

    #[test]
    fn a_close_is_seen_and_ours_is_one() {
        for frame in [policy_violation(None), policy_violation(Some([1, 2, 3, 4]))] {
            let mut frames = Frames::default();
            frames.pass(&frame);
            assert!(frames.is_between() && frames.has_closed(), "{frames:?}");
            assert!(frame.len() <= 2 + 4 + 125);
        }
        assert_eq!(policy_violation(None)[2..4], 1008_u16.to_be_bytes());
    }

    #[test]
    fn no_length_is_too_much() {
        let mut frames = Frames::default();
        frames.pass(&[0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(!frames.is_between());
        frames.pass(&[0; 100]);
        assert!(!frames.is_between());
    }
}
