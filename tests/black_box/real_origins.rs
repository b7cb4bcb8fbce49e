//! Origins of others: what nginx answers arrives as it was sent, and what HAProxy reads is what the gate has validated.

use std::thread;

use crate::harness::{Call, Gate, Origin, Raw, Reply, Seen, Server, Session, Setup};

/// Fields that the gate adds, and those of one hop.
const BETWEEN: [&str; 9] = [
    "connection",
    "keep-alive",
    "transfer-encoding",
    "date",
    "via",
    "x-request-id",
    "x-correlation-id",
    "session-id",
    "session-expires-in",
];

/// nginx with files, redirects, errors, compression, uploads, and connections that it ends after a few calls.
fn nginx() -> Server {
    let server = Server::nginx(
        r#"
        keepalive_requests 7;
        client_max_body_size 64m;
        location /empty { return 204; }
        location /moved { return 302 http://elsewhere.test/new?a=b; }
        location /gone { return 410 "gone for good"; }
        location /target { default_type text/plain; return 200 "$request_method $request_uri"; }
        location /identity { default_type text/plain; return 200 "$http_client_id $http_session_id $http_x_sg_subject"; }
        location /closing { keepalive_timeout 0; return 200 "and good bye"; }
        location /chunked { alias {dir}/www/; sub_filter_types *; sub_filter nothing something; }
        location /packed { alias {dir}/www/; gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; }
        location /uploads/ { dav_methods PUT DELETE; create_full_put_path on; }
        "#,
    );
    server.write("small.txt", "a small file\n");
    server.write("large.txt", large());
    server.write("none.txt", "");
    server
}

/// A megabyte that does not repeat soon.
fn large() -> Vec<u8> {
    (0..1_000_000_u32).map(|n| b' ' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 90).collect()
}

/// What of an answer must not change on its way.
fn essence(reply: &Reply) -> (u16, Vec<(String, String)>, &[u8], bool) {
    let kept = |(name, _): &&(String, String)| !BETWEEN.contains(&name.as_str());
    let mut fields: Vec<_> = reply.fields.iter().filter(kept).cloned().collect();
    fields.sort();
    (reply.status, fields, &reply.body, reply.complete)
}

#[track_caller]
fn ask(address: &str, call: &Call, method: &str) -> Reply {
    let mut raw = Raw::connect(address.trim_start_matches("http://").parse().expect("an address"));
    raw.send(call.bytes());
    raw.reply_to(method)
}

#[test]
fn what_nginx_answers_arrives_as_it_was_sent() {
    let nginx = nginx();
    let gate = Gate::file_less(&nginx.url());
    let session = gate.open();
    let etag = ask(&nginx.url(), &session.get("/small.txt"), "GET").field("etag").expect("an etag").to_owned();
    let mut calls = Vec::new();
    for method in ["GET", "HEAD"] {
        for target in [
            "/small.txt",
            "/large.txt",
            "/none.txt",
            "/missing.txt",
            "/empty",
            "/moved",
            "/gone",
            "/closing",
            "/chunked/small.txt",
            "/chunked/large.txt",
            "/packed/large.txt",
            "/target/a%20b;v=1/%2520?q=%2B+%252F&e=&k",
        ] {
            calls.push((method, session.call(method, target)));
        }
    }
    calls.push(("GET", session.get("/small.txt").field("if-none-match", &etag)));
    calls.push(("GET", session.get("/large.txt").field("range", "bytes=10-29")));
    calls.push(("GET", session.get("/large.txt").field("range", "bytes=0-9,100-109")));
    calls.push(("GET", session.get("/large.txt").field("range", "bytes=9000000-")));
    calls.push(("GET", session.get("/packed/large.txt").field("accept-encoding", "gzip")));
    calls.push(("POST", session.post("/small.txt", "{}")));
    // Over one connection of the client, so that one answer read wrongly spoils the next.
    let mut raw = gate.connect();
    for (method, call) in calls {
        let direct = ask(&nginx.url(), &call, method);
        raw.send(call.bytes());
        let through = raw.reply_to(method);
        // The boundary between several ranges is a new one each time.
        if direct.text().contains("Content-Range") {
            assert_eq!((through.status, through.body.len()), (direct.status, direct.body.len()));
            continue;
        }
        assert_eq!(essence(&through), essence(&direct), "{:?}", String::from_utf8_lossy(&call.head()));
    }
}

#[test]
fn nginx_reads_the_target_and_the_identity_as_they_were_validated() {
    let nginx = nginx();
    let gate = Gate::file_less(&nginx.url());
    let session = gate.open();
    for target in
        ["/target/%7Eu/c%20d;v=1/%2520x?q=%2B+%252F&e=&k&m=a%26b&s=%2f", "/target//a//b", "/target/q?name=Zoë"]
    {
        assert_eq!(gate.send(&session.get(target)).text(), format!("GET {target}"));
    }
    let told = gate.send(&session.get("/identity").field("x-sg-subject", "somebody-else")).text();
    assert_eq!(told, format!("{} {} buyer-1", crate::harness::CLIENT, session.id));
}

#[test]
fn uploads_of_any_size_and_framing_arrive_whole_at_nginx() {
    let nginx = nginx();
    let gate = Gate::file_less(&nginx.url());
    let session = gate.open();
    let large = large();
    let mut raw = gate.connect();
    for (name, body) in [("none", &b""[..]), ("small", b"{}"), ("large", &large)] {
        raw.exchange(&session.call("PUT", &format!("/uploads/{name}")).body(body)).assert_status(201);
        let chunked = session.call("PUT", &format!("/uploads/{name}-chunked")).field("transfer-encoding", "chunked");
        raw.send(chunked.head());
        for piece in body.chunks(70_000) {
            raw.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        }
        raw.send("0\r\n\r\n");
        raw.reply_to("PUT").assert_status(201);
        for stored in [name.to_owned(), format!("{name}-chunked")] {
            let file = std::fs::read(nginx.dir().join("www/uploads").join(&stored)).expect("nginx has stored it");
            assert!(file == body, "{stored}: {} of {} bytes", file.len(), body.len());
        }
    }
}

/// nginx ends a connection after seven calls; whoever shares it must not notice, whatever the method.
#[test]
fn connections_that_nginx_ends_are_never_noticed() {
    let nginx = nginx();
    let gate = Setup::file_less(&nginx.url()).args(&["--workers", "1"]).start();
    let session = gate.open();
    thread::scope(|scope| {
        for client in 0..8 {
            let (gate, session) = (&gate, &session);
            scope.spawn(move || {
                let mut raw = gate.connect();
                for call in 0..100 {
                    let name = format!("/uploads/{client}-{call}");
                    raw.exchange(&session.call("PUT", &name).body(b"{}")).assert_status(201);
                    raw.exchange(&session.get("/small.txt")).assert_status(200);
                }
            });
        }
    });
}

/// How a request arrived, without what belongs to a hop or is new for each call.
fn arrived(seen: &Seen) -> (String, String, Vec<(String, String)>, Vec<u8>, bool) {
    let own = ["connection", "x-request-id", "traceparent", "transfer-encoding", "content-length", "x-forwarded-for"];
    let mut fields: Vec<_> = seen.fields.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    fields.retain(|(name, _)| !own.contains(&name.as_str()));
    fields.sort();
    (seen.method.clone(), seen.target.clone(), fields, seen.body.clone(), seen.complete)
}

/// Calls that parsers have been known to disagree on, but which are right.
fn unusual(session: &Session) -> Vec<(&'static str, Vec<u8>)> {
    let chunked =
        |call: Call, chunks: &str| [&call.field("transfer-encoding", "chunked").head(), chunks.as_bytes()].concat();
    let many = (0..60).fold(session.get("/many"), |call, n| call.field(&format!("x-field-{n}"), "value"));
    vec![
        ("GET", session.get("/c%20d;v=1/%2520x/e%3ff/%7Eu?q=%2B+%252F&e=&k&m=a%26b&s=%2f").bytes()),
        ("GET", session.get("/a//b/?x=//y/../z").bytes()),
        ("GET", session.get("/long?").to("GET", &format!("/long?q={}", "x".repeat(6000))).bytes()),
        (
            "GET",
            session.get("/values").field("x-empty", "").field("x-tabs", "a\tb").field("x-commas", "a, b,,c").bytes(),
        ),
        (
            "GET",
            session.get("/twice").field("x-twice", "one").field("x-twice", "two").field("cookie", "a=1; b=2").bytes(),
        ),
        ("GET", many.bytes()),
        ("HEAD", session.call("HEAD", "/head").bytes()),
        ("DELETE", session.call("DELETE", "/orders/7").bytes()),
        ("OPTIONS", session.call("OPTIONS", "/orders").bytes()),
        ("POST", session.post("/sized", r#"{"n":1}"#).bytes()),
        ("POST", session.post("/nothing", "").bytes()),
        (
            "POST",
            chunked(
                session.call("POST", "/chunks").field("content-type", "application/json"),
                "3\r\n{\"a\r\n3\r\n\":1\r\n1\r\n}\r\n0\r\n\r\n",
            ),
        ),
        (
            "PUT",
            chunked(
                session.call("PUT", "/upper").field("content-type", "application/json"),
                "A\r\n0123456789\r\n0\r\n\r\n",
            ),
        ),
        ("PATCH", session.call("PATCH", "/patch").field("content-type", "application/json").body("{}").bytes()),
        ("GET", session.get("/hops").field("connection", "x-hop").field("x-hop", "1").field("te", "trailers").bytes()),
    ]
}

#[test]
fn haproxy_reads_what_the_gate_sends_as_the_origin_does() {
    let (near, far) = (Origin::start(), Origin::start());
    let haproxy = Server::haproxy(far.address(), "option http-keep-alive");
    let (direct, through) = (Gate::file_less(&near.url()), Gate::file_less(&haproxy.url()));
    let session = direct.open();
    // With the same token: one of another second would differ.
    let other = through.open_as(&session.token, &session.client);
    let (mut straight, mut around) = (direct.connect(), through.connect());
    for ((method, bytes), (_, same)) in unusual(&session).into_iter().zip(unusual(&other)) {
        straight.send(&bytes);
        straight.reply_to(method).assert_status(200);
        around.send(&same);
        around.reply_to(method).assert_status(200);
        let (mut one, mut two) = (arrived(&near.last()), arrived(&far.last()));
        // Different sessions, different ports.
        for (fields, id) in [(&mut one.2, &session.id), (&mut two.2, &other.id)] {
            fields.retain(|(name, value)| name != "forwarded" && !(name == "session-id" && value == id));
        }
        assert_eq!(one, two, "{}", String::from_utf8_lossy(&bytes));
    }
    assert_eq!(near.calls(), far.calls());
}

#[test]
fn what_haproxy_refuses_by_itself_is_told_as_it_is() {
    let origin = Origin::start();
    let haproxy =
        Server::haproxy(origin.address(), "http-request deny deny_status 429 hdr retry-after 7 if { path /busy }");
    let gate = Gate::file_less(&haproxy.url());
    let session = gate.open();
    let mut raw = gate.connect();
    let direct = ask(&haproxy.url(), &session.get("/busy"), "GET");
    let through = raw.exchange(&session.get("/busy"));
    assert_eq!(essence(&through), essence(&direct));
    assert_eq!((through.status, through.field("retry-after")), (429, Some("7")));
    raw.exchange(&session.get("/orders")).assert_status(200);
    assert_eq!(origin.calls(), 1);
}
