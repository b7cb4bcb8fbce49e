use proptest::prelude::*;

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes: 2048, uri_bytes: 256, fields: 20 };

/// The result for bytes that arrive in these pieces, and how many empty lines were skipped before.
fn pieces(bytes: &[u8], cuts: impl IntoIterator<Item = usize>) -> (usize, Result<Scan, Rejection>) {
    let mut scanner = HeadScanner::new(LIMITS);
    let (mut from, mut to) = (0, 0);
    for cut in cuts {
        to += cut.min(bytes.len() - to);
        loop {
            match scanner.scan(&bytes[from..to]) {
                Ok(Scan::Skip(count)) => from += count,
                Ok(Scan::Partial) => break,
                done => return (from, done),
            }
        }
    }
    (from, Ok(Scan::Partial))
}

fn whole(bytes: impl AsRef<[u8]>) -> Result<Scan, Rejection> {
    pieces(bytes.as_ref(), [usize::MAX]).1
}

fn framing_of(fields: &str) -> Result<Framing, Rejection> {
    match whole(format!("POST /x HTTP/1.1\r\nhost: a\r\n{fields}\r\n"))? {
        Scan::Head { framing, .. } => Ok(framing),
        other => panic!("{other:?} for {fields:?}"),
    }
}

#[test]
fn the_end_of_a_head_is_found() {
    let head = "GET /a?b=c HTTP/1.1\r\nhost: a\r\nx-empty:\r\nutf: \u{e9}\t\u{ff}\r\n\r\n";
    assert_eq!(whole(head), Ok(Scan::Head { length: head.len(), framing: Framing::None }));
    assert_eq!(whole(format!("{head}GET /")), Ok(Scan::Head { length: head.len(), framing: Framing::None }));
    assert_eq!(whole(&head[..head.len() - 1]), Ok(Scan::Partial));
    assert_eq!(whole("GET / HTTP/1.0\r\n\r\n"), Ok(Scan::Head { length: 18, framing: Framing::None }));
    assert_eq!(whole(""), Ok(Scan::Partial));
}

#[test]
fn a_few_empty_lines_before_a_request_are_dropped() {
    assert_eq!(
        pieces(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n", [usize::MAX]),
        (4, Ok(Scan::Head { length: 18, framing: Framing::None }))
    );
    assert_eq!(whole("\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Err(Rejection::RequestMalformed));
    assert_eq!(whole("\nGET / HTTP/1.1\r\n\r\n"), Err(Rejection::RequestMalformed));
    assert_eq!(whole("\r"), Ok(Scan::Partial));
    assert_eq!(whole("\rG"), Err(Rejection::RequestMalformed));
}

#[test]
fn request_lines_that_could_be_read_differently_are_refused() {
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        " GET / HTTP/1.1",
        "GET\t/ HTTP/1.1",
        "GET / ",
        "GET /",
        "GET /\tx HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET /#x HTTP/1.1",
        "GET /\u{7f} HTTP/1.1",
        "GET /\0 HTTP/1.1",
        "GET / HTTP/1.2",
        "GET / HTTP/2.0",
        "GET / HTTP/0.9",
        "GET / http/1.1",
        "GET / HTTP/1.10",
        "GET / HTTP/11",
        "GET / HTTP/1.1\r",
        "G(T / HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
        " / HTTP/1.1",
        "GET",
        "PRI * HTTP/2.0",
    ] {
        assert_eq!(whole(format!("{line}\r\nhost: a\r\n\r\n")), Err(Rejection::RequestMalformed), "{line:?}");
    }
    let overlong = format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", "M".repeat(33));
    assert_eq!(whole(overlong), Err(Rejection::MethodNotImplemented));
    assert_eq!(whole("GET / HTTP/1.1\nhost: a\n\n"), Err(Rejection::RequestMalformed));
    assert_eq!(whole([0x16, 3, 1]), Err(Rejection::RequestMalformed), "TLS on a cleartext port, at its first byte");
}

#[test]
fn field_lines_that_could_be_read_differently_are_refused() {
    for line in [
        " x: folded",
        "\tx: folded",
        "x : 1",
        "x\t: 1",
        ": 1",
        "x",
        "x y: 1",
        "x\u{e9}: 1",
        "x(: 1",
        "x: a\nb",
        "x: a\rb",
        "x: \0",
        "x: \u{1}",
        "x: \u{7f}",
        "x: \u{b}",
        "x: a\r\n y",
        "\u{0}x: 1",
        "x: 1\r",
    ] {
        assert_eq!(framing_of(&format!("{line}\r\n")), Err(Rejection::RequestMalformed), "{line:?}");
    }
}

#[test]
fn only_one_plain_content_length_is_taken() {
    assert_eq!(framing_of("Content-LENGTH: \t 10 \r\n"), Ok(Framing::Length(10)));
    assert_eq!(framing_of("content-length: 0\r\n"), Ok(Framing::None));
    assert_eq!(framing_of("content-length: 9223372036854775807\r\n"), Ok(Framing::Length(i64::MAX as u64)));
    for value in [
        "",
        "+2",
        "-1",
        "2, 2",
        "2,",
        "0x2",
        "2 2",
        "1e3",
        "2.0",
        "9223372036854775808",
        "00000000000000000002",
        "\u{b2}",
    ] {
        assert_eq!(framing_of(&format!("content-length: {value}\r\n")), Err(Rejection::RequestMalformed), "{value:?}");
    }
    assert_eq!(framing_of("content-length: 2\r\nContent-Length: 2\r\n"), Err(Rejection::RequestMalformed));
}

#[test]
fn only_one_plain_chunked_is_taken() {
    assert_eq!(framing_of("Transfer-Encoding: Chunked \r\n"), Ok(Framing::Chunked));
    for value in [
        "",
        "gzip",
        "identity",
        "gzip, chunked",
        "chunked, chunked",
        "chunked;q=1",
        "xchunked",
        "\"chunked\"",
        "chunked,",
    ] {
        assert_eq!(
            framing_of(&format!("transfer-encoding: {value}\r\n")),
            Err(Rejection::RequestMalformed),
            "{value:?}"
        );
    }
    let line = "transfer-encoding: chunked\r\n";
    assert_eq!(framing_of(&format!("{line}{line}")), Err(Rejection::RequestMalformed));
    assert_eq!(framing_of(&format!("{line}content-length: 2\r\n")), Err(Rejection::RequestMalformed));
    assert_eq!(framing_of(&format!("content-length: 0\r\n{line}")), Err(Rejection::RequestMalformed));
    assert_eq!(whole(format!("POST / HTTP/1.0\r\n{line}\r\n")), Err(Rejection::RequestMalformed));
}

#[test]
fn sizes_are_limited_to_the_byte() {
    let target = |bytes: usize| whole(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(bytes - 1)));
    assert!(target(256).is_ok());
    assert_eq!(target(257), Err(Rejection::UriTooLong));

    let fields = |count: usize| whole(format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(count)));
    assert!(fields(20).is_ok());
    assert_eq!(fields(21), Err(Rejection::HeadTooLarge));

    let head = |bytes: usize| whole(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(bytes - 23)));
    assert_eq!(head(2048), Ok(Scan::Head { length: 2048, framing: Framing::None }));
    assert_eq!(head(2049), Err(Rejection::HeadTooLarge));
    assert_eq!(whole(format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(4096))), Err(Rejection::HeadTooLarge), "unfinished");
}

/// Bytes that are often almost a head.
fn almost_head() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        4 => "[A-Z]{1,8} /[a-z/?%=]{0,20} HTTP/1\\.[01]\r\n".prop_map(String::into_bytes),
        8 => "[a-zA-Z-]{1,12}:[ \t]?[ -~]{0,30}\r\n".prop_map(String::into_bytes),
        2 => Just(b"content-length: 5\r\n".to_vec()),
        2 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..6),
        1 => proptest::collection::vec(Just(b'a'), 200..900),
    ];
    proptest::collection::vec(line, 0..8).prop_map(|lines| lines.concat())
}

proptest! {
    #[test]
    fn how_the_bytes_are_split_makes_no_difference(bytes in almost_head(), cuts in proptest::collection::vec(1..40_usize, 1..200)) {
        let split = pieces(&bytes, cuts.into_iter().chain([usize::MAX]));
        prop_assert_eq!(split, pieces(&bytes, [usize::MAX]));
        prop_assert_eq!(split, pieces(&bytes, std::iter::repeat_n(1, bytes.len())));
    }

    #[test]
    fn garbage_is_never_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = whole(bytes);
    }

    #[test]
    fn what_is_accepted_ends_where_httparse_says(bytes in almost_head()) {
        let (skipped, found) = pieces(&bytes, [usize::MAX]);
        let Ok(Scan::Head { length, .. }) = found else { return Ok(()) };
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(&bytes[skipped..]) {
            Ok(httparse::Status::Complete(end)) => prop_assert_eq!(end, length),
            Ok(httparse::Status::Partial) => prop_assert!(false, "httparse wants more"),
            // httparse refuses some targets that we leave to it.
            Err(error) => prop_assert_eq!(error, httparse::Error::Token),
        }
    }
}
