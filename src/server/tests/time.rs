//! Time-outs, sleep and drain. Limits are short; nothing here waits for long.

use std::sync::Arc;
use std::time::Duration;

use super::harness::{Client, Server, soon};
use crate::server::Limits;

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test]
async fn half_a_head_is_answered_with_408() {
    let server = Server::limited(|limits| limits.head_timeout = millis(100));
    for (warm, half) in [(false, "GET / HT"), (true, "GET / HTTP/1.1\r\nhost"), (false, "PRI * HT"), (false, "POS")] {
        let mut client = server.connect().await;
        if warm {
            assert_eq!(client.call(GET).await.status, 200);
        }
        client.send(half).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str(), answer.closes()), (408, "RequestTimeout", true));
        client.ends().await;
    }
}

#[tokio::test]
async fn drops_that_keep_coming_do_not_extend_the_time_of_a_head() {
    let server = Server::limited(|limits| limits.head_timeout = millis(150));
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nx: ").await;
    for _ in 0..40 {
        if tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"y").await.is_err() {
            break;
        }
        tokio::time::sleep(millis(10)).await;
    }
    assert_eq!(client.answer().await.status, 408);
}

#[tokio::test]
async fn a_silent_connection_is_closed_silently() {
    let server = Server::limited(|limits| limits.head_timeout = millis(50));
    server.connect().await.ends().await;
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn a_sleeping_connection_serves_again_and_again() {
    let server = Server::limited(|limits| limits.sleep_after = millis(1));
    let mut client = server.connect().await;
    for i in 0..3 {
        assert_eq!(client.call(GET).await.body, "GET /a ");
        tokio::time::sleep(millis(150)).await;
        let post = format!("POST /{i} HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc{GET}");
        client.send(post).await;
        assert_eq!(client.answer().await.body, format!("POST /{i} abc"));
        assert_eq!(client.answer().await.body, "GET /a ");
        tokio::time::sleep(millis(150)).await;
        client.send("\r\n").await;
        tokio::time::sleep(millis(150)).await;
    }
    assert_eq!(server.stats.counts().accepted, 1);
}

#[tokio::test]
async fn a_head_that_begins_after_a_sleep_must_end_in_time_too() {
    let server = Server::limited(|limits| {
        limits.sleep_after = millis(1);
        limits.head_timeout = millis(100);
    });
    let mut client = server.connect().await;
    client.call(GET).await;
    tokio::time::sleep(millis(150)).await;
    client.send("G").await;
    assert_eq!(client.answer().await.status, 408);
    client.ends().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    for sleep in [1, 1000] {
        let server = Server::limited(|limits| {
            limits.sleep_after = millis(sleep);
            limits.idle_timeout = millis(100);
        });
        let mut client = server.connect().await;
        client.call(GET).await;
        client.ends().await;
        assert_eq!(server.calls().len(), 1);
    }
}

#[tokio::test]
async fn a_stalled_body_ends_with_408() {
    let server = Server::limited(|limits| limits.body_timeout = millis(100));
    let mut client = server.connect().await;
    let answer = client.call("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await;
    assert_eq!((answer.status, answer.body.as_str(), answer.closes()), (408, "Stalled", true));
    client.ends().await;
}

#[tokio::test]
async fn a_body_that_the_front_does_not_want_yet_is_not_stalled() {
    let server = Server::limited(|limits| limits.body_timeout = millis(50));
    let mut client = server.connect().await;
    client.send("POST /wait HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhel").await;
    server.begun().await;
    tokio::time::sleep(millis(250)).await;
    server.echo.go.add_permits(1);
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "waited"));
}

#[tokio::test]
async fn a_body_that_nobody_wants_and_that_does_not_end_closes_the_connection() {
    let server = Server::limited(|limits| limits.discard_timeout = millis(50));
    let mut client = server.connect().await;
    assert_eq!(client.call("POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n").await.status, 403);
    client.ends().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_dropped() {
    let server = Server::limited(|limits| limits.write_timeout = millis(100));
    let mut client = server.connect().await;
    // The answers are more than the sockets hold.
    client.send("GET /large HTTP/1.1\r\nhost: a\r\n\r\n".repeat(8)).await;
    soon(async {
        while server.stats.open() > 0 {
            tokio::time::sleep(millis(10)).await;
        }
    })
    .await;
    assert!(server.calls().len() < 8);
}

#[tokio::test]
async fn a_drain_closes_idle_connections_and_lets_calls_end() {
    let server = Server::limited(|limits| limits.sleep_after = millis(1));
    let mut fresh = server.connect().await;
    let mut asleep = server.connect().await;
    asleep.call(GET).await;
    tokio::time::sleep(millis(150)).await;
    let mut idle = server.connect().await;
    idle.call(GET).await;
    let mut half = server.connect().await;
    half.send("GET /half HTTP/1.1\r\n").await;
    let mut busy = server.connect().await;
    busy.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    while server.calls().last().is_none_or(|call| call != "GET /wait") {
        tokio::time::sleep(millis(1)).await;
    }

    server.drain.begin();
    for client in [&mut fresh, &mut asleep, &mut idle] {
        client.ends().await;
    }
    let answer = half.call("host: a\r\n\r\n").await;
    assert_eq!((answer.status, answer.closes()), (200, true));
    server.echo.go.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!((answer.body.as_str(), answer.closes()), ("waited", true));
    busy.ends().await;
    half.ends().await;
    drop((fresh, asleep, idle, half, busy));
    soon(server.worker).await.expect("no panic").expect("drained");
}

#[tokio::test]
async fn a_drain_ends_at_its_deadline() {
    let server = Server::limited(|limits| limits.drain_timeout = millis(50));
    let mut client = server.connect().await;
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.begun().await;
    server.drain.begin();
    soon(server.worker).await.expect("no panic").expect("drained");
}

#[tokio::test]
async fn a_drain_can_be_cut_short() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.begun().await;
    server.drain.end();
    soon(server.worker).await.expect("no panic").expect("drained");
}

#[tokio::test]
async fn new_connections_follow_new_limits() {
    let server = Server::start();
    let mut old = server.connect().await;
    assert_eq!(old.call(GET).await.status, 200);
    let limits = Limits { uri_bytes: 1, ..Limits::default() };
    server.limits.store(Arc::new(limits));
    assert_eq!(server.connect().await.call(GET).await.status, 414);
    assert_eq!(old.call(GET).await.status, 200);
}

#[tokio::test]
async fn connections_in_the_listen_queue_are_served_when_a_drain_begins() {
    let server = Server::start();
    tokio::task::yield_now().await;
    // Blocking, so that the worker does not run in between.
    let connect = |_| std::net::TcpStream::connect(server.address).expect("connected");
    let queued: Vec<_> = (0..5).map(connect).collect();
    server.drain.begin();
    for stream in queued {
        stream.set_nonblocking(true).expect("nonblocking");
        let mut client = Client::new(tokio::net::TcpStream::from_std(stream).expect("registered"));
        let answer = client.call(GET).await;
        assert_eq!((answer.status, answer.closes()), (200, true));
    }
    soon(server.worker).await.expect("no panic").expect("drained");
}
