//! HTTP/1 requests: how the bytes arrive makes no difference, and what is taken for a message httparse takes for the
//! same one.
//!
//! The first two bytes of an input choose limits and cuts; the others are what a client sends.

use sessiongate::policy::rejection::Rejection;
use sessiongate::server::h1::body::{BodyTracker, Malformed};
use sessiongate::server::h1::framing::{Framing, HeadLimits, HeadScanner, Scan};

/// Requests of one connection.
const MESSAGES: usize = 8;

/// Reads bytes as the requests of a connection.
pub fn check(bytes: &[u8]) {
    let [small, seed, connection @ ..] = bytes else { return };
    let mut rest = connection;
    let limits = match small % 4 {
        0 => HeadLimits { head_bytes: 64, uri_bytes: 16, fields: 3 },
        _ => HeadLimits { head_bytes: 32 * 1024, uri_bytes: 8 * 1024, fields: 100 },
    };
    for _ in 0..MESSAGES {
        let whole = scan(limits, rest, &mut || usize::MAX);
        let mut cuts = cuts(*seed);
        assert_eq!(scan(limits, rest, &mut cuts), whole, "in pieces");
        assert_eq!(scan(limits, rest, &mut || 1), whole, "byte by byte");
        let Ok(Some((start, length, framing))) = whole else { return };
        let (head, body) = rest[start..].split_at(length);
        head_is_read_alike(head, framing, limits);
        let whole = follow(framing, body, &mut || usize::MAX);
        assert_eq!(follow(framing, body, &mut cuts), whole, "in pieces");
        assert_eq!(follow(framing, body, &mut || 1), whole, "byte by byte");
        let Ok((taken, true)) = whole else { return };
        body_is_read_alike(framing, &body[..taken]);
        rest = &body[taken..];
    }
}

/// Lengths of pieces.
fn cuts(seed: u8) -> impl FnMut() -> usize {
    let mut state = u32::from(seed) + 1;
    move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        1 + (state >> 24) as usize % 23
    }
}

type Head = (usize, usize, Framing);

/// Where the first head starts, its length, what follows; none if it goes on.
fn scan(limits: HeadLimits, bytes: &[u8], cut: &mut impl FnMut() -> usize) -> Result<Option<Head>, Rejection> {
    let mut scanner = HeadScanner::new(limits);
    let (mut start, mut end) = (0, 0);
    loop {
        match scanner.scan(&bytes[start..end])? {
            Scan::Head { length, framing } => {
                assert!(length <= end - start && length <= limits.head_bytes);
                return Ok(Some((start, length, framing)));
            }
            Scan::Skip(count) => {
                assert!(count > 0 && count <= end - start, "{count} of {}", end - start);
                start += count;
            }
            Scan::Partial if end == bytes.len() => return Ok(None),
            Scan::Partial => end += cut().min(bytes.len() - end),
        }
    }
}

fn head_is_read_alike(head: &[u8], framing: Framing, limits: HeadLimits) {
    let shown = head.escape_ascii();
    let mut slots = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut slots);
    match request.parse(head) {
        Ok(status) => assert_eq!(status, httparse::Status::Complete(head.len()), "{shown}"),
        // The one known difference, in the safe direction: httparse wants a target in UTF-8.
        Err(httparse::Error::Token) => {
            let target = head.split(|byte| *byte == b' ').nth(1).expect("a target");
            assert!(std::str::from_utf8(target).is_err(), "{shown}");
            return;
        }
        Err(error) => panic!("{error}: {shown}"),
    }
    assert!(request.path.is_some_and(|path| path.len() <= limits.uri_bytes) && request.headers.len() <= limits.fields);
    let values = |name: &str| -> Vec<&[u8]> {
        request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value).collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    match framing {
        Framing::None => {
            assert!(codings.is_empty() && lengths.len() <= 1, "{shown}");
            assert!(lengths.iter().all(|length| length.iter().all(|digit| *digit == b'0')), "{shown}");
        }
        Framing::Length(length) => {
            assert!(codings.is_empty() && lengths.len() == 1, "{shown}");
            assert_eq!(
                std::str::from_utf8(lengths[0]).ok().and_then(|text| text.parse().ok()),
                Some(length),
                "{shown}"
            );
        }
        Framing::Chunked => {
            assert!(lengths.is_empty() && codings.len() == 1 && request.version == Some(1), "{shown}");
            assert!(codings[0].eq_ignore_ascii_case(b"chunked"), "{shown}");
        }
    }
}

/// Bytes of the body, and whether it ended.
fn follow(framing: Framing, bytes: &[u8], cut: &mut impl FnMut() -> usize) -> Result<(usize, bool), Malformed> {
    let mut tracker = BodyTracker::new(framing);
    let (mut taken, mut at) = (0, 0);
    while at < bytes.len() {
        let end = at + cut().min(bytes.len() - at);
        let now = tracker.advance(&bytes[at..end])?;
        taken += now;
        assert!(now == end - at || tracker.is_done(), "bytes are left only behind the end");
        at = end;
    }
    Ok((taken, tracker.is_done()))
}

fn body_is_read_alike(framing: Framing, body: &[u8]) {
    match framing {
        Framing::None => assert!(body.is_empty()),
        Framing::Length(length) => assert_eq!(body.len() as u64, length),
        Framing::Chunked => chunks_are_read_alike(body),
    }
}

/// Panics unless httparse finds chunks up to the very end of `body`.
fn chunks_are_read_alike(body: &[u8]) {
    let shown = body.escape_ascii();
    let mut rest = body;
    loop {
        let Ok(httparse::Status::Complete((line, size))) = httparse::parse_chunk_size(rest) else {
            panic!("a chunk size: {shown}");
        };
        rest = &rest[line..];
        if size == 0 {
            break;
        }
        let (_, behind) = rest.split_at(usize::try_from(size).expect("it is all there"));
        rest = behind.strip_prefix(b"\r\n").unwrap_or_else(|| panic!("the end of a chunk: {shown}"));
    }
    let mut slots = [httparse::EMPTY_HEADER; 2048];
    match httparse::parse_headers(rest, &mut slots) {
        Ok(httparse::Status::Complete((end, _))) => assert_eq!(end, rest.len(), "{shown}"),
        // How many there may be is hyper's to say.
        Err(httparse::Error::TooManyHeaders) => {}
        other => panic!("{other:?}: {shown}"),
    }
}
