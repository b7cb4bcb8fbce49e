//! What the benches share: a snapshot, tokens and sessions. Each bench uses a part.
#![allow(dead_code, reason = "every bench uses another part")]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use jsonwebtoken::{EncodingKey, Header, encode};
use sessiongate::clock::Clock;
use sessiongate::config::{self, Snapshot};
use sessiongate::gate::Gate;
use sessiongate::policy::flow::Flow;
use sessiongate::policy::ids::{ClientId, Owner, SessionId};
use sessiongate::policy::session::Lifetimes;
use sessiongate::store::memory::MemoryStore;
use sessiongate::store::{AnyStore, Opening, SessionStore};

/// The HMAC secret of every bench.
pub const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The client of every bench.
pub const CLIENT: &str = "EnterpriseAPIM-RPuj1Q5nWk6bDC9fP3VpsjRJTmnLshfqo7cbq437";

/// A snapshot with `routes` routes, strict or lenient.
pub fn snapshot(mode: &str, routes: usize) -> Snapshot {
    read(mode, routes, "")
}

/// One route, and rates that no bench exceeds.
#[allow(dead_code, reason = "not every bench has rates")]
pub fn limited() -> Snapshot {
    let rule = |per| format!("[[rate_limits]]\nname = \"{per}\"\nper = \"{per}\"\nrequests = 900000000\n");
    read("strict", 1, &["session", "client", "address"].map(rule).concat())
}

/// One route that is a step, the second of three, and may come again.
pub fn stepped() -> Snapshot {
    let step = |name: &str, more: &str| format!("[[flows.steps]]\nname = \"{name}\"\nrepeat = true\n{more}\n");
    let steps = [
        step("first", "routes = [\"r1\"]\nmethods = [\"POST\"]"),
        step(
            "second",
            "routes = [\"order\"]\nmethods = [\"GET\"]\nmin_gap = \"1ms\"\nmax_gap = \"24h\"\nseverity = \"observe\"",
        ),
        step("third", "routes = [\"order\"]\nmethods = [\"POST\"]\nafter = [\"first\", \"second\"]\nexclusive = true"),
    ];
    read("strict", 2, &format!("[[flows]]\nname = \"ordering\"\n{}", steps.concat()))
}

fn read(mode: &str, routes: usize, more: &str) -> Snapshot {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::File::create(folder.path().join("secret"))
        .and_then(|mut file| file.write_all(SECRET.as_bytes()))
        .expect("written");
    let mut text = format!(
        "version = 1\n[[listeners]]\naddress = \"127.0.0.1:0\"\n[headers]\nmode = \"{mode}\"\n\
         [[issuers]]\nname = \"main\"\nkeys = [{{ secret = {{ file = \"secret\" }} }}]\n\
         [[upstreams]]\nname = \"shop\"\nendpoints = [\"http://127.0.0.1:9000\"]\n\
         [[routes]]\nname = \"order\"\npath = \"/orders/{{id}}\"\nscopes = [\"listerine.all\"]\nupstream = \"shop\"\n"
    );
    for number in 1..routes {
        text += &format!("[[routes]]\nname = \"r{number}\"\npath = \"/r{number}/{{id}}/items\"\nupstream = \"shop\"\n");
    }
    text += more;
    config::parse(&text, &folder.path().join("bench.toml"), 1).unwrap_or_else(|errors| panic!("{errors}"))
}

/// A token of the documented shape.
pub fn token(subject: &str) -> String {
    let claims = serde_json::json!({
        "sub": subject, "scope": "listerine.all", "iss": "ENTAPI", "grant_type": "client_credentials",
        "exp": 4_000_000_000u64, "iat": 1_700_000_000, "client_id": CLIENT,
    });
    let header = Header { typ: None, ..Header::default() };
    encode(&header, &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signed")
}

/// A gate with `count` sessions of one subject each out of `subjects`, and the ids of the first thousand.
pub fn gate(count: usize, subjects: usize) -> (Gate, Vec<SessionId>) {
    gate_of(count, subjects, None)
}

/// The same, with sessions that follow a flow.
pub fn gate_of(count: usize, subjects: usize, flow: Option<&Arc<Flow>>) -> (Gate, Vec<SessionId>) {
    let gate = Gate::new(AnyStore::Memory(MemoryStore::default()), Clock::default());
    let mut ids = Vec::new();
    let shared = Shared::default();
    for number in 0..count {
        let id = SessionId::from_random(sessiongate::random::bytes());
        let subject = format!("subject-{}", number % subjects);
        open(&gate, id, &subject, &shared, flow);
        if ids.len() < 1000 {
            ids.push(id);
        }
    }
    (gate, ids)
}

/// Texts that many tokens share; the authenticator keeps one copy of each.
pub struct Shared {
    issuer: Arc<str>,
    client: Arc<str>,
    scope: Arc<str>,
}

impl Default for Shared {
    fn default() -> Self {
        Self { issuer: "ENTAPI".into(), client: CLIENT.into(), scope: "listerine.all".into() }
    }
}

/// Opens one session.
pub fn open(gate: &Gate, id: SessionId, subject: &str, shared: &Shared, flow: Option<&Arc<Flow>>) {
    let client = ClientId::from_shared(Arc::clone(&shared.client)).expect("valid");
    let owner =
        Owner { issuer: Some(Arc::clone(&shared.issuer)), client, subject: Some(subject.into()), binding: None };
    let lifetimes = Lifetimes { idle: Duration::from_secs(1800), absolute: Duration::from_secs(14_400) };
    let scope = Arc::clone(&shared.scope);
    let (owner, flow) = (Arc::new(owner), flow.map(Arc::clone));
    let opening = Opening { id, owner, scope, lifetimes, cap: None, flow, idempotent: None };
    let now = gate.clock().now().steady;
    let opened = futures_util::FutureExt::now_or_never(gate.store().open(opening, now));
    assert!(matches!(opened, Some(Ok(_))), "opened at once");
}

/// A guarded GET with all six fields, as a client sends it.
pub fn call(token: &str, id: SessionId) -> Request<()> {
    Request::builder()
        .uri("/orders/4711?view=full")
        .header("host", "shop.example")
        .header("user-agent", "bench/1")
        .header("accept", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .header("client-id", CLIENT)
        .header("session-id", id.reveal())
        .header("x-correlation-id", "bench-0001")
        .body(())
        .expect("a request")
}

/// Resident memory of this process in bytes.
pub fn resident() -> usize {
    let statm = std::fs::read_to_string(Path::new("/proc/self/statm")).expect("Linux");
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}
