//! Tokens that are bound to a key of their sender: DPoP and client certificates.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Authority, CLIENT, Call, Certificate, Config, Gate, Issued, Origin, Raw, Reply, Session, Setup, eventually, now,
    token, token_with,
};

const INVALID_PROOF: &str =
    "DPoP realm=\"sessiongate\", algs=\"ES256 EdDSA RS256 PS256\", error=\"invalid_dpop_proof\"";

/// A client with a key of its own.
struct Prover {
    private: EncodingKey,
    jwk: Jwk,
}

impl Prover {
    fn new() -> Self {
        let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        let private = EncodingKey::from_ec_pem(pem.as_bytes()).expect("a key");
        let jwk = Jwk::from_encoding_key(&private, Algorithm::ES256).expect("a public key");
        Self { private, jwk }
    }

    fn thumbprint(&self) -> String {
        self.jwk.thumbprint(ThumbprintHash::SHA256).expect("a thumbprint")
    }

    /// A token bound to this key.
    fn token(&self) -> String {
        token_with(json!({"cnf": {"jkt": self.thumbprint()}, "nonce": jti()}))
    }

    fn proof(&self, claims: &Value) -> String {
        let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": self.jwk});
        let message = [header.to_string(), claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.private, Algorithm::ES256);
        format!("{message}.{}", signature.expect("signed"))
    }

    /// The call with its token and a fresh proof for it.
    fn prove(&self, call: &Call) -> Call {
        self.prove_at(call, "http://shop.test")
    }

    /// The same for another origin.
    fn prove_at(&self, call: &Call, origin: &str) -> Call {
        call.clone().set("authorization", &dpop(call)).field("dpop", &self.proof(&claims(call, origin)))
    }

    /// A session that was opened with a proof.
    fn open(&self, gate: &Gate) -> Session {
        let token = self.token();
        let reply = gate.send(&self.prove(&Session::opening(&token, CLIENT)));
        opened(gate, &token, &reply)
    }
}

fn opened(gate: &Gate, token: &str, reply: &Reply) -> Session {
    reply.assert_status(201);
    gate.keep_secret(token.rsplit('.').next().expect("a signature"));
    Session { token: token.into(), client: CLIENT.into(), id: reply.field("session-id").expect("an id").into() }
}

fn jti() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    format!("jti-{}", NUMBER.fetch_add(1, Ordering::SeqCst))
}

/// What a proof says of a call.
fn claims(call: &Call, origin: &str) -> Value {
    let token = call.fields.iter().find(|(name, _)| name == "authorization").expect("a token");
    let token = token.1.rsplit(' ').next().expect("a token");
    let ath = URL_SAFE_NO_PAD.encode(digest(&SHA256, token.as_bytes()));
    let path = call.target.split('?').next().expect("a path");
    json!({"jti": jti(), "htm": call.method, "htu": format!("{origin}{path}"), "iat": now(), "ath": ath})
}

/// The `authorization` of a call with the other scheme.
fn dpop(call: &Call) -> String {
    let token = &call.fields.iter().find(|(name, _)| name == "authorization").expect("a token").1;
    token.replacen("Bearer", "DPoP", 1)
}

fn challenge(reply: &Reply) -> &str {
    reply.field("www-authenticate").expect("a challenge")
}

#[test]
fn a_proven_session_is_served_over_both_versions_of_http() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let prover = Prover::new();
    let token = prover.token();
    let reply = gate.send(&prover.prove(&Session::opening(&token, CLIENT)));
    let session = opened(&gate, &token, &reply);
    assert_eq!((&reply.json()["token_type"], &reply.json()["access_token"]), (&json!("DPoP"), &json!(token)));

    let call = prover.prove(&session.get("/orders?page=2"));
    gate.send(&call).assert_status(200);
    let last = origin.last();
    assert_eq!(last.all("authorization"), [format!("DPoP {token}")]);
    // The proof goes where its token goes.
    assert_eq!(last.all("dpop").len(), 1);
    gate.send(&prover.prove(&session.post("/orders", "{}"))).assert_status(200);
    gate.http2().exchange(&prover.prove(&session.get("/orders"))).assert_status(200);
    let grpc = prover.prove(&session.call("POST", "/shop.Orders/List")).field("content-type", "application/grpc");
    let reply = gate.http2().exchange(&grpc.clone().set("dpop", "x"));
    assert_eq!(reply.field("grpc-status"), Some("16"), "{reply:?}");
    let refreshed = session.with_token(&prover.token());
    gate.send(&prover.prove(&refreshed.get("/session"))).assert_status(200);
    gate.send(&prover.prove(&refreshed.call("DELETE", "/session"))).assert_status(204);
}

#[test]
fn a_proof_is_for_one_call_one_token_and_one_time() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let (prover, other) = (Prover::new(), Prover::new());
    let session = prover.open(&gate);
    let call = session.get("/orders");
    let with = |change: &Value| {
        let mut claims = claims(&call, "http://shop.test");
        claims.as_object_mut().expect("claims").extend(change.as_object().expect("changes").clone());
        call.clone().set("authorization", &dpop(&call)).field("dpop", &prover.proof(&claims))
    };
    let good = prover.prove(&call);
    gate.send(&good).assert_status(200);
    let before = origin.calls();
    for (wrong, why) in [
        (good.clone(), "proof-replayed"),
        (good.clone().without("dpop"), "proof-missing"),
        (good.clone().field("dpop", "x"), "proof-repeated"),
        (prover.prove(&call).field("connection", "dpop"), "proof-repeated"),
        (good.clone().set("dpop", "x.y.z"), "proof-shape"),
        (other.prove(&call), "proof-key"),
        (with(&json!({"htm": "POST"})), "proof-method"),
        (with(&json!({"htu": "http://shop.test/other"})), "proof-target"),
        (with(&json!({"htu": "https://shop.test/orders"})), "proof-target"),
        (with(&json!({"ath": "x"})), "proof-token"),
        (with(&json!({"iat": now() - 120})), "proof-stale"),
        (with(&json!({"iat": now() + 60})), "proof-early"),
    ] {
        let reply = gate.send(&wrong);
        reply.assert_refused("token-invalid");
        assert_eq!(challenge(&reply), INVALID_PROOF, "{why}");
        let told = || gate.stdout().lines().last().is_some_and(|line| line.contains(&format!("TokenInvalid:{why}")));
        eventually(&format!("{why} in the log"), told);
    }
    assert_eq!(origin.calls(), before);
    gate.send(&with(&json!({}))).assert_status(200);
    assert_eq!(gate.send(&prover.prove(&session.get("/session"))).json()["calls"], 3);
}

#[test]
fn the_scheme_must_be_that_of_the_token() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let prover = Prover::new();
    let session = prover.open(&gate);
    let reply =
        gate.send(&prover.prove(&session.get("/orders")).set("authorization", &format!("Bearer {}", session.token)));
    reply.assert_refused("token-invalid");
    assert!(
        challenge(&reply).starts_with("DPoP ") && challenge(&reply).contains("error=\"invalid_token\""),
        "{reply:?}"
    );

    let plain = gate.open();
    let reply = gate.send(&prover.prove(&plain.get("/orders")));
    reply.assert_refused("token-invalid");
    assert!(challenge(&reply).contains("error=\"invalid_token\""), "{reply:?}");
    // Beside a bearer token a proof means nothing, and nobody is told that it did.
    gate.send(&plain.get("/orders").field("dpop", "whatever")).assert_status(200);
    assert_eq!(origin.last().all("dpop"), Vec::<&str>::new());

    for cnf in [json!({}), json!({"kid": "k"}), json!({"jwk": {}}), json!("x"), json!({"jkt": "short"}), Value::from(7)]
    {
        gate.send(&Session::opening(&token_with(json!({"cnf": cnf})), CLIENT)).assert_refused("token-invalid");
    }
}

#[test]
fn a_session_stays_with_the_key_it_was_opened_with() {
    let origin = Origin::start();
    let gate = Gate::file_less(&origin.url());
    let (prover, thief) = (Prover::new(), Prover::new());
    let session = prover.open(&gate);
    gate.send(&thief.prove(&session.with_token(&thief.token()).get("/orders"))).assert_refused("session-not-found");
    gate.send(&session.with_token(&token()).get("/orders")).assert_refused("session-not-found");
    gate.send(&prover.prove(&session.with_token(&prover.token()).get("/orders"))).assert_status(200);
    let plain = gate.open();
    gate.send(&prover.prove(&plain.with_token(&prover.token()).get("/orders"))).assert_refused("session-not-found");
    // Nor do two keys share an Idempotency-Key.
    let ids = [&prover, &thief].map(|prover| {
        let opening = Session::opening(&prover.token(), CLIENT).field("idempotency-key", "once");
        gate.send(&prover.prove(&opening)).field("session-id").expect("an id").to_owned()
    });
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn proofs_can_be_demanded_by_route_and_by_issuer() {
    let origin = Origin::start();
    let config = |issuer: &str| {
        Config::new(&origin.url())
            .lenient()
            .issuer(&format!("name = \"main\"\nkeys = [{{ secret = {{ file = \"{{dir}}/secret\" }} }}]\n{issuer}"))
            .route("name = \"proven\"\npath = \"/proven\"\nupstream = \"shop\"\nsender_constraint = \"dpop\"")
            .route("name = \"bound\"\npath = \"/bound\"\nupstream = \"shop\"\nsender_constraint = \"any\"\nauthorization = \"strip\"")
            .catch_all()
    };
    let gate = Gate::configured(&config(""));
    let prover = Prover::new();
    let (proven, plain) = (prover.open(&gate), gate.open());
    gate.send(&prover.prove(&proven.get("/proven"))).assert_status(200);
    gate.send(&prover.prove(&proven.get("/bound"))).assert_status(200);
    assert_eq!((origin.last().all("dpop"), origin.last().all("authorization")), (vec![], vec![]));
    gate.send(&plain.get("/orders")).assert_status(200);
    for call in [plain.get("/proven"), plain.get("/proven").without("authorization"), Call::new("GET", "/proven")] {
        let reply = gate.send(&call);
        reply.assert_refused("credentials-missing");
        assert_eq!(challenge(&reply), "DPoP realm=\"sessiongate\", algs=\"ES256 EdDSA RS256 PS256\"");
    }
    gate.send(&plain.get("/bound")).assert_refused("token-invalid");
    let reply = gate.send(&Call::new("GET", "/orders"));
    reply.assert_refused("credentials-missing");
    assert_eq!(challenge(&reply), "Bearer realm=\"sessiongate\"");

    gate.write_config(&config("sender_constraint = \"dpop\""));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
    let reply = gate.send(&plain.get("/orders"));
    reply.assert_refused("token-invalid");
    assert!(challenge(&reply).starts_with("DPoP "), "{reply:?}");
    let reply = gate.send(&Call::new("GET", "/orders"));
    reply.assert_refused("credentials-missing");
    assert!(challenge(&reply).starts_with("DPoP "), "{reply:?}");
    gate.send(&prover.prove(&proven.get("/orders"))).assert_status(200);
}

#[test]
fn used_proofs_are_remembered_over_a_reload_and_within_a_bound() {
    let origin = Origin::start();
    let config = |rules: &str| Config::new(&origin.url()).lenient().section("dpop", rules);
    let gate = Gate::configured(&config(""));
    let prover = Prover::new();
    let session = prover.open(&gate);
    let call = prover.prove(&session.get("/orders"));
    gate.send(&call).assert_status(200);
    gate.write_config(&config("replay_max = 16"));
    gate.signal(Signal::HUP);
    gate.await_stderr("configuration reloaded");
    gate.send(&call).assert_refused("token-invalid");
    // One per shard at most: one of these finds no room, and none is let through unchecked.
    let replies: Vec<_> = (0..64).map(|_| gate.send(&prover.prove(&session.get("/orders")))).collect();
    let refused = replies.iter().find(|reply| reply.status != 200).expect("no room");
    refused.assert_refused("overloaded");
    assert!(replies.iter().filter(|reply| reply.status == 200).count() <= 16);
}

#[test]
fn behind_a_trusted_proxy_the_address_that_the_client_used_counts() {
    let origin = Origin::start();
    let config = Config::new(&origin.url()).lenient().section("server", "trusted_proxies = [\"127.0.0.0/8\"]");
    let gate = Gate::configured(&config);
    let prover = Prover::new();
    let token = prover.token();
    let forwarded = |call: &Call| {
        call.clone()
            .field("x-forwarded-proto", "https")
            .field("x-forwarded-host", "api.shop.test")
            .field("x-forwarded-for", "192.0.2.1")
    };
    let opening = prover.prove_at(&forwarded(&Session::opening(&token, CLIENT)), "https://api.shop.test");
    let session = opened(&gate, &token, &gate.send(&opening));
    gate.send(&prover.prove_at(&forwarded(&session.get("/orders")), "https://api.shop.test:443")).assert_status(200);
    gate.send(&prover.prove(&forwarded(&session.get("/orders")))).assert_refused("token-invalid");
    // A stranger is not believed.
    let direct = Gate::file_less(&origin.url());
    let opening = prover.prove_at(&forwarded(&Session::opening(&token, CLIENT)), "https://api.shop.test");
    direct.send(&opening).assert_refused("token-invalid");
}

/// A gate that asks for client certificates, and two clients that have one.
struct Mutual {
    gate: Gate,
    certificate: Certificate,
    clients: [Issued; 2],
}

impl Mutual {
    fn start(origin: &Origin, more: &str) -> Self {
        let (certificate, authority) = (Certificate::new(), Authority::new());
        let route =
            format!("name = \"mutual\"\npath = \"/mutual\"\nupstream = \"shop\"\nsender_constraint = \"mtls\"\n{more}");
        let config = Config::new(&origin.url()).lenient().route(&route).catch_all().listener(
            "address = \"127.0.0.1:0\"\ntls = { cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\", client_ca = \"{dir}/ca.pem\", client_auth = \"optional\" }",
        );
        let setup = Setup::configured(&config);
        for (name, content) in [("cert", &certificate.cert_pem), ("key", &certificate.key_pem), ("ca", &authority.pem)]
        {
            setup.write(&format!("{name}.pem"), content);
        }
        let clients = ["one.test", "two.test"].map(|name| authority.issue(name));
        Self { gate: setup.start(), certificate, clients }
    }

    fn send(&self, client: Option<&Issued>, call: &Call) -> Reply {
        let config = self.certificate.client_as(&[b"http/1.1"], client);
        let socket = Raw::socket(self.gate.tls_address());
        let (mut raw, _) = self.certificate.over(socket, "localhost", config).expect("a handshake");
        raw.exchange(call)
    }
}

fn certificate_thumbprint(client: &Issued) -> String {
    URL_SAFE_NO_PAD.encode(digest(&SHA256, &client.der))
}

#[test]
fn a_token_that_is_bound_to_a_certificate_needs_its_connection() {
    let origin = Origin::start();
    let mutual = Mutual::start(&origin, "");
    let [one, two] = &mutual.clients;
    let token = |client: &Issued| token_with(json!({"cnf": {"x5t#S256": certificate_thumbprint(client)}}));
    let of_one = token(one);
    let reply = mutual.send(Some(one), &Session::opening(&of_one, CLIENT));
    let session = opened(&mutual.gate, &of_one, &reply);
    assert_eq!(reply.json()["token_type"], "Bearer");
    mutual.send(Some(one), &session.get("/mutual")).assert_status(200);
    for stranger in [Some(two), None] {
        let reply = mutual.send(stranger, &session.get("/mutual"));
        reply.assert_refused("token-invalid");
        assert!(challenge(&reply).starts_with("Bearer ") && challenge(&reply).contains("invalid_token"), "{reply:?}");
        mutual.send(stranger, &Session::opening(&of_one, CLIENT)).assert_refused("token-invalid");
        // A client says what it likes.
        let claimed = session.get("/orders").field("client-cert", &format!(":{}:", certificate_thumbprint(one)));
        mutual.send(stranger, &claimed).assert_refused("token-invalid");
    }
    // A good certificate with its own token is still not the session's.
    mutual.send(Some(two), &session.with_token(&token(two)).get("/mutual")).assert_refused("session-not-found");
    let unbound = crate::harness::token();
    mutual.send(Some(one), &session.with_token(&unbound).get("/orders")).assert_refused("session-not-found");
    mutual.send(Some(one), &session.with_token(&unbound).get("/mutual")).assert_refused("token-invalid");
}

#[test]
fn a_token_can_be_bound_to_both() {
    let origin = Origin::start();
    let mutual = Mutual::start(&origin, "");
    let (prover, [one, two]) = (Prover::new(), &mutual.clients);
    let cnf = json!({"jkt": prover.thumbprint(), "x5t#S256": certificate_thumbprint(one), "other": 1});
    let token = token_with(json!({"cnf": cnf}));
    let opening = prover.prove_at(&Session::opening(&token, CLIENT), "https://shop.test");
    let session = opened(&mutual.gate, &token, &mutual.send(Some(one), &opening));
    let call = || prover.prove_at(&session.get("/mutual"), "https://shop.test");
    mutual.send(Some(one), &call()).assert_status(200);
    mutual.send(Some(two), &call()).assert_refused("token-invalid");
    mutual.send(Some(one), &prover.prove(&session.get("/mutual"))).assert_refused("token-invalid");
    mutual.send(Some(one), &session.get("/mutual")).assert_refused("token-invalid");
}

#[test]
fn a_token_of_the_gate_is_bound_as_the_one_it_stands_for() {
    let origin = Origin::start();
    let replaced = "name = \"replaced\"\npath = \"/replaced\"\nupstream = \"shop\"\nauthorization = \"replace\"";
    let tokens = "issuer = \"https://gate.test\"\nkeys = [{ pem = { file = \"{dir}/key.pem\" } }]";
    let setup =
        Setup::configured(&Config::new(&origin.url()).lenient().section("tokens", tokens).route(replaced).catch_all());
    setup.write("key.pem", rcgen::KeyPair::generate().expect("a key").serialize_pem());
    let gate = setup.start();
    let (prover, thief) = (Prover::new(), Prover::new());
    let token = prover.token();
    let reply = gate.send(&prover.prove(&Session::opening(&token, CLIENT)));
    let session = opened(&gate, &token, &reply);
    let state = reply.json();
    assert_eq!(state["token_type"], "DPoP");
    let issued = session.with_token(state["access_token"].as_str().expect("a token"));
    gate.send(&prover.prove(&issued.get("/orders"))).assert_status(200);
    gate.send(&issued.get("/orders")).assert_refused("token-invalid");
    gate.send(&thief.prove(&issued.get("/orders"))).assert_refused("token-invalid");
    // What an upstream was given is of no use at the gate.
    gate.send(&prover.prove(&session.get("/replaced"))).assert_status(200);
    let last = origin.last();
    assert_eq!(last.all("dpop"), Vec::<&str>::new());
    let given = last.field("authorization").and_then(|text| text.strip_prefix("Bearer ")).expect("a token");
    gate.send(&session.with_token(given).get("/orders")).assert_refused("session-not-found");
}
