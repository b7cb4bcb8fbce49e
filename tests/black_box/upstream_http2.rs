//! Upstreams that speak HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response};
use tokio::sync::Semaphore;

use crate::harness::{
    Authority, CLIENT, Config, Frames, Gate, Http2Call, Http2Origin, SecureOrigin, Setup, eventually,
};

fn prior(origin: &Http2Origin) -> Gate {
    Gate::configured(&Config::speaking("http2", &origin.url()))
}

async fn echo(mut call: Http2Call) {
    let Some(body) = call.body().await else { return };
    let head = Response::builder().header("x-connection", call.connection).body(()).expect("a head");
    if let Ok(mut stream) = call.respond.send_response(head, false) {
        let _ = stream.send_data(Bytes::from(body), true);
    }
}

#[test]
fn requests_are_rebuilt_for_http2() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Http2Origin::answering(None, 100, move |mut call| {
        let (head, method) = (call.request.headers().clone(), call.request.method().clone());
        let uri = call.request.uri().clone();
        tell.lock().expect("the channel").send((method, uri, head)).expect("the test listens");
        async move {
            call.body().await;
            call.reply(200, b"ok");
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let target = "/c%20d;v=1/%2520x/e%3ff?q=%2B+%252F&e=&s=%2f";
    let call = session
        .post(target, r#"{"n":1}"#)
        .field("te", "trailers")
        .field("connection", "x-hop, keep-alive")
        .field("x-hop", "1")
        .field("cookie", "a=1")
        .field("cookie", "b=2");
    let reply = gate.send(&call);
    reply.assert_status(200);
    assert_eq!(reply.text(), "ok");
    let (method, uri, head) = told.recv().expect("a call");
    assert_eq!((method.as_str(), uri.scheme_str()), ("POST", Some("http")));
    assert_eq!(uri.path_and_query().map(|target| target.as_str()), Some(target), "byte for byte");
    assert_eq!(
        uri.authority().map(|authority| authority.as_str()),
        call.fields.iter().find(|(name, _)| name == "host").map(|(_, host)| host.as_str())
    );
    let one = |name: &str| head.get_all(name).iter().map(|value| value.to_str().expect("text")).collect::<Vec<_>>();
    assert_eq!((one("te"), one("content-length"), one("cookie")), (vec!["trailers"], vec!["7"], vec!["a=1; b=2"]));
    assert_eq!((one("client-id"), one("session-id")), (vec![CLIENT], vec![session.id.as_str()]));
    for name in ["host", "connection", "keep-alive", "x-hop", "transfer-encoding"] {
        assert!(one(name).is_empty(), "{name}");
    }
    let head = gate.send(&session.call("HEAD", "/orders"));
    assert_eq!(head.status, 200);
}

#[test]
fn a_hundred_calls_at_once_share_one_connection() {
    let all = Arc::new(Semaphore::new(0));
    let (gathered, arrived) = (Arc::clone(&all), Arc::new(AtomicUsize::new(0)));
    let origin = Http2Origin::answering(None, 200, move |call| {
        let (all, arrived) = (Arc::clone(&gathered), Arc::clone(&arrived));
        async move {
            if arrived.fetch_add(1, Ordering::SeqCst) + 1 == 100 {
                all.add_permits(100);
            }
            all.acquire().await.expect("open").forget();
            echo(call).await;
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    std::thread::scope(|scope| {
        let gate = &gate;
        let calls: Vec<_> = (0..100)
            .map(|number| {
                let call = session.post(&format!("/{number}"), &format!("{{\"n\":{number}}}"));
                scope.spawn(move || gate.send(&call))
            })
            .collect();
        for (number, call) in calls.into_iter().enumerate() {
            let reply = call.join().expect("no panic");
            reply.assert_status(200);
            assert_eq!(reply.text(), format!("{{\"n\":{number}}}"));
        }
    });
    assert_eq!((origin.connections(), origin.most()), (1, 100));
}

#[test]
fn streams_are_as_many_as_the_upstream_allows_and_connections_as_many_as_the_file_allows() {
    let go = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&go);
    let origin = Http2Origin::answering(None, 2, move |call| {
        let go = Arc::clone(&waiting);
        async move {
            go.acquire().await.expect("open").forget();
            echo(call).await;
        }
    });
    let config = Config::speaking("http2", &origin.url())
        .upstream_setting("http2 = { max_connections = 2 }")
        .upstream_setting("connect_timeout = \"500ms\"");
    let gate = Gate::configured(&config);
    let session = gate.open();
    std::thread::scope(|scope| {
        let gate = &gate;
        let calls: Vec<_> = (0..4)
            .map(|number| {
                let call = session.get(&format!("/{number}"));
                scope.spawn(move || gate.send(&call))
            })
            .collect();
        eventually("four calls on two connections", || origin.seen().len() == 4);
        assert_eq!(origin.connections(), 2);
        gate.send(&session.get("/one-too-many")).assert_refused("upstream-unavailable");
        // Who waits gets the stream that is free next.
        let waits = session.get("/waits");
        let patient = scope.spawn(move || gate.send(&waits));
        go.add_permits(5);
        for call in calls {
            call.join().expect("no panic").assert_status(200);
        }
        patient.join().expect("no panic").assert_status(200);
    });
    assert_eq!(origin.connections(), 2);
}

#[test]
fn alpn_chooses_the_protocol() {
    let authority = Authority::new();
    let issued = authority.issue("localhost");
    let h2 = Http2Origin::answering(Some(authority.server(&issued, &[b"h2", b"http/1.1"], None)), 100, echo);
    let h1 = SecureOrigin::start(authority.server(&issued, &[b"http/1.1"], None));
    for (url, protocol, status) in
        [(h2.url(), "auto", 200), (h1.url(), "auto", 200), (h2.url(), "http2", 200), (h1.url(), "http2", 502)]
    {
        let config = Config::speaking(protocol, &url).upstream_setting("tls = { ca = \"{dir}/ca.pem\" }");
        let setup = Setup::configured(&config);
        setup.write("ca.pem", &authority.pem);
        let gate = setup.start();
        let session = gate.open();
        for _ in 0..3 {
            assert_eq!(gate.send(&session.get("/orders")).status, status, "{url} {protocol}");
        }
    }
    assert_eq!((h2.seen().len(), h2.connections()), (6, 2));
    assert_eq!(h1.connections(), 1 + 3, "one for auto, and a handshake for each call that needs HTTP/2");
}

#[test]
fn trailers_cross_both_ways_also_without_a_body() {
    let origin = Http2Origin::answering(None, 100, |mut call| async move {
        call.body().await;
        let sent = call.request.body_mut().trailers().await.ok().flatten().unwrap_or_default();
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("99"));
        trailers.insert("set-cookie", HeaderValue::from_static("no"));
        trailers.extend(sent);
        // HTTP/1.1 has room only for trailers that were announced.
        let head = Response::builder().header("trailer", "x-sum, x-mine").body(()).expect("a head");
        let mut stream = call.respond.send_response(head, false).expect("sent");
        if call.request.uri().path() == "/body" {
            stream.send_data(Bytes::from_static(b"hello"), false).expect("sent");
        }
        stream.send_trailers(trailers).expect("sent");
    });
    let gate = prior(&origin);
    let session = gate.open();
    for (target, body) in [("/body", "hello"), ("/empty", "")] {
        let call = session.get(target).field("te", "trailers");
        for reply in [gate.send(&call), gate.http2().exchange(&call)] {
            assert_eq!((reply.text().as_str(), reply.field("x-sum")), (body, None));
            assert_eq!(reply.trailers, [("x-sum".to_owned(), "99".to_owned())], "{}", reply.version);
        }
    }
    let mut raw = gate.connect();
    let head = session
        .call("POST", "/body")
        .field("te", "trailers")
        .field("transfer-encoding", "chunked")
        .field("content-type", "application/json");
    raw.send(head.head());
    raw.send("2\r\n{}\r\n0\r\nx-mine: 7\r\nclient-id: evil\r\n\r\n");
    let reply = raw.reply();
    assert!(reply.trailers.contains(&("x-mine".to_owned(), "7".to_owned())), "{reply:?}");
    assert!(!reply.trailers.iter().any(|(name, _)| name == "client-id"), "{reply:?}");
}

#[test]
fn an_answer_that_is_cut_never_looks_whole() {
    let origin = Http2Origin::answering(None, 100, |mut call| async move {
        let reason = match call.request.uri().path() {
            "/no-error" => Reason::NO_ERROR,
            "/cancel" => Reason::CANCEL,
            "/whole" => return echo(call).await,
            _ => Reason::INTERNAL_ERROR,
        };
        let mut stream = call.respond.send_response(Response::new(()), false).expect("sent");
        stream.send_data(Bytes::from_static(b"half"), false).expect("sent");
        tokio::time::sleep(Duration::from_millis(50)).await;
        stream.send_reset(reason);
    });
    let gate = prior(&origin);
    let session = gate.open();
    for target in ["/no-error", "/cancel", "/internal"] {
        let reply = gate.connect().exchange(&session.get(target));
        assert!(!reply.complete, "{target} {reply:?}");
        let mut http2 = gate.http2();
        let pending = http2.start(&session.get(target));
        if let Ok(reply) = http2.try_finish(pending) {
            assert!(!reply.complete, "{target} {reply:?}");
        }
    }
    gate.send(&session.get("/whole")).assert_status(200);
    assert_eq!(origin.connections(), 1, "a stream that fails takes no other along");
}

#[test]
fn lengths_that_contradict_each_other_or_the_body_never_look_whole() {
    let origin = Http2Origin::answering(None, 100, |mut call| async move {
        let lengths = match call.request.uri().path() {
            "/two" => &["2", "3"][..],
            "/short" => &["3"],
            "/long" => &["1"],
            _ => &["2", "2"],
        };
        let mut head = Response::new(());
        for length in lengths {
            head.headers_mut().append("content-length", HeaderValue::from_static(length));
        }
        if let Ok(mut stream) = call.respond.send_response(head, false) {
            let _ = stream.send_data(Bytes::from_static(b"ok"), true);
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    for (target, whole) in [("/two", false), ("/short", false), ("/long", false), ("/same", true)] {
        let reply = gate.connect().exchange(&session.get(target));
        assert_eq!(reply.status == 200 && reply.complete, whole, "{target} {reply:?}");
        assert!(reply.all("content-length").len() <= 1, "{reply:?}");
    }
}

#[test]
fn values_that_http1_would_read_otherwise_are_no_answer() {
    let origin = Http2Origin::answering(None, 100, |mut call| async move {
        let padded = HeaderValue::from_static("\t1");
        match call.request.uri().path() {
            "/head" => {
                let head = Response::builder().header("x-sum", padded).body(()).expect("a head");
                _ = call.respond.send_response(head, true).expect("sent");
            }
            "/interim" => {
                let head = Response::builder().status(103).header("link", padded).body(()).expect("a head");
                call.respond.send_informational(head).expect("sent");
                call.reply(200, b"ok");
            }
            _ => {
                let head = Response::builder().header("trailer", "x-sum").body(()).expect("a head");
                let mut stream = call.respond.send_response(head, false).expect("sent");
                stream.send_data(Bytes::from_static(b"hello"), false).expect("sent");
                stream.send_trailers(HeaderMap::from_iter([("x-sum".parse().expect("a name"), padded)])).expect("sent");
            }
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    for target in ["/head", "/interim"] {
        gate.send(&session.get(target)).assert_refused("upstream-failed");
    }
    let reply = gate.send(&session.get("/trailers").field("te", "trailers"));
    assert!(!reply.complete && reply.trailers.is_empty(), "{reply:?}");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn a_goodbye_during_calls_loses_none_and_repeats_none() {
    let origin = Http2Origin::answering(None, 100, |call| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        echo(call).await;
    });
    let gate = prior(&origin);
    let session = gate.open();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (gate, session) = (&gate, &session);
            scope.spawn(move || {
                for number in 0..15 {
                    let target = if number == 7 { "/goodbye".to_owned() } else { format!("/{worker}-{number}") };
                    let reply = gate.send(&session.post(&target, "{}"));
                    assert_eq!(reply.status, 200, "{target}: {}", reply.text());
                }
            });
        }
    });
    let seen = origin.seen();
    for worker in 0..4 {
        for number in (0..15).filter(|number| *number != 7) {
            let target = format!("POST /{worker}-{number}");
            assert_eq!(seen.iter().filter(|(_, seen)| *seen == target).count(), 1, "{target}");
        }
    }
    assert!(origin.connections() > 1);
}

#[test]
fn a_refused_stream_is_tried_again_and_a_failed_post_is_not() {
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let origin = Http2Origin::answering(None, 100, move |mut call| {
        let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            match call.request.uri().path() {
                "/refused" if first => call.respond.send_reset(Reason::REFUSED_STREAM),
                "/failed" => call.respond.send_reset(Reason::INTERNAL_ERROR),
                _ => echo(call).await,
            }
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let reply = gate.send(&session.post("/refused", r#"{"n":1}"#));
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"n":1}"#));
    assert_eq!(tries.load(Ordering::SeqCst), 2);
    gate.send(&session.post("/failed", "{}")).assert_refused("upstream-failed");
    assert_eq!(tries.load(Ordering::SeqCst), 3);
}

#[test]
fn a_client_that_leaves_cancels_its_stream_and_nothing_else() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Http2Origin::answering(None, 100, move |mut call| {
        let tell = tell.lock().expect("the channel").clone();
        async move {
            if call.request.uri().path() != "/slow" {
                return echo(call).await;
            }
            let mut stream = call.respond.send_response(Response::new(()), false).expect("sent");
            stream.send_data(Bytes::from_static(b"begun"), false).expect("sent");
            let reason = std::future::poll_fn(|context| stream.poll_reset(context)).await;
            let _ = tell.send(reason.ok());
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/slow").bytes());
    assert_eq!(raw.next_head().expect("a head").status, 200);
    drop(raw);
    let reason = told.recv_timeout(Duration::from_secs(10)).expect("a reset");
    assert_eq!(reason, Some(Reason::CANCEL));
    gate.send(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn large_bodies_cross_both_ways_and_a_slow_client_stops_nobody() {
    let origin = Http2Origin::answering(None, 100, |mut call| async move {
        if call.request.uri().path() != "/large" {
            return echo(call).await;
        }
        let mut stream = call.respond.send_response(Response::new(()), false).expect("sent");
        for _ in 0..64 {
            let piece = Bytes::from(vec![b'x'; 64 * 1024]);
            stream.reserve_capacity(piece.len());
            while stream.capacity() < piece.len() {
                if std::future::poll_fn(|context| stream.poll_capacity(context)).await.is_none() {
                    return;
                }
            }
            stream.send_data(piece, false).expect("sent");
        }
        let _ = stream.send_data(Bytes::new(), true);
    });
    let gate = prior(&origin);
    let session = gate.open();
    let body = format!("{{\"x\":\"{}\"}}", "y".repeat(3_000_000));
    assert_eq!(gate.send(&session.post("/echo", &body)).text(), body);
    let slow: Vec<_> = (0..8)
        .map(|_| {
            let mut raw = gate.connect();
            raw.send(session.get("/large").bytes());
            raw
        })
        .collect();
    assert_eq!(gate.send(&session.post("/echo", &body)).text(), body);
    for mut raw in slow {
        assert_eq!(raw.reply().body.len(), 64 * 64 * 1024);
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_upload_that_breaks_off_resets_its_stream() {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let origin = Http2Origin::answering(None, 100, move |mut call| {
        let tell = tell.lock().expect("the channel").clone();
        async move {
            let whole = call.body().await.is_some();
            let _ = tell.send(whole);
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(
        session.call("POST", "/orders").field("content-type", "application/json").field("content-length", "100").head(),
    );
    raw.send("{\"half\":");
    eventually("the call begins", || origin.seen().len() == 1);
    drop(raw);
    assert!(!told.recv_timeout(Duration::from_secs(10)).expect("an end"), "a part was taken for the whole");
}

#[test]
fn a_server_of_http1_is_no_upstream_for_http2_and_a_silent_one_504() {
    let origin = crate::harness::Origin::start();
    let gate = Gate::configured(&Config::speaking("http2", &origin.url()).upstream_setting("connect_timeout = \"1s\""));
    let session = gate.open();
    let reply = gate.send(&session.get("/orders"));
    assert!(matches!(reply.status, 502 | 504), "{reply:?}");
    assert!(origin.seen().iter().all(|seen| !seen.target.contains("orders")), "no call goes there");

    let origin = Http2Origin::answering(None, 100, |call| async move {
        let _kept = call;
        std::future::pending::<()>().await;
    });
    let gate =
        Gate::configured(&Config::speaking("http2", &origin.url()).upstream_setting("response_timeout = \"500ms\""));
    gate.send(&gate.open().post("/orders", "{}")).assert_refused("upstream-timeout");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn early_hints_and_empty_answers_come_as_they_are() {
    let origin = Http2Origin::answering(None, 100, |mut call| async move {
        match call.request.uri().path() {
            "/hints" => {
                let hints = Response::builder().status(103).header("link", "</a.css>").body(()).expect("a head");
                call.respond.send_informational(hints).expect("sent");
                call.reply(200, b"ok");
            }
            "/204" => call.reply(204, b""),
            _ => call.reply(304, b""),
        }
    });
    let gate = prior(&origin);
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/hints").bytes());
    let hints = raw.next_head().expect("hints");
    assert_eq!((hints.status, hints.field("link")), (103, Some("</a.css>")));
    assert_eq!(raw.reply().text(), "ok");
    for (target, status) in [("/204", 204), ("/304", 304)] {
        let reply = raw.exchange(&session.get(target));
        assert_eq!((reply.status, reply.body.len()), (status, 0));
    }
    raw.assert_in_step();
}

#[test]
fn a_switch_of_protocols_goes_by_http1_where_that_is_offered() {
    let authority = Authority::new();
    let server = authority.server(&authority.issue("localhost"), &[b"h2", b"http/1.1"], None);
    let origin = SecureOrigin::answering(server, |_, line| {
        use std::io::Write;
        let agreed = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello";
        line.write_all(agreed).and_then(|()| line.flush()).is_ok()
    });
    let setup =
        Setup::configured(&Config::speaking("auto", &origin.url()).upstream_setting("tls = { ca = \"{dir}/ca.pem\" }"));
    setup.write("ca.pem", &authority.pem);
    let gate = setup.start();
    let session = gate.open();
    let mut raw = gate.connect();
    raw.send(session.get("/tunnel").field("connection", "upgrade").field("upgrade", "websocket").bytes());
    assert_eq!(raw.next_head().expect("an answer").status, 101);
}

#[test]
fn an_http2_upload_that_ends_with_an_empty_frame_is_ended_once() {
    let origin = Http2Origin::answering(None, 100, echo);
    let gate = prior(&origin);
    let session = gate.open();
    let bearer = format!("Bearer {}", session.token);
    let mut frames = Frames::connect(gate.address());
    let head = |method| session.http2(&bearer, method);
    frames.headers(1, &head("POST"), false);
    frames.data(1, b"hello", false);
    frames.data(1, b"", true);
    assert!(frames.find(|frame| frame.ends(1)).is_some());
    frames.headers(3, &head("GET"), true);
    assert!(frames.find(|frame| frame.ends(3)).is_some());
    assert_eq!(origin.seen().len(), 2);
}
