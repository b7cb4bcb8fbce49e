//! Requests that the connection refuses by itself.

use super::harness::Server;

/// Sends `bytes` and expects this status and reason, a close, and nothing else to have been served.
async fn refused(bytes: impl AsRef<[u8]>, status: u16, reason: &str) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned();
    let server = Server::start();
    let mut client = server.connect().await;
    // A good request first: the refusal must not depend on being the first message.
    for warm in [false, true] {
        if warm {
            client = server.connect().await;
            assert_eq!(client.call("GET /warm HTTP/1.1\r\nhost: a\r\n\r\n").await.status, 200);
        }
        server.echo.calls.lock().clear();
        client.send(bytes).await;
        // A request smuggled behind it.
        let _ =
            tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str(), answer.closes()), (status, reason, true), "{shown}");
        client.ends().await;
        assert_eq!(server.calls(), [reason], "{shown}");
    }
}

#[tokio::test]
async fn malformed_heads_are_refused_by_the_front() {
    for head in [
        "GET / HTTP/1.1\nhost: a\n\n",
        "GET  / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/2.0\r\nhost: a\r\n\r\n",
        "G(T / HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost : a\r\n\r\n",
        "GET / HTTP/1.1\r\n host: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
        "GET /#a HTTP/1.1\r\nhost: a\r\n\r\n",
        "\r\n\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}",
    ] {
        refused(head, 400, "RequestMalformed").await;
    }
}

#[tokio::test]
async fn ambiguous_framing_is_refused_by_the_front() {
    for fields in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity",
        "content-length: 4\r\ncontent-length: 4",
        "content-length: 4, 4",
        "content-length: +4",
        "content-length: 9223372036854775808",
    ] {
        refused(format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n0\r\n\r\n"), 400, "RequestMalformed").await;
    }
    refused("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "RequestMalformed").await;
}

#[tokio::test]
async fn what_only_hyper_refuses_is_answered_by_the_front_too() {
    for target in ["/?a=\"b\"", "/<a>", "/`", "/\u{e9}?\u{0080}<", "?x", "http://[::1/"] {
        refused(format!("GET {target} HTTP/1.1\r\nhost: a\r\n\r\n"), 400, "RequestMalformed").await;
    }
}

#[tokio::test]
async fn large_heads_and_targets_have_their_own_status() {
    refused(format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(9000)), 414, "UriTooLong").await;
    refused(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(40_000)), 431, "HeadTooLarge").await;
    refused(format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(101)), 431, "HeadTooLarge").await;
}

#[tokio::test]
async fn a_hundred_fields_are_allowed() {
    let server = Server::start();
    let mut client = server.connect().await;
    assert_eq!(client.call(format!("GET / HTTP/1.1\r\n{}\r\n", "x: 1\r\n".repeat(100))).await.status, 200);
}

#[tokio::test]
async fn a_good_request_before_a_malformed_one_is_answered() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\nhost: a\n\n").await;
    assert_eq!(client.answer().await.body, "GET /a ");
    assert_eq!(client.answer().await.status, 400);
    client.ends().await;
}

#[tokio::test]
async fn a_malformed_body_ends_the_call_and_the_connection() {
    for body in ["5\r\nhel\r\n0\r\n\r\n", "x\r\n", "3\r\nabcd\r\n", "1 \r\na\r\n", "1\na\n0\n\n"] {
        let server = Server::start();
        let mut client = server.connect().await;
        client.send("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        server.begun().await;
        let answer = client.call(body).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.closes()), (400, "Malformed", true), "{body:?}");
        client.ends().await;
        assert_eq!(server.calls(), ["POST /x", "Malformed"]);
    }
}

#[tokio::test]
async fn a_body_that_is_malformed_from_the_start_is_refused_too() {
    let server = Server::start();
    let mut client = server.connect().await;
    let answer = client.call("POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\rx").await;
    assert_eq!((answer.status, answer.closes()), (400, true));
    client.ends().await;
}

#[tokio::test]
async fn a_body_that_is_cut_off_is_no_body() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await;
    server.begun().await;
    drop(client);
    let calls = || server.calls() == ["POST /x", "Gone"] || server.echo.dropped.available_permits() == 1;
    super::harness::soon(async {
        while !calls() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
