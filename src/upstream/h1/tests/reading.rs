//! What is read, without sockets: any split of the bytes gives the same, and nothing that comes makes us panic.

use bytes::BytesMut;
use proptest::prelude::*;

use crate::upstream::UpstreamError;
use crate::upstream::h1::decoder::{Decoded, Decoder};
use crate::upstream::h1::head::{HeadReader, Read};

/// Everything there is to know about one response: head, body, trailers, and how many bytes were left behind it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    heads: Vec<String>,
    body: Vec<u8>,
    trailers: Option<String>,
    outcome: String,
}

/// Reads a response that arrives in these pieces and then ends.
fn read(pieces: &[&[u8]], to_head: bool) -> Seen {
    let mut seen = Seen::default();
    seen.outcome = match run(pieces, to_head, &mut seen) {
        Ok(left) => format!("{left} bytes left"),
        Err(error) => error.to_string(),
    };
    seen
}

fn run(pieces: &[&[u8]], to_head: bool, seen: &mut Seen) -> Result<usize, UpstreamError> {
    let mut pieces = pieces.iter();
    let mut input = BytesMut::new();
    let mut reader = HeadReader::default();
    let mut decoder = loop {
        match reader.read(&mut input, to_head)? {
            Read::Final(head) => {
                seen.heads.push(format!("{} {:?} {:?}", head.parts.status, head.parts.headers, head.reusable));
                break head.decoder;
            }
            Read::Interim(parts) => seen.heads.push(format!("{} {:?}", parts.status, parts.headers)),
            Read::Partial => input.extend_from_slice(pieces.next().ok_or(UpstreamError::Closed)?),
        }
    };
    loop {
        match decoder.decode(&mut input)? {
            Decoded::End => break,
            Decoded::More => match pieces.next() {
                Some(piece) => input.extend_from_slice(piece),
                None => decoder.end()?,
            },
            Decoded::Frame(frame) => match frame.into_data() {
                Ok(data) => seen.body.extend_from_slice(&data),
                Err(frame) => seen.trailers = frame.into_trailers().ok().map(|fields| format!("{fields:?}")),
            },
        }
    }
    Ok(input.len() + pieces.map(|piece| piece.len()).sum::<usize>())
}

/// What a chunked body says, read the simple way: with the whole of it at hand.
fn reference(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut at = 0;
    let line = |from: usize| bytes[from..].windows(2).position(|pair| pair == b"\r\n").map(|end| from + end);
    loop {
        let end = line(at)?;
        let size = std::str::from_utf8(&bytes[at..end]).ok()?.split(';').next()?;
        if size.is_empty() || size.len() > 16 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let size = usize::from_str_radix(size, 16).ok()?;
        at = end + 2;
        if size == 0 {
            while line(at)? != at {
                at = line(at)? + 2;
            }
            return Some((body, bytes.len() - at - 2));
        }
        body.extend_from_slice(bytes.get(at..at.checked_add(size)?)?);
        at += size;
        if bytes.get(at..at + 2)? != b"\r\n" {
            return None;
        }
        at += 2;
    }
}

/// Bytes that are often almost a response.
fn almost_a_response() -> impl Strategy<Value = Vec<u8>> {
    let status = prop_oneof![
        6 => Just("HTTP/1.1 200 OK\r\n"),
        1 => Just("HTTP/1.0 200 OK\r\n"),
        1 => Just("HTTP/1.1 204 No Content\r\n"),
        1 => Just("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 \r\n"),
        1 => Just("HTTP/1.1 101 Switching Protocols\r\n"),
        1 => Just("HTTP/1.1 200 OK\n"),
    ];
    let field = prop_oneof![
        4 => Just("content-length: 12\r\n"),
        4 => Just("Transfer-Encoding: chunked\r\n"),
        1 => Just("transfer-encoding: gzip\r\n"),
        2 => Just("x-field:   value \t \r\n"),
        1 => Just("connection: x-field, close\r\n"),
        1 => Just("keep-alive: timeout=9\r\n"),
        1 => Just(" folded\r\n"),
        1 => Just("content-length: 3\r\n"),
    ];
    let piece = prop_oneof![
        8 => (1..20_usize).prop_map(|size| format!("{size:x}\r\n{}\r\n", "d".repeat(size)).into_bytes()),
        1 => (1..20_usize).prop_map(|size| format!("{size:X};e=\"1\"\r\n{}\r\n", "d".repeat(size)).into_bytes()),
        3 => Just(b"0\r\n\r\n".to_vec()),
        1 => Just(b"0\r\nt: v\r\nhost: x\r\n\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    let fields = proptest::collection::vec(field, 0..3);
    (status, fields, proptest::collection::vec(piece, 0..6)).prop_map(|(status, fields, pieces)| {
        [status.as_bytes(), fields.concat().as_bytes(), b"\r\n", &pieces.concat()].concat()
    })
}

fn split<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    for cut in cuts {
        let (piece, after) = rest.split_at((*cut).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn how_the_bytes_are_split_makes_no_difference(
        bytes in almost_a_response(),
        cuts in proptest::collection::vec(1..9_usize, 1..80),
        to_head: bool,
    ) {
        prop_assert_eq!(read(&split(&bytes, &cuts), to_head), read(&[&bytes], to_head));
    }

    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), start: bool) {
        let bytes = if start { [b"HTTP/1.1 200 OK\r\n".as_slice(), &bytes].concat() } else { bytes };
        read(&[&bytes], false);
    }

    #[test]
    fn chunks_are_read_as_a_simple_reader_reads_them(
        pieces in proptest::collection::vec(
            prop_oneof![
                8 => (1..20_usize).prop_map(|size| format!("{size:x}\r\n{}\r\n", "d".repeat(size)).into_bytes()),
                1 => Just(b"3;a=b\r\nabc\r\n".to_vec()),
                2 => Just(b"0\r\n\r\n".to_vec()),
                1 => Just(b"0\r\nt: v\r\n\r\n".to_vec()),
                1 => Just(b"\r\n".to_vec()),
                1 => Just(b"5\r\n".to_vec()),
            ],
            0..8,
        ),
    ) {
        let bytes = pieces.concat();
        let seen = read(&[b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", &bytes], false);
        match reference(&bytes) {
            Some((body, left)) => {
                prop_assert_eq!(&seen.outcome, &format!("{left} bytes left"));
                prop_assert_eq!(seen.body, body);
            }
            None => prop_assert!(!seen.outcome.ends_with("left"), "{:?}", seen),
        }
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".as_slice();
    let body = |bytes: String| read(&[head, bytes.as_bytes()], false);
    assert_eq!(body(format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1024))).body, b"a");
    assert!(body(format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(1025))).outcome.contains("chunks"));
    assert!(body(format!("0\r\nx: {}\r\n\r\n", "y".repeat(17_000))).outcome.contains("large"));
    assert!(body(format!("0\r\n{}\r\n", "x: y\r\n".repeat(65))).outcome.contains("large"));
    assert!(body("00000000000000001\r\na\r\n0\r\n\r\n".into()).outcome.contains("chunks"));
}

#[test]
fn an_end_that_is_there_is_seen_with_the_last_piece() {
    let mut input = BytesMut::from("2\r\nok\r\n0\r\n\r\n".as_bytes());
    let mut decoder = Decoder::chunked();
    assert!(matches!(decoder.decode(&mut input), Ok(Decoded::Frame(_))));
    assert!(decoder.is_done() && input.is_empty());
    let mut input = BytesMut::from("okHTTP".as_bytes());
    let mut decoder = Decoder::length(2);
    assert!(matches!(decoder.decode(&mut input), Ok(Decoded::Frame(_))));
    assert!(decoder.is_done() && &input[..] == b"HTTP");
}
