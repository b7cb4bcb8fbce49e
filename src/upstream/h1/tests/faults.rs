//! Upstreams that close, break, lie or hang.

use std::time::Duration;

use http::Method;
use parking_lot::Mutex;

use super::origin::*;
use crate::upstream::upload::Upload;
use crate::upstream::{Repeat, UpstreamError};

#[tokio::test]
async fn a_safe_call_is_repeated_once_when_a_used_connection_ends_in_silence() {
    for end in [vec![Act::Read], vec![Act::Read, Act::Reset]] {
        let first = [vec![Act::Read, send(OK)], end.clone()].concat();
        let origin = Origin::start(vec![first, vec![Act::Read, send(OK), Act::Hang]]).await;
        origin.get().await.unwrap();
        assert_eq!(origin.get().await.unwrap(), "200 ok");
        assert_eq!(origin.connections(), [2, 1]);

        let origin = Origin::start(vec![[vec![Act::Read, send(OK)], end.clone()].concat(), end.clone(), vec![]]).await;
        origin.get().await.unwrap();
        assert_eq!(origin.get().await.unwrap_err().kind(), "closed", "only once");
        assert_eq!(origin.connections(), [2, 1]);

        let origin = Origin::start(vec![end, vec![Act::Read, send(OK)]]).await;
        assert_eq!(origin.get().await.unwrap_err().kind(), "closed", "a new connection is not stale");
        assert_eq!(origin.connections(), [1]);
    }
}

#[tokio::test]
async fn a_call_that_is_not_safe_is_never_sent_twice() {
    let first = vec![Act::Read, send(OK), Act::Read];
    let origin = Origin::start(vec![first, vec![Act::Read, send(OK)]]).await;
    origin.get().await.unwrap();
    let error = origin.call(Method::POST, Upload::Empty).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Closed | UpstreamError::Reset(_)), "{error:?}");
    assert_eq!(origin.connections(), [2]);
    // Nor is a safe one that got a piece of an answer.
    let first = vec![Act::Read, send(OK), Act::Read, send("HTTP/1.1 2")];
    let origin = Origin::start(vec![first, vec![Act::Read, send(OK)]]).await;
    origin.get().await.unwrap();
    assert_eq!(origin.get().await.unwrap_err().kind(), "closed");
    assert_eq!(origin.connections(), [2]);
}

#[tokio::test]
async fn a_connection_that_closed_while_it_rested_is_passed_over_for_any_method() {
    for end in [vec![], vec![Act::Reset], vec![send("HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\n\r\n"), Act::Hang]] {
        let first = [vec![Act::Read, send(OK)], end].concat();
        let origin = Origin::start(vec![first, vec![Act::Read, send(OK), Act::Hang]]).await;
        origin.get().await.unwrap();
        tokio::time::sleep(MOMENT).await;
        let reply = origin.call(Method::POST, Upload::Empty).await.unwrap();
        assert_eq!(text(reply).await.unwrap(), "200 ok");
        assert_eq!(origin.connections(), [1, 1]);
        assert_eq!(origin.pool.counts().retries.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

#[tokio::test]
async fn bytes_behind_an_answer_never_answer_the_next_call() {
    let stray = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let head = "HTTP/1.1 304 Not Modified\r\n\r\n";
    for (answer, later) in [(OK, false), (OK, true), (chunked, false), (chunked, true), (head, false), (head, true)] {
        let mut first = vec![Act::Read];
        if later {
            first.extend([send(answer), Act::Pause, send(stray), Act::Hang]);
        } else {
            first.extend([send(&format!("{answer}{stray}")), Act::Hang]);
        }
        let origin = Origin::start(vec![first, vec![Act::Read, send(OK), Act::Hang]]).await;
        origin.get().await.unwrap();
        tokio::time::sleep(MOMENT * 2).await;
        assert_eq!(origin.get().await.unwrap(), "200 ok");
        assert_eq!(origin.connections(), [1, 1]);
    }
}

#[tokio::test]
async fn an_answer_that_is_cut_off_is_an_error() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx: y\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n100\r\nabc",
    ] {
        let origin = Origin::start(vec![vec![Act::Read, send(answer)]]).await;
        let reply = origin.call(Method::GET, Upload::Empty).await.unwrap();
        assert!(matches!(text(reply).await, Err(UpstreamError::Closed)), "{answer}");
        let origin = Origin::start(vec![vec![Act::Read, send(answer), Act::Pause, Act::Reset]]).await;
        let reply = origin.call(Method::GET, Upload::Empty).await.unwrap();
        assert!(matches!(text(reply).await, Err(UpstreamError::Reset(_))), "{answer}");
    }
    // Also one that would have ended with an orderly close.
    let answer = "HTTP/1.1 200 OK\r\n\r\nhalf";
    let origin = Origin::start(vec![vec![Act::Read, send(answer), Act::Pause, Act::Reset]]).await;
    let reply = origin.call(Method::GET, Upload::Empty).await.unwrap();
    assert!(matches!(text(reply).await, Err(UpstreamError::Reset(_))));
}

#[tokio::test]
async fn nonsense_is_told_at_once_and_never_quoted() {
    let large = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(257));
    for answer in [
        "\u{16}\u{3}\u{1}\0\u{5}hello",
        "SSH-2.0-secret\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\n\r\n",
        "HTTP/1.1 2x0 secret\r\n\r\n",
        "HTTP/1.1 99 secret\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\r\n secret\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
        "HTTP/1.1 200 OK\r\nsecret\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: \r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 9223372036854775808\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        &large,
        &many,
    ] {
        let origin = Origin::start(vec![vec![Act::Read, send(answer), Act::Hang]]).await;
        let error = origin.get().await.unwrap_err();
        assert_eq!((error.kind(), error.rejection().status().as_u16()), ("protocol", 502), "{answer:?}");
        let told = format!("{error} {error:?} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        assert!(!told.contains("secret") && !told.contains("hello"), "{told}");
    }
    for answer in ["", "HTTP", "HTTP/1.1 200 OK\r\nserver: x"] {
        let origin = Origin::start(vec![vec![Act::Read, send(answer)]]).await;
        let error = origin.get().await.unwrap_err();
        assert_eq!((error.kind(), error.rejection().status().as_u16()), ("closed", 502), "{answer:?}");
    }
}

#[tokio::test]
async fn a_broken_chunk_ends_the_body_with_an_error() {
    for body in [
        "2\r\nokx",
        "2\r\nok\r\n\r\n",
        "2\nok\r\n",
        "g\r\n",
        "2 \r\nok\r\n0\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\nx: y\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let origin = Origin::start(vec![vec![Act::Read, send(&answer), Act::Hang]]).await;
        let reply = origin.call(Method::GET, Upload::Empty).await.unwrap();
        assert_eq!(text(reply).await.unwrap_err().kind(), "protocol", "{body:?}");
    }
}

#[tokio::test]
async fn silence_is_a_timeout_and_its_connection_is_given_up() {
    for script in [
        vec![Act::Hang],
        vec![Act::Read, Act::Hang],
        vec![Act::Read, send("HTTP/1.1 200 OK\r\nx:"), Act::Hang],
        vec![Act::Read, send("HTTP/1.1 103 Early Hints\r\n\r\n"), Act::Hang],
    ] {
        let origin = Origin::start(vec![script, vec![Act::Read, send(OK)]]).await;
        let call = Call { method: Method::GET, interim: Mutex::default() };
        let limit = Duration::from_millis(50);
        let error = origin.pool.send(&call, Upload::Empty, Repeat::Safe, limit).await.unwrap_err();
        assert_eq!((error.kind(), error.rejection().status().as_u16()), ("response_timeout", 504));
        assert_eq!(origin.get().await.unwrap(), "200 ok");
    }
}

#[tokio::test]
async fn a_refused_connection_says_so() {
    let origin = Origin::start(vec![]).await;
    tokio::time::sleep(MOMENT).await;
    let error = origin.get().await.unwrap_err();
    assert_eq!((error.kind(), error.rejection().status().as_u16()), ("connect", 502));
}
