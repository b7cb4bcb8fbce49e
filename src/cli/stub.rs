//! Stands for `config::load` and `config::fileless` until they are merged.
#![allow(missing_docs)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};
use sessiongate::auth::keys::VerificationKey;
use sessiongate::auth::{Authenticator, Issuer};
use sessiongate::config::snapshot::*;
use sessiongate::policy::claims::{ClaimRules, ClientClaim};
use sessiongate::policy::fields::FieldNames;
use sessiongate::policy::headers::{HeaderRules, Mode};
use sessiongate::policy::method::{MethodSet, Verb};
use sessiongate::policy::route::{Action, ForwardAuthorization, PoolId, Route, RouteTable};
use sessiongate::policy::scopes::{ScopeNames, ScopeRule};
use sessiongate::policy::session::Lifetimes;
use sessiongate::upstream::{Endpoint, HostField, PoolConfig};

use super::failure::Failure;

pub fn load(_: &Path, _: u64) -> Result<Snapshot, Failure> {
    Err(Failure::Input("configuration files are not supported yet".into()))
}

pub struct Fileless {
    pub listen: SocketAddr,
    pub upstream: String,
    pub hs256_secret_file: PathBuf,
    pub admin: Option<SocketAddr>,
    pub tls: Option<(SocketAddr, PathBuf, PathBuf)>,
    pub workers: Option<usize>,
    pub audience: Vec<String>,
}

pub fn fileless(flags: &Fileless) -> Result<Snapshot, Failure> {
    let path = flags.hs256_secret_file.display();
    let mut secret =
        std::fs::read(&flags.hs256_secret_file).map_err(|e| Failure::Input(format!("cannot read {path}: {e}")))?;
    if secret.last() == Some(&b'\n') {
        secret.pop();
    }
    let key = VerificationKey::from_secret(&secret, None, &[]).map_err(|e| Failure::Input(format!("{path}: {e}")))?;
    let auth = Authenticator::new(
        vec![Issuer {
            name: "default".into(),
            claims: ClaimRules {
                issuer: None,
                audiences: flags.audience.iter().map(|a| a.as_str().into()).collect(),
                leeway: Duration::from_secs(30),
                client_claims: ClientClaim::ALL.to_vec(),
                sid_binds: true,
            },
            keys: vec![key],
        }],
        ScopeNames::default(),
        100_000,
    );
    let uri: http::Uri = flags.upstream.parse().map_err(|e| Failure::Input(format!("--upstream: {e}")))?;
    let authority = uri.authority().ok_or_else(|| Failure::Input("--upstream: no host".into()))?;
    let headers = Arc::new(HeaderRules::of(Mode::Lenient));
    let route = |name: &str, path: &str, methods, action| Route {
        name: name.into(),
        hosts: vec![],
        path: path.into(),
        methods,
        action,
        exempt: false,
        scopes: ScopeRule::default(),
        headers: Arc::clone(&headers),
        max_body: None,
        response_timeout: None,
        authorization: ForwardAuthorization::Keep,
    };
    let mut routes = RouteTable::default();
    let session = MethodSet::NONE.with(Verb::Get).with(Verb::Post).with(Verb::Delete);
    let added = routes
        .add(route("session", "/session", session, Action::Session))
        .and_then(|()| routes.add(route("all", "/{*path}", MethodSet::ALL, Action::Forward(PoolId(0)))));
    added.map_err(|e| Failure::Input(e.to_string()))?;
    let mut listeners = vec![ListenerConfig { address: flags.listen, tls: None }];
    listeners.extend(
        flags.tls.clone().map(|(address, cert, key)| ListenerConfig { address, tls: Some(TlsFiles { cert, key }) }),
    );
    Ok(Snapshot {
        generation: 1,
        workers: flags.workers,
        listeners,
        admin: flags.admin.map(|address| AdminConfig { address, token: None }),
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
            max_connections: 32_768,
            h2_streams: 128,
        },
        names: FieldNames::default(),
        routes,
        pools: vec![PoolConfig {
            name: "upstream".into(),
            endpoints: vec![Endpoint {
                host: authority.host().trim_matches(['[', ']']).into(),
                port: authority.port_u16().unwrap_or(80),
                authority: HeaderValue::from_str(authority.as_str()).map_err(|e| Failure::Input(e.to_string()))?,
            }],
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(4),
            max_idle: 256,
            host: HostField::Preserve,
        }],
        auth,
        sessions: SessionConfig {
            lifetimes: Lifetimes { idle: Duration::from_secs(1800), absolute: Duration::from_secs(4 * 3600) },
            max_live_per_client: None,
            create_status: StatusCode::CREATED,
            tombstone_ttl: Duration::from_secs(24 * 3600),
            tombstone_max: 100_000,
            idempotency_ttl: Duration::from_secs(600),
        },
        trusted_proxies: vec![],
        errors: ErrorConfig { type_base: "https://sessiongate.dev/problems/".into(), status: Default::default() },
        logs: LogConfig { access: AccessLog::Off, format: LogFormat::Auto, clear_session_ids: false },
        via: "sessiongate".into(),
    })
}
