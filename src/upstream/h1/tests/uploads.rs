//! Requests with a body.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use parking_lot::Mutex;

use super::origin::*;
use crate::upstream::UpstreamError;
use crate::upstream::exchange::{Exchange, Left};
use crate::upstream::h1::{self, Wire};
use crate::upstream::pool::Lease;
use crate::upstream::socket::Socket;
use crate::upstream::upload::{Upload, UploadFault};

fn data(text: &'static str) -> Result<Frame<Bytes>, UploadFault> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn body(request: &str) -> &str {
    request.split_once("\r\n\r\n").unwrap().1
}

#[tokio::test]
async fn a_body_has_one_framing_field_or_none() {
    let origin = Origin::start(vec![answers(5)]).await;
    for (method, length, pieces) in [
        (Method::POST, Some(5), vec!["he", "llo"]),
        (Method::POST, None, vec!["he", "", "llo"]),
        (Method::GET, None, vec!["hello"]),
    ] {
        let (feed, upload) = upload(length);
        for piece in pieces {
            feed.send(data(piece)).await.unwrap();
        }
        drop(feed);
        assert_eq!(text(origin.call(method, upload).await.unwrap()).await.unwrap(), "200 ok");
    }
    for method in [Method::POST, Method::DELETE] {
        assert_eq!(text(origin.call(method, Upload::Empty).await.unwrap()).await.unwrap(), "200 ok");
    }
    let seen: Vec<_> = origin.seen().into_iter().map(|(_, text)| text.replace("host: origin\r\n", "")).collect();
    assert_eq!(
        seen,
        [
            "POST /x HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello",
            "POST /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
            "GET /x HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "POST /x HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
            "DELETE /x HTTP/1.1\r\n\r\n",
        ]
    );
    assert_eq!(origin.connections(), [5]);
}

#[tokio::test]
async fn trailers_go_on_unless_they_frame_or_route() {
    let origin = Origin::start(vec![vec![Act::Read, send(OK), Act::Hang]]).await;
    let (feed, upload) = upload(None);
    feed.send(data("hello")).await.unwrap();
    let mut trailers = HeaderMap::new();
    for (name, value) in [("grpc-status", "0"), ("content-length", "9"), ("host", "evil"), ("x-sum", "99")] {
        trailers.insert(name, HeaderValue::from_static(value));
    }
    feed.send(Ok(Frame::trailers(trailers))).await.unwrap();
    assert_eq!(text(origin.call(Method::POST, upload).await.unwrap()).await.unwrap(), "200 ok");
    assert_eq!(body(&origin.seen()[0].1), "5\r\nhello\r\n0\r\ngrpc-status: 0\r\nx-sum: 99\r\n\r\n");
}

#[tokio::test]
async fn a_large_body_goes_at_the_pace_of_the_upstream() {
    let origin = Origin::start(vec![vec![Act::Pause, Act::Read, send(OK), Act::Hang]]).await;
    let (feed, upload) = upload(Some(8_000_000));
    let progress = upload.progress().unwrap();
    for _ in 0..100 {
        feed.send(Ok(Frame::data(Bytes::from(vec![b'x'; 80_000])))).await.unwrap();
    }
    assert_eq!(text(origin.call(Method::PUT, upload).await.unwrap()).await.unwrap(), "200 ok");
    assert_eq!(body(&origin.seen()[0].1).len(), 8_000_000);
    assert_eq!(progress.bytes(), 8_000_000);
    assert_eq!(origin.idle(), 1);
}

#[tokio::test]
async fn an_early_answer_arrives_while_the_upload_runs_and_both_may_finish() {
    let script = vec![
        Act::ReadHead,
        send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nea"),
        Act::Pause,
        Act::Read,
        send("rl"),
        Act::Hang,
    ];
    let origin = Origin::start(vec![script]).await;
    let (feed, upload) = upload(None);
    feed.send(data("first")).await.unwrap();
    let mut reply = origin.call(Method::POST, upload).await.unwrap();
    let piece = reply.body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(piece, "ea");
    feed.send(data("second")).await.unwrap();
    drop(feed);
    assert_eq!(text(reply).await.unwrap(), "200 rl");
    let whole: String = origin.seen().into_iter().map(|(_, text)| text).collect();
    assert!(whole.ends_with("5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n"), "{whole}");
    assert_eq!(origin.idle(), 1);
}

#[tokio::test]
async fn an_answer_that_ends_before_its_upload_takes_the_connection_with_it() {
    for answer in [OK, "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"] {
        let origin = Origin::start(vec![vec![Act::ReadHead, send(answer), Act::Hang], vec![Act::Read, send(OK)]]).await;
        let (feed, upload) = upload(Some(100));
        feed.send(data("some")).await.unwrap();
        text(origin.call(Method::POST, upload).await.unwrap()).await.unwrap();
        assert_eq!(origin.idle(), 0);
        assert!(feed.is_closed(), "nobody wants the rest");
        assert_eq!(origin.get().await.unwrap(), "200 ok");
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_an_upload_and_closes_is_heard() {
    let script =
        vec![Act::ReadHead, send("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno")];
    let origin = Origin::start(vec![script]).await;
    let (feed, upload) = upload(Some(1_000_000));
    feed.send(data("some")).await.unwrap();
    let reply = origin.call(Method::POST, upload).await.unwrap();
    assert_eq!(text(reply).await.unwrap(), "413 no");
}

#[tokio::test]
async fn faults_of_the_client_are_not_the_upstreams() {
    for (fault, status) in [(UploadFault::Malformed, 400), (UploadFault::Stalled, 408), (UploadFault::Gone, 400)] {
        let origin = Origin::start(vec![vec![Act::Read, send(OK)]]).await;
        let (feed, upload) = upload(None);
        feed.send(data("some")).await.unwrap();
        feed.send(Err(fault)).await.unwrap();
        let error = origin.call(Method::POST, upload).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Upload(seen) if seen == fault));
        assert_eq!((error.kind(), error.rejection().status().as_u16()), ("upload", status));
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(origin.seen().is_empty(), "no whole request came of it");
    }
    for (length, pieces) in [(3, vec!["toolong"]), (30, vec!["too short"])] {
        let origin = Origin::start(vec![vec![Act::Read, send(OK)]]).await;
        let (feed, upload) = upload(Some(length));
        for piece in pieces {
            feed.send(data(piece)).await.unwrap();
        }
        drop(feed);
        let error = origin.call(Method::POST, upload).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Upload(UploadFault::Malformed)), "{error:?}");
        assert!(origin.seen().is_empty());
    }
}

#[tokio::test]
async fn a_stalled_or_endless_client_is_told_apart_from_a_slow_upstream() {
    let origin = Origin::start(vec![vec![Act::Read, send(OK)], vec![Act::Read, send(OK)]]).await;
    let (_feed, upload1) = upload(None);
    let error = origin.call(Method::POST, upload1).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Upload(UploadFault::Stalled)), "{error:?}");

    let (feed, upload2) = upload(None);
    for _ in 0..11 {
        feed.send(Ok(Frame::data(Bytes::from(vec![b'x'; 1_000_000])))).await.unwrap();
    }
    let error = origin.call(Method::POST, upload2).await.unwrap_err();
    assert!(matches!(error, UpstreamError::Upload(UploadFault::TooLarge)), "{error:?}");
}

#[tokio::test]
async fn a_client_that_fails_under_a_running_answer_ends_it_once_nothing_more_comes() {
    let origin =
        Origin::start(vec![vec![Act::ReadHead, send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nea"), Act::Hang]])
            .await;
    let (feed, upload) = upload(None);
    feed.send(data("first")).await.unwrap();
    let mut reply = origin.call(Method::POST, upload).await.unwrap();
    feed.send(Err(UploadFault::Malformed)).await.unwrap();
    assert_eq!(reply.body.frame().await.unwrap().unwrap().into_data().unwrap(), "ea");
    let error = reply.body.frame().await.unwrap().unwrap_err();
    assert!(matches!(error, UpstreamError::Upload(UploadFault::Malformed)), "{error:?}");
    assert!(reply.body.frame().await.is_none());
}

#[tokio::test]
async fn a_body_comes_back_whole_when_nothing_of_its_request_was_taken() {
    let origin = Origin::start(vec![]).await;
    for length in [Some(5), None] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (peer, _) = listener.accept().await.unwrap();
        socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
        drop(peer);
        let (feed, upload) = upload(length);
        feed.send(data("hello")).await.unwrap();
        drop(feed);
        let pool = Arc::clone(&origin.pool.endpoints.0[0]);
        let wire = Box::new(Wire::new(Socket::Tcp(socket)));
        let call = Call { method: Method::POST, interim: Mutex::default() };
        let mut exchange = h1::Exchange::begin(wire, Lease(pool), &call, upload);
        let error = poll_fn(|context| exchange.poll_head(context, |_| {})).await.unwrap_err();
        assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
        let failed = exchange.fail(error);
        let Left::Unsent(body) = failed.left else { panic!("{:?}", failed.left) };
        assert_eq!(body.size_hint().exact(), length);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "hello");
    }
}
