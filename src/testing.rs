//! A minimal snapshot for unit tests.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::auth::Authenticator;
use crate::config::snapshot::*;
use crate::policy::fields::FieldNames;
use crate::policy::headers::{HeaderRules, Mode};
use crate::policy::method::{MethodSet, Verb};
use crate::policy::route::{Action, ForwardAuthorization, PoolId, Route, RouteTable};
use crate::policy::scopes::ScopeRule;
use crate::policy::session::Lifetimes;

/// One catch-all route, lenient headers, default lifetimes.
pub fn snapshot(auth: Authenticator) -> Snapshot {
    let headers = Arc::new(HeaderRules::of(Mode::Lenient));
    let route = |name: &str, path: &str, methods, action| Route {
        name: name.into(),
        hosts: vec![],
        path: path.into(),
        methods,
        action,
        exempt: false,
        sender: None,
        scopes: ScopeRule::default(),
        headers: Arc::clone(&headers),
        max_body: None,
        response_timeout: None,
        total_timeout: None,
        stall_timeout: None,
        retry_idempotent: false,
        authorization: ForwardAuthorization::Keep,
    };
    let mut routes = RouteTable::default();
    let session = MethodSet::NONE.with(Verb::Get).with(Verb::Post).with(Verb::Delete);
    routes.add(route("session", "/session", session, Action::Session)).unwrap();
    routes.add(route("all", "/{*path}", MethodSet::ALL, Action::Forward(PoolId(0)))).unwrap();
    Snapshot {
        generation: 1,
        workers: None,
        listeners: vec![],
        admin: None,
        drain_deadline: Duration::from_secs(30),
        drain_delay: Duration::ZERO,
        limits: LimitsConfig {
            head: 32 * 1024,
            uri: 8 * 1024,
            handshake_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(60),
            max_connections: 1000,
            h2_streams: 128,
            requests_per_connection: None,
            body_rate: None,
        },
        names: FieldNames::default(),
        routes,
        cors: Cors::default(),
        flows: Default::default(),
        pools: vec![],
        resolver: Default::default(),
        auth,
        dpop: Default::default(),
        clients: None,
        rates: Default::default(),
        overload: None,
        sessions: SessionConfig {
            budget: None,
            lifetimes: Lifetimes { idle: Duration::from_secs(1800), absolute: Duration::from_secs(4 * 3600) },
            max_live_per_client: None,
            on_foreign_use: None,
            create_status: StatusCode::CREATED,
            tombstone_ttl: Duration::from_secs(24 * 3600),
            tombstone_max: 100_000,
            idempotency_ttl: Duration::from_secs(600),
        },
        trusted_proxies: vec![],
        errors: ErrorConfig { type_base: "urn:problem:".into(), status: Default::default() },
        logs: LogConfig { access: AccessLog::Off, format: LogFormat::Auto, clear_session_ids: false },
        via: "sessiongate".into(),
    }
}
