//! Messages over HTTP/1.

use super::harness::{Server, soon};

const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = Server::start();
    let mut client = server.connect().await;
    for _ in 0..3 {
        let answer = client.call(GET).await;
        assert_eq!((answer.status, answer.body.as_str(), answer.closes()), (200, "GET /a ", false));
    }
    assert_eq!(server.stats.counts().accepted, 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = Server::start();
    let mut client = server.connect().await;
    client
        .send(
            "GET /1 HTTP/1.1\r\nhost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello\
             POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nt: 1\r\n\r\n\
             \r\nGET /4 HTTP/1.1\r\nhost: a\r\n\r\n",
        )
        .await;
    for expected in ["GET /1 ", "POST /2 hello", "POST /3 abcde +1", "GET /4 "] {
        assert_eq!(client.answer().await.body, expected);
    }
}

#[tokio::test]
async fn many_pipelined_requests_that_do_not_fit_the_buffer_are_all_answered() {
    let server = Server::start();
    let mut client = server.connect().await;
    let padding = "p".repeat(700);
    let requests: String = (0..60)
        .map(|i| format!("POST /{i} HTTP/1.1\r\nhost: a\r\nx: {padding}\r\ncontent-length: 3\r\n\r\nabc"))
        .collect();
    client.send(requests).await;
    for i in 0..60 {
        assert_eq!(client.answer().await.body, format!("POST /{i} abc"));
    }
}

#[tokio::test]
async fn a_request_may_arrive_byte_by_byte() {
    let server = Server::start();
    let mut client = server.connect().await;
    let post = "POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;e=f\r\nhello\r\n0\r\n\r\n";
    for byte in post.bytes().chain(GET.bytes()) {
        client.send([byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(client.answer().await.body, "POST /x hello");
    assert_eq!(client.answer().await.body, "GET /a ");
}

#[tokio::test]
async fn large_bodies_pass_whole_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = server.connect().await;
    let body = vec![b'b'; 300_000];
    client.send(format!("POST /l HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    client.send(&body).await;
    assert_eq!(client.answer().await.body, "POST /l 300000 bytes");

    client.send("POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    for chunk in body.chunks(7777) {
        client.send(format!("{:x}\r\n", chunk.len())).await;
        client.send(chunk).await;
        client.send("\r\n").await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.body, "POST /c 300000 bytes");
    assert_eq!(client.call(GET).await.body, "GET /a ");
}

#[tokio::test]
async fn a_large_head_passes() {
    let server = Server::start();
    let mut client = server.connect().await;
    let field = "v".repeat(30_000);
    assert_eq!(client.call(format!("GET /h HTTP/1.1\r\nhost: a\r\nx: {field}\r\n\r\n")).await.status, 200);
    assert_eq!(client.call(GET).await.status, 200);
}

#[tokio::test]
async fn http_1_0_is_served_and_closed_unless_it_asks_for_more() {
    let server = Server::start();
    let mut client = server.connect().await;
    let answer = client.call("GET /a HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").await;
    assert!(answer.head.contains("connection: keep-alive"), "{}", answer.head);
    assert_eq!(client.call("GET /b HTTP/1.0\r\n\r\n").await.body, "GET /b ");
    client.ends().await;
}

#[tokio::test]
async fn head_answers_have_no_body_and_the_connection_goes_on() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("HEAD /a HTTP/1.1\r\nhost: a\r\n\r\nGET /unread HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut text = String::new();
    while !text.ends_with("unread") {
        let mut chunk = [0; 1024];
        let count = soon(tokio::io::AsyncReadExt::read(&mut client.stream, &mut chunk)).await.expect("read");
        assert!(count > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
    assert_eq!(text.matches("HTTP/1.1 ").count(), 2, "{text}");
}

#[tokio::test]
async fn connection_close_is_honored() {
    let server = Server::start();
    let mut client = server.connect().await;
    let answer = client.call("GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n").await;
    assert!(answer.closes());
    client.ends().await;
    assert_eq!(server.calls(), ["GET /a"], "what was pipelined behind it is not served");
}

#[tokio::test]
async fn a_connection_is_closed_after_its_last_allowed_request() {
    let server = Server::limited(|limits| limits.max_requests_per_connection = 2);
    let mut client = server.connect().await;
    assert!(!client.call(GET).await.closes());
    assert!(client.call(GET).await.closes());
    client.ends().await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_call_even_with_pipelined_bytes_behind() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("GET /wait HTTP/1.1\r\nhost: a\r\n\r\nGET /next HTTP/1.1\r\nhost: a\r\n\r\n").await;
    server.begun().await;
    drop(client);
    soon(server.echo.dropped.acquire()).await.expect("the call was dropped").forget();
    assert_eq!(server.calls(), ["GET /wait"]);
}

#[tokio::test]
async fn expect_continue_is_answered_when_the_body_is_wanted() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 100);
    assert_eq!(client.call("ok").await.body, "POST /x ok");
    assert_eq!(client.call(GET).await.status, 200);
}

#[tokio::test]
async fn a_refused_expect_closes_without_asking_for_the_body() {
    let server = Server::start();
    let mut client = server.connect().await;
    let answer =
        client.call("POST /unread HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n").await;
    assert_eq!((answer.status, answer.closes()), (403, true));
    client.ends().await;
}

#[tokio::test]
async fn an_unread_body_is_never_taken_for_a_request() {
    let smuggled = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    // All there, in parts, and chunked.
    for pause in [false, true] {
        let server = Server::start();
        let mut client = server.connect().await;
        let body = smuggled.repeat(200);
        let head = format!("POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        if pause {
            assert_eq!(client.call(head).await.status, 403);
            client.send(&body).await;
        } else {
            assert_eq!(client.call(head + &body).await.status, 403);
        }
        assert_eq!(client.call(GET).await.body, "GET /a ");
        client.send("POST /unread HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
        assert_eq!(client.answer().await.status, 403);
        client.send(format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len())).await;
        assert_eq!(client.call(GET).await.body, "GET /a ");
        assert_eq!(server.calls(), ["POST /unread", "GET /a", "POST /unread", "GET /a"]);
    }
}

#[tokio::test]
async fn a_large_unread_body_closes_the_connection_and_says_so() {
    let server = Server::start();
    let mut client = server.connect().await;
    let answer = client.call("POST /unread HTTP/1.1\r\nhost: a\r\ncontent-length: 1048576\r\n\r\nx").await;
    assert_eq!((answer.status, answer.closes()), (403, true));
    client.ends().await;
}

#[tokio::test]
async fn an_endless_unread_body_is_discarded_up_to_a_bound() {
    let server = Server::start();
    let mut client = server.connect().await;
    client.send("POST /unread HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert_eq!(client.answer().await.status, 403);
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
    // More than the bound and all that the sockets hold.
    let flood =
        async { while tokio::io::AsyncWriteExt::write_all(&mut client.stream, chunk.as_bytes()).await.is_ok() {} };
    soon(flood).await;
    assert_eq!(server.calls(), ["POST /unread"]);
}

#[tokio::test]
async fn connections_over_the_limit_wait() {
    let server = Server::limited(|limits| limits.max_connections = 1);
    let mut first = server.connect().await;
    assert_eq!(first.call(GET).await.status, 200);
    let mut second = server.connect().await;
    second.send(GET).await;
    assert_eq!(first.call(GET).await.status, 200);
    assert_eq!((server.stats.counts().accepted, server.stats.open()), (1, 1));
    drop(first);
    assert_eq!(second.answer().await.status, 200);
}

#[tokio::test]
async fn a_broken_answer_never_looks_complete() {
    let server = Server::start();
    for version in ["1.0", "1.1"] {
        let mut client = server.connect().await;
        client.send(format!("GET /broken HTTP/{version}\r\nhost: a\r\n\r\n")).await;
        let mut bytes = Vec::new();
        let end = soon(tokio::io::AsyncReadExt::read_to_end(&mut client.stream, &mut bytes)).await;
        let text = String::from_utf8_lossy(&bytes);
        assert!(end.is_err() && text.contains("half"), "{version}: {end:?} {text}");
    }
}

#[tokio::test]
async fn a_call_that_panics_takes_down_its_connection_only() {
    let server = Server::start();
    let mut other = server.connect().await;
    assert_eq!(other.call(GET).await.status, 200);
    let mut client = server.connect().await;
    client.send("GET /panic HTTP/1.1\r\nhost: a\r\n\r\n").await;
    client.ends().await;
    assert_eq!(other.call(GET).await.status, 200);
    assert_eq!(server.stats.open(), 1);
}

#[tokio::test]
async fn a_client_that_closes_its_side_still_gets_what_is_answered_at_once() {
    let server = Server::start();
    for pipelined in [1, 3] {
        let mut client = server.connect().await;
        client.send(GET.repeat(pipelined)).await;
        tokio::io::AsyncWriteExt::shutdown(&mut client.stream).await.expect("half-closed");
        for _ in 0..pipelined {
            assert_eq!(client.answer().await.body, "GET /a ");
        }
        client.ends().await;
    }
}

/// A small generator: the cases are the same in every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// One random request and the body of its answer.
fn random_request(dice: &mut Dice, number: u64) -> (Vec<u8>, String) {
    let size = [0, 1, 90, 5_000, 20_000][dice.roll(5) as usize];
    // What looks like a request inside of a body must not become one.
    let body: String = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n".chars().cycle().take(size).collect();
    let unread = dice.roll(3) == 0;
    let path = if unread { "/unread".to_owned() } else { format!("/{number}") };
    let pad = "p".repeat(dice.roll(600) as usize);
    let mut request = format!("POST {path} HTTP/1.1\r\nhost: a\r\nx: {pad}\r\n").into_bytes();
    if dice.roll(2) == 0 {
        request.extend(format!("content-length: {size}\r\n\r\n{body}").bytes());
    } else {
        request.extend(b"transfer-encoding: chunked\r\n\r\n");
        let mut rest = body.as_bytes();
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(rest.len().min(1 + dice.roll(7_000) as usize));
            request.extend(format!("{:x}\r\n", chunk.len()).bytes());
            request.extend(chunk);
            request.extend(b"\r\n");
            rest = after;
        }
        request.extend(b"0\r\n\r\n");
    }
    let shown = if size > 100 { format!("{size} bytes") } else { body };
    (request, if unread { "unread".to_owned() } else { format!("POST {path} {shown}") })
}

#[tokio::test]
async fn any_pipeline_is_answered_in_order_however_it_arrives() {
    let server = Server::limited(|limits| {
        limits.sleep_after = std::time::Duration::from_millis(1);
        // Not what is tested here, and a loaded machine can take longer than the default.
        limits.discard_timeout = std::time::Duration::from_secs(60);
        limits.head_timeout = limits.discard_timeout;
    });
    let mut dice = Dice(7);
    for _ in 0..40 {
        let (requests, answers): (Vec<_>, Vec<_>) = (0..8).map(|number| random_request(&mut dice, number)).unzip();
        let bytes = requests.concat();
        let mut client = server.connect().await;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let most = [3, 100, 3_000, 100_000][dice.roll(4) as usize];
            let (piece, after) = rest.split_at(rest.len().min(1 + dice.roll(most) as usize));
            client.send(piece).await;
            for _ in 0..dice.roll(4) {
                tokio::task::yield_now().await;
            }
            rest = after;
        }
        for answer in answers {
            assert_eq!(client.answer().await.body, answer);
        }
    }
    assert!(!server.calls().iter().any(|call| call.contains("smuggled")));
    soon(async {
        while server.stats.open() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn interim_responses_go_out_whole_and_before_their_answer() {
    let server = Server::start();
    let mut client = server.connect().await;
    let post = "POST /hint/b HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    let get = "GET /hint/a HTTP/1.1\r\nhost: a\r\n\r\n";
    for _ in 0..20 {
        client.send(format!("{get}{get}{post}hello{GET}{get}")).await;
        for (answer, hints) in [("GET /hint/a ", 2), ("GET /hint/a ", 2), ("POST /hint/b hello", 2), ("GET /a ", 0)] {
            let mut seen = 0;
            loop {
                let next = client.answer().await;
                match next.status {
                    100 => {}
                    103 => seen += 1,
                    200 => {
                        assert_eq!((next.body.as_str(), seen), (answer, hints));
                        break;
                    }
                    status => panic!("{status}"),
                }
            }
        }
        while client.answer().await.status != 200 {}
    }
    client.send(post).await;
    let mut seen = Vec::new();
    while seen.last() != Some(&100) {
        seen.push(client.answer().await.status);
    }
    client.send("hello").await;
    while seen.last() != Some(&200) {
        seen.push(client.answer().await.status);
    }
    assert_eq!(seen, [103, 100, 103, 200]);
}
