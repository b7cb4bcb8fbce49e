//! Calls that go well, and whether their connection is used again.

use http::Method;
use http_body::Body;
use parking_lot::Mutex;

use super::origin::*;
use crate::upstream::Repeat;
use crate::upstream::upload::Upload;

const LONG: std::time::Duration = std::time::Duration::from_secs(5);

#[tokio::test]
async fn one_connection_carries_many_calls() {
    let origin = Origin::start(vec![answers(20)]).await;
    for _ in 0..20 {
        assert_eq!(origin.get().await.unwrap(), "200 ok");
    }
    assert_eq!(origin.connections(), [20]);
    assert_eq!(origin.seen()[0].1, "GET /x HTTP/1.1\r\nhost: origin\r\n\r\n");
}

#[tokio::test]
async fn answers_keep_their_framing_to_themselves() {
    for (answer, text, reused) in [
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "200 ok", true),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 99\r\nhost: x\r\n\r\n",
            "200 ok|x-sum=99",
            true,
        ),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: 99\r\n\r\n", "200 |x-sum=99", true),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "200 ok",
            false,
        ),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok", "200 ok", true),
        ("HTTP/1.1 204 No Content\r\n\r\n", "204 ", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", "204 ", true),
        ("HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n", "204 ", false),
        ("HTTP/1.1 304 Not Modified\r\ncontent-length: 1234\r\n\r\n", "304 ", true),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "200 ok",
            true,
        ),
        ("HTTP/1.1 200 OK\r\nconnection: keep-alive, close\r\ncontent-length: 2\r\n\r\nok", "200 ok", false),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", "200 ok", false),
        ("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", "200 ok", false),
        ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=0\r\ncontent-length: 2\r\n\r\nok", "200 ok", false),
        ("HTTP/1.1 200 OK\r\nkeep-alive: timeout=5, max=100\r\ncontent-length: 2\r\n\r\nok", "200 ok", true),
        ("HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok", "200 ok", true),
    ] {
        for split in [false, true] {
            let mut first = vec![Act::Read];
            if split {
                let (one, two) = answer.as_bytes().split_at(answer.len() - 3);
                first.extend([Act::Send(one.to_vec()), Act::Pause, Act::Send(two.to_vec())]);
            } else {
                first.push(send(answer));
            }
            first.extend([Act::Read, send(OK), Act::Hang]);
            let origin = Origin::start(vec![first, vec![Act::Read, send(OK), Act::Hang]]).await;
            assert_eq!(origin.get().await.unwrap(), text, "{answer}");
            assert_eq!(origin.idle(), usize::from(reused), "{answer}");
            assert_eq!(origin.get().await.unwrap(), "200 ok", "{answer}");
            assert_eq!(origin.connections().len(), if reused { 1 } else { 2 }, "{answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_may_end_with_its_connection() {
    let body = "x".repeat(10_000);
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{body}");
    let origin = Origin::start(vec![vec![Act::Read, send(&answer[..5000]), Act::Pause, send(&answer[5000..])]]).await;
    assert_eq!(origin.get().await.unwrap(), format!("200 {body}"));
    assert_eq!(origin.idle(), 0);
}

#[tokio::test]
async fn the_answer_to_head_keeps_its_length_and_has_no_body() {
    for (fields, length) in
        [("content-length: 1234\r\n", Some("1234")), ("", None), ("transfer-encoding: chunked\r\n", None)]
    {
        let script = vec![Act::Read, send(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")), Act::Read, send(OK), Act::Hang];
        let origin = Origin::start(vec![script]).await;
        let reply = origin.call(Method::HEAD, Upload::Empty).await.unwrap();
        assert_eq!(reply.head.headers.get("content-length").map(|value| value.to_str().unwrap()), length);
        assert!(!reply.head.headers.contains_key("transfer-encoding"));
        assert!(reply.body.is_end_stream() && reply.body.size_hint().exact() == Some(0));
        assert_eq!(origin.get().await.unwrap(), "200 ok");
        assert_eq!(origin.connections(), [2], "in step");
    }
}

#[tokio::test]
async fn interim_responses_are_shown_and_limited() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n";
    let origin = Origin::start(vec![vec![Act::Read, send(&format!("{}{OK}", hints.repeat(16))), Act::Hang]]).await;
    let call = Call { method: Method::GET, interim: Mutex::default() };
    let reply = origin.pool.send(&call, Upload::Empty, Repeat::Safe, LONG).await.unwrap();
    assert_eq!(text(reply).await.unwrap(), "200 ok");
    assert_eq!(*call.interim.lock(), [103; 16]);

    for answer in [hints.repeat(17), "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n".into()] {
        let origin = Origin::start(vec![vec![Act::Read, send(&format!("{answer}{OK}")), Act::Hang]]).await;
        assert_eq!(origin.get().await.unwrap_err().kind(), "protocol");
    }
}

#[tokio::test]
async fn what_concerns_only_the_hop_stays_here() {
    let answer = "HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Up-Hop\r\nX-Up-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: x\r\nX-End: kept\r\nX-End: too\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\
                  Content-Length: 0\r\n\r\n";
    let origin = Origin::start(vec![vec![Act::Read, send(answer), Act::Hang]]).await;
    let reply = origin.call(Method::GET, Upload::Empty).await.unwrap();
    let mut fields: Vec<_> =
        reply.head.headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
    fields.sort();
    assert_eq!(fields, ["content-length=0", "set-cookie=a", "set-cookie=b", "x-end=kept", "x-end=too"]);
}

#[tokio::test]
async fn a_large_head_and_a_large_body_arrive_whole() {
    let fields: String = (0..200).map(|number| format!("x-field-{number}: {}\r\n", "v".repeat(50))).collect();
    let body = "b".repeat(3_000_000);
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: {}\r\n\r\n{body}", body.len());
    let script = vec![Act::Read, send(&answer), Act::Read, send(OK), Act::Hang];
    let origin = Origin::start(vec![script]).await;
    let reply = origin.call(Method::GET, Upload::Empty).await.unwrap();
    assert_eq!(reply.head.headers.len(), 201);
    assert_eq!(reply.body.size_hint().exact(), Some(3_000_000));
    assert_eq!(text(reply).await.unwrap().len(), body.len() + 4);
    assert_eq!(origin.get().await.unwrap(), "200 ok");
    assert_eq!(origin.connections(), [2]);
}

#[tokio::test]
async fn a_body_that_is_dropped_closes_its_connection() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
    let origin = Origin::start(vec![vec![Act::Read, send(answer), Act::Hang], vec![Act::Read, send(OK)]]).await;
    drop(origin.call(Method::GET, Upload::Empty).await.unwrap());
    assert_eq!(origin.idle(), 0);
    assert_eq!(origin.get().await.unwrap(), "200 ok");
    assert_eq!(origin.connections(), [1, 1]);
}

#[tokio::test]
async fn idle_connections_go_when_the_upstream_closes_them_or_when_they_are_old() {
    let answer = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok";
    let origin = Origin::start(vec![vec![Act::Read, send(OK)], vec![Act::Read, send(answer), Act::Hang]]).await;
    origin.get().await.unwrap();
    tokio::time::sleep(MOMENT).await;
    assert_eq!(origin.idle(), 1);
    origin.pool.reap();
    assert_eq!(origin.idle(), 0, "closed by the upstream");
    origin.get().await.unwrap();
    origin.pool.reap();
    assert_eq!(origin.idle(), 1);
    tokio::time::sleep(std::time::Duration::from_millis(550)).await;
    origin.pool.reap();
    assert_eq!(origin.idle(), 0, "the upstream is about to close it");
}
