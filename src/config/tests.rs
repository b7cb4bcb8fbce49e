//! Files as operators write them, whole and broken.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;
use tempfile::TempDir;

use super::*;
use crate::auth::Keys;
use crate::config::snapshot::{AccessLog, LogFormat};
use crate::policy::fields::Role;
use crate::policy::method::MethodSet;
use crate::policy::rejection::Rejection;
use crate::policy::route::{Action, ForwardAuthorization};
use crate::policy::violation::Field;
use crate::upstream::HostField;

mod broken;
mod properties;
mod routing;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A folder with the files that configurations name.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        for (path, text) in [
            ("secrets/token-hmac", format!("{SECRET}\n")),
            ("secrets/short", "hunter2\n".into()),
            ("secrets/empty", "\n".into()),
            ("secrets/admin-token", "hunter2-hunter2-hunter2\n".into()),
            ("keys/new.pem", rcgen::KeyPair::generate().unwrap().serialize_pem()),
            ("tls/cert.pem", "cert".into()),
            ("tls/key.pem", "key".into()),
            ("clients.toml", include_str!("../../deploy/clients.toml").into()),
        ] {
            let path = folder.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn parse(&self, text: &str) -> Result<Snapshot, ConfigErrors> {
        parse(text, &self.path("gate.toml"), 1)
    }

    /// The lines about mistakes, without the name of the file.
    fn mistakes(&self, text: &str) -> Vec<String> {
        let errors = self.parse(text).unwrap_err().to_string();
        let folder = format!("{}/", self.0.path().display());
        let lines = errors.lines().skip(1).map(|line| line.replace(&folder, "").replace("gate.toml:", ""));
        lines.collect()
    }
}

/// The least that is valid.
const LEAST: &str = r#"
version = 1
[[listeners]]
address = "127.0.0.1:8080"
[[issuers]]
name = "main"
keys = [{ secret = { file = "secrets/token-hmac" } }]
[[upstreams]]
name = "orders"
endpoints = ["http://127.0.0.1:9000"]
[[routes]]
name = "all"
path = "/{*rest}"
upstream = "orders"
"#;

#[test]
fn the_defaults_are_those_of_the_specification() {
    let live = Folder::new().parse(LEAST).unwrap();
    let secs = Duration::from_secs;

    assert_eq!((live.generation, live.workers, &*live.via), (1, None, "sessiongate"));
    assert!(live.admin.is_none() && live.trusted_proxies.is_empty());
    assert_eq!((live.drain_delay, live.drain_deadline), (secs(0), secs(30)));
    assert_eq!((live.limits.head, live.limits.uri), (32 * 1024, 8 * 1024));
    assert_eq!((live.limits.handshake_timeout, live.limits.head_timeout), (secs(10), secs(10)));
    assert_eq!((live.limits.body_timeout, live.limits.write_timeout), (secs(30), secs(30)));
    assert_eq!(live.limits.idle_timeout, secs(60));
    assert_eq!((live.limits.max_connections, live.limits.h2_streams), (32_768, 128));
    assert_eq!((live.sessions.lifetimes.idle, live.sessions.lifetimes.absolute), (secs(1800), secs(14_400)));
    assert_eq!((live.sessions.max_live_per_client, live.sessions.create_status), (None, StatusCode::CREATED));
    assert_eq!((live.sessions.tombstone_ttl, live.sessions.tombstone_max), (secs(86_400), 100_000));
    assert_eq!(live.sessions.idempotency_ttl, secs(600));
    let pool = &live.pools[0];
    assert_eq!((pool.connect_timeout, pool.response_timeout, pool.idle_timeout), (secs(2), secs(30), secs(4)));
    assert_eq!((pool.max_idle, pool.host), (256, HostField::Preserve));
    let claims = &live.auth.issuers()[0].claims;
    assert_eq!((claims.leeway, claims.client_claims.len(), claims.sid_binds), (secs(30), 4, true));
    assert!(claims.issuer.is_none() && claims.audiences.is_empty());
    let [session, all] = live.routes.routes() else { panic!("{:?}", live.routes) };
    assert_eq!((&*session.name, &*session.path, session.action), ("session", "/session", Action::Session));
    assert_eq!(session.methods.to_string(), "GET, HEAD, POST, DELETE");
    assert_eq!((all.methods, all.max_body, all.response_timeout), (MethodSet::ALL, Some(10 << 20), None));
    assert_eq!((all.exempt, all.authorization), (false, ForwardAuthorization::Keep));
    assert_eq!((&live.logs.access, live.logs.format), (&AccessLog::Stdout, LogFormat::Auto));
    assert!(!live.logs.clear_session_ids);
    assert_eq!(live.errors.status(Rejection::Internal), StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(&*live.errors.type_base, "https://sessiongate.dev/problems/");
    assert_eq!(live.names.name(Field::Correlation).as_str(), "x-correlation-id");
}

#[test]
fn every_setting_arrives() {
    let folder = Folder::new();
    // The variable is one that cargo sets, as the test cannot.
    let live = folder
        .parse(
            r#"
            version = 1
            [server]
            workers = 2
            via = "edge-1"
            trusted_proxies = ["10.0.0.0/8", "192.0.2.7", "2001:db8::/32"]
            drain = { delay = "5s", deadline = "1m" }
            [[listeners]]
            address = "127.0.0.1:8080"
            [[listeners]]
            address = "[::1]:8443"
            tls = { cert = "tls/cert.pem", key = "tls/key.pem" }
            [admin]
            address = "127.0.0.1:1"
            token = { file = "secrets/admin-token" }
            [limits]
            head = "16KiB"
            uri = 4096
            body = "1MiB"
            [sessions]
            idle = "10s"
            absolute = "20s"
            max_live_per_client = 3
            create_status = 200
            tombstone = { ttl = "1h", max = 0 }
            scopes = ["open"]
            [headers]
            mode = "lenient"
            identity = ["X-Tenant"]
            session-id = { name = "X-Session", aliases = ["session-id"] }
            [[issuers]]
            name = "a"
            issuer = "A"
            audiences = ["orders"]
            leeway = "0s"
            client_claims = ["azp"]
            sid_claim = false
            keys = [{ secret = { file = "secrets/token-hmac" }, kid = "k", algorithms = ["HS384", "HS512"] }]
            [[issuers]]
            name = "b"
            keys = [{ secret = { env = "CARGO_PKG_DESCRIPTION" } }, { secret = { file = "secrets/token-hmac" } }]
            [[upstreams]]
            name = "u"
            endpoints = ["http://[::1]:1", "http://b:2"]
            max_idle = 1
            host = "endpoint"
            [[routes]]
            name = "r"
            hosts = ["Shop.example"]
            path = "/r/{id}"
            methods = ["GET"]
            scopes = { all = ["a"], any = ["b", "c", "a"] }
            upstream = "u"
            max_body = "unlimited"
            response_timeout = "1s"
            authorization = "strip"
            [errors]
            type_base = "urn:shop:"
            status = { "session-expired" = 410 }
            [logs]
            access = "logs/access.log"
            format = "json"
            session_id = "clear"
            "#,
        )
        .map_err(|errors| panic!("{errors}"))
        .unwrap();
    assert_eq!((live.workers, &*live.via, live.trusted_proxies.len()), (Some(2), "edge-1", 3));
    assert_eq!((live.drain_delay.as_secs(), live.drain_deadline.as_secs()), (5, 60));
    assert_eq!(live.listeners[1].tls.as_ref().unwrap().certificates[0].cert, folder.path("tls/cert.pem"));
    assert!(live.admin.as_ref().unwrap().token.is_some());
    assert_eq!((live.limits.head, live.limits.uri), (16_384, 4096));
    assert_eq!((live.sessions.max_live_per_client, live.sessions.create_status), (Some(3), StatusCode::OK));
    assert_eq!(live.sessions.tombstone_max, 0);
    let role = |name: &str| live.names.role(&http::HeaderName::from_bytes(name.as_bytes()).unwrap());
    assert_eq!(
        (role("x-session"), role("session-id")),
        (Role::Ruled(Field::SessionId, 0), Role::Ruled(Field::SessionId, 1))
    );
    assert_eq!(role("x-tenant"), Role::Reserved);
    let issuer = &live.auth.issuers()[0];
    assert_eq!((issuer.claims.issuer.as_deref(), issuer.claims.client_claims.len()), (Some("A"), 1));
    let Keys::Fixed(keys) = &issuer.keys else { panic!("{issuer:?}") };
    assert!(keys[0].verifies(jsonwebtoken::Algorithm::HS512) && keys[0].kid() == Some("k"));
    assert_eq!((live.pools[0].endpoints.len(), live.pools[0].host), (2, HostField::Endpoint));
    let route = &live.routes.routes()[1];
    assert_eq!((&*route.hosts[0], &*route.scopes.text), ("shop.example", "a b c"));
    assert_eq!((route.max_body, route.authorization), (None, ForwardAuthorization::Strip));
    assert_eq!(live.errors.status(Rejection::SessionExpired), StatusCode::GONE);
    assert_eq!(live.logs.access, AccessLog::File(folder.path("logs/access.log")));
}

#[test]
fn the_example_compiles_and_shows_every_key_with_its_default() {
    let folder = Folder::new();
    let example = include_str!("../../deploy/sessiongate.toml");
    let live = folder.parse(example).map_err(|errors| panic!("{errors}")).unwrap();
    assert_eq!(live.routes.routes().len(), 11);

    // A line `#key = default` may be taken in without changing anything but what is written twice.
    let is_default = |line: &&str| {
        line.strip_prefix('#').is_some_and(|line| line.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
    };
    let whole: Vec<&str> = example.lines().map(|line| if is_default(&line) { &line[1..] } else { line }).collect();
    let same = folder.parse(&whole.join("\n")).map_err(|errors| panic!("{errors}")).unwrap();
    let shown = |live: &Snapshot| {
        format!(
            "{:?}{:?}{:?}{:?}{:?}{:?}",
            live.limits,
            live.sessions,
            live.routes,
            live.flows,
            live.pools,
            (&live.errors, &live.logs, &live.via)
        )
    };
    assert_eq!(shown(&live), shown(&same));
    assert!(live.changes_needing_restart(&same).is_empty());

    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
    for key in tables.filter_map(|table| table["properties"].as_object()).flat_map(|keys| keys.keys()) {
        assert!(example.contains(key.as_str()), "{key} is not in the example");
    }
}

#[test]
fn a_reload_says_what_needs_a_restart() {
    let folder = Folder::new();
    let old = folder.parse(LEAST).unwrap();
    let new = LEAST.replace("8080", "8081") + "[server]\nworkers = 2\n[admin]\n[logs]\naccess = \"off\"\n";
    let new = folder.parse(&new).unwrap();
    assert_eq!(old.changes_needing_restart(&new), ["server.workers", "listeners", "admin.address", "logs.access"]);
    let harmless = folder.parse(&(LEAST.to_owned() + "[limits]\nhead = \"16KiB\"")).unwrap();
    assert!(old.changes_needing_restart(&harmless).is_empty());
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let folder = Folder::new();
    std::fs::write(folder.path("latin1.toml"), b"# \xe9").unwrap();
    for (path, message) in [("none.toml", "there is no such file"), ("latin1.toml", "not UTF-8"), ("tls", "directory")]
    {
        let errors = load(&folder.path(path), 1).unwrap_err();
        assert!(errors.to_string().contains(message), "{errors}");
        assert!(errors.report_with(false, 100).contains(message));
    }
    std::fs::write(folder.path("good.toml"), LEAST).unwrap();
    assert_eq!(load(&folder.path("good.toml"), 9).unwrap().generation, 9);
}

#[test]
fn secrets_are_never_printed() {
    let folder = Folder::new();
    let inline = LEAST.replace("{ file = \"secrets/token-hmac\" }", "\"hunter2\"")
        + "[admin]\ntoken = { file = \"secrets/short\" }\npassword = \"hunter2\"\ntokn = \"hunter2\"\n";
    let short = LEAST.replace("secrets/token-hmac", "secrets/short");
    let key_set = LEAST.replace("secret = { file = \"secrets/token-hmac\" }", "jwks = { file = \"secrets/short\" }");
    for text in [inline.clone(), short, key_set, inline.replace("version = 1", "version = ")] {
        let errors = folder.parse(&text).unwrap_err();
        for shown in [errors.to_string(), errors.report_with(false, 100), errors.report_with(true, 100)] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }
    let admin = LEAST.to_owned() + "[admin]\ntoken = { file = \"secrets/admin-token\" }\n";
    let live = format!("{:?}", folder.parse(&admin).unwrap());
    assert!(!live.contains("hunter2") && !live.contains(SECRET), "{live}");
}

#[test]
fn a_secret_in_broken_syntax_is_not_shown() {
    for text in ["version = 1\n[admin]\ntoken = \"hunter2\n", "admin.token = 'hunter2\nversion = =", "token = hunter2"]
    {
        let errors = Folder::new().parse(text).unwrap_err();
        let shown = errors.to_string() + &errors.report_with(false, 100);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn the_usual_name_of_a_renamed_field_is_kept_from_upstreams() {
    let text = LEAST.to_owned()
        + "[headers]\nsession-id = { name = \"x-session\" }\nclient-id = { name = \"x-app\" }\n"
        + "authorization = { name = \"x-token\" }\n";
    let live = Folder::new().parse(&text).unwrap();
    for (name, role) in [
        ("x-session", Role::Ruled(Field::SessionId, 0)),
        ("session-id", Role::Reserved),
        ("session_id", Role::Reserved),
        ("client-id", Role::Reserved),
        ("x-token", Role::Ruled(Field::Authorization, 0)),
        ("authorization", Role::Reserved),
    ] {
        assert_eq!(live.names.role(&http::HeaderName::from_static(name)), role, "{name}");
    }
}

#[test]
fn too_many_scopes_are_one_mistake() {
    let scopes: Vec<String> = (0..300).map(|number| format!("s{number}")).collect();
    let mistakes = Folder::new().mistakes(&format!("{LEAST}scopes = {scopes:?}\n[sessions]\nscopes = {scopes:?}"));
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    assert!(mistakes[0].ends_with("there are more than 256 scopes in this file"), "{mistakes:?}");
}

#[test]
fn a_flood_of_mistakes_ends() {
    let route = "[[routes]]\nname = \"a\"\npath = \"/{*rest}\"\nupstream = \"orders\"\nmethods = 1\nfoo = 1\n";
    let errors = Folder::new().parse(&(LEAST.to_owned() + &route.repeat(500))).unwrap_err();
    assert!(errors.mistakes().len() >= 100);
    let route = route.lines().take(4).collect::<Vec<_>>().join("\n") + "\n";
    let errors = Folder::new().parse(&(LEAST.to_owned() + &route.repeat(500))).unwrap_err();
    assert!(errors.mistakes().len() >= 500);
}
