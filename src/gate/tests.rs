//! The line from head to admission, without sockets.

use std::time::Duration;

use http::{Method, Request};
use jsonwebtoken::{EncodingKey, Header, encode};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::keys::VerificationKey;
use crate::auth::{Authenticator, Issuer};
use crate::config::Snapshot;
use crate::config::clients::Registry;
use crate::policy::claims::ClaimRules;
use crate::policy::head::RawHead;
use crate::policy::route::Route;
use crate::store::memory::MemoryStore;
use crate::testing;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn snapshot() -> Snapshot {
    let keys = vec![VerificationKey::from_secret(SECRET, None, &[]).unwrap()];
    let auth =
        Authenticator::new(vec![Issuer::with_keys("main", ClaimRules::default(), keys)], Default::default(), 100);
    testing::snapshot(auth)
}

fn token(client: &str, subject: &str) -> String {
    let claims = json!({"sub": subject, "client_id": client, "exp": 4_000_000_000u64});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap()
}

fn gate() -> Gate {
    Gate::new(AnyStore::Memory(MemoryStore::default()), Clock::default())
}

fn call(method: Method, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder().method(method).uri(path).header("host", "shop");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// What became of a call, by name.
async fn admit(gate: &Gate, live: &Snapshot, request: &Request<()>) -> Result<&'static str, Rejection> {
    let raw = RawHead::from(request);
    let head = Head::parse(raw, &live.names, &live.via)?;
    let now = gate.clock().now();
    Ok(match gate.admit(live, &head, now, &TokenMemo::default(), &mut Known::default()).await? {
        Admission::Forward(..) => "forward",
        Admission::Open(open) => {
            gate.open(&open, b"", live, now).await?;
            "open"
        }
        Admission::Read(_) => "read",
        Admission::End(owned) => {
            gate.close(&owned, now).await?;
            "end"
        }
        Admission::KeySet => "key set",
        Admission::Repeat(_) => "repeat",
    })
}

async fn session(gate: &Gate, live: &Snapshot, client: &str, subject: &str) -> String {
    let bearer = format!("Bearer {}", token(client, subject));
    let request = call(Method::POST, "/session", &[("authorization", &bearer), ("client-id", client)]);
    let raw = RawHead::from(&request);
    let head = Head::parse(raw, &live.names, &live.via).unwrap();
    let now = gate.clock().now();
    match gate.admit(live, &head, now, &TokenMemo::default(), &mut Known::default()).await.unwrap() {
        Admission::Open(open) => gate.open(&open, b"", live, now).await.unwrap().id.reveal(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_registry_makes_of_a_token_is_remembered_until_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clients.toml");
    std::fs::write(&path, "[[client]]\nid = \"a\"\nscopes = [\"read\"]\n").unwrap();
    let mut live = snapshot();
    live.clients = Some(Registry::load(&path).unwrap());
    let claims = json!({"sub": "s", "client_id": "a", "scope": "read write", "exp": 4_000_000_000u64});
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET)).unwrap();
    let memo = TokenMemo::default();

    let first = memo.recall(&live, &token).unwrap();
    let second = memo.recall(&live, &token).unwrap();
    assert!(first.is_allowed() && Arc::ptr_eq(first.caller(), second.caller()), "a warm call makes nothing anew");
    assert_eq!(&**first.caller().scope(), "read");

    std::fs::write(&path, "[[client]]\nid = \"a\"\nenabled = false\n").unwrap();
    live.clients.as_ref().unwrap().reload().unwrap();
    let third = memo.recall(&live, &token).unwrap();
    assert_eq!((third.is_allowed(), &**third.caller().scope()), (false, "read write"));
}

#[tokio::test]
async fn only_the_valid_triple_is_forwarded() {
    let (gate, live) = (gate(), snapshot());
    let id = session(&gate, &live, "a", "s").await;
    let bearer = format!("Bearer {}", token("a", "s"));
    let all = [("authorization", bearer.as_str()), ("client-id", "a"), ("session-id", &id)];
    assert_eq!(admit(&gate, &live, &call(Method::GET, "/orders", &all)).await, Ok("forward"));
    assert_eq!(admit(&gate, &live, &call(Method::GET, "/session", &all)).await, Ok("read"));
    for left_out in 0..3 {
        let fields: Vec<_> =
            all.iter().enumerate().filter(|(place, _)| *place != left_out).map(|(_, field)| *field).collect();
        assert!(admit(&gate, &live, &call(Method::GET, "/orders", &fields)).await.is_err());
    }
    let other = format!("Bearer {}", token("a", "someone else"));
    let stolen = [("authorization", other.as_str()), ("client-id", "a"), ("session-id", &id)];
    assert_eq!(admit(&gate, &live, &call(Method::GET, "/orders", &stolen)).await, Err(Rejection::SessionForeign));
    assert_eq!(admit(&gate, &live, &call(Method::DELETE, "/session", &all)).await, Ok("end"));
    assert_eq!(admit(&gate, &live, &call(Method::DELETE, "/session", &all)).await, Ok("end"));
    assert_eq!(admit(&gate, &live, &call(Method::GET, "/orders", &all)).await, Err(Rejection::SessionClosed));
}

#[tokio::test]
async fn refused_calls_do_not_extend_a_session_and_clock_jumps_do_not_end_it() {
    let (gate, live) = (gate(), snapshot());
    let id = session(&gate, &live, "a", "s").await;
    let bearer = format!("Bearer {}", token("a", "s"));
    let good = call(Method::GET, "/orders", &[("authorization", &bearer), ("client-id", "a"), ("session-id", &id)]);
    let bad = call(Method::GET, "/orders", &[("authorization", &bearer), ("client-id", "b"), ("session-id", &id)]);
    gate.clock().jump_wall(3_600_000);
    assert_eq!(admit(&gate, &live, &good).await, Ok("forward"));
    gate.clock().jump_wall(-7_200_000);
    gate.clock().advance(live.sessions.lifetimes.idle - Duration::from_secs(10));
    assert_eq!(admit(&gate, &live, &bad).await, Err(Rejection::ClientMismatch));
    gate.clock().advance(Duration::from_secs(10));
    assert_eq!(admit(&gate, &live, &good).await, Err(Rejection::SessionExpired));
}

#[tokio::test]
async fn a_call_that_is_too_large_does_not_count() {
    let (gate, mut live) = (gate(), snapshot());
    let small = live.routes.routes()[1].clone();
    live.routes.add(Route { name: "small".into(), path: "/small".into(), max_body: Some(10), ..small }).unwrap();
    let id = session(&gate, &live, "a", "s").await;
    let bearer = format!("Bearer {}", token("a", "s"));
    let all = [("authorization", bearer.as_str()), ("client-id", "a"), ("session-id", &id)];
    let request = call(Method::POST, "/small", &all);
    for (length, calls) in [(11, 0), (10, 1)] {
        let raw = RawHead { has_body: true, ..RawHead::from(&request) };
        let head = Head::parse(raw, &live.names, &live.via).unwrap().with_body_length(Some(length));
        let mut known = Known::default();
        let outcome = gate.admit(&live, &head, gate.clock().now(), &TokenMemo::default(), &mut known).await;
        assert_eq!(outcome.err(), (calls == 0).then_some(Rejection::BodyTooLarge));
        let key = SessionId::parse(id.as_bytes()).unwrap().key();
        assert_eq!(gate.store().find(key).await.unwrap().unwrap().calls(), calls);
    }
}

#[tokio::test]
async fn a_draining_gate_opens_no_sessions() {
    let (gate, live) = (gate(), snapshot());
    let id = session(&gate, &live, "a", "s").await;
    gate.begin_drain();
    let bearer = format!("Bearer {}", token("a", "s"));
    let open = call(Method::POST, "/session", &[("authorization", &bearer), ("client-id", "a")]);
    assert!(matches!(admit(&gate, &live, &open).await, Err(Rejection::Draining(_))));
    let running = call(Method::GET, "/orders", &[("authorization", &bearer), ("client-id", "a"), ("session-id", &id)]);
    assert_eq!(admit(&gate, &live, &running).await, Ok("forward"));
}

proptest! {
    /// Whatever a head looks like, it is forwarded only with the proof, and nothing panics.
    #[test]
    fn random_heads_never_pass_without_the_proof(
        method in prop::sample::select(vec!["GET", "POST", "DELETE", "OPTIONS", "TRACE", "BREW"]),
        path in "/[a-z%./\\\\]{0,12}|/session|/%73ession",
        fields in prop::collection::vec((
            prop::sample::select(vec!["authorization", "client-id", "session-id", "session_id", "connection", "host", "x-correlation-id", "x-sg-subject", "via", "accept"]),
            prop::sample::select(vec!["TOKEN", "FORGED", "a", "b", "ID", "OTHER", "close, session-id", "shop", "x,y", "", "1.1 sessiongate"]),
        ), 0..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (gate, live) = (gate(), snapshot());
            let id = session(&gate, &live, "a", "s").await;
            let token = format!("Bearer {}", token("a", "s"));
            let fill = |value: &str| match value {
                "TOKEN" => token.clone(),
                "FORGED" => format!("{token}x"),
                "ID" => id.clone(),
                "OTHER" => "00000000-0000-4000-8000-000000000000".into(),
                other => other.into(),
            };
            let filled: Vec<_> = fields.iter().map(|(name, value)| (*name, fill(value))).collect();
            let borrowed: Vec<_> = filled.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let Ok(request) = std::panic::catch_unwind(|| call(method.parse().unwrap(), &path, &borrowed)) else { return };
            if admit(&gate, &live, &request).await == Ok("forward") {
                for (name, value) in [("authorization", token.as_str()), ("client-id", "a"), ("session-id", id.as_str())] {
                    assert_eq!(request.headers().get_all(name).iter().collect::<Vec<_>>(), [value]);
                }
            }
        });
    }
}
