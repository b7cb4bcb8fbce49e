//! What one would build with Pingora instead: a proxy with a plain and a guarded listener, whose guard checks an HS256
//! token, its client, and a session of that client.
//!
//! `sessiongate-peer-pingora PLAIN_PORT GUARDED_PORT ORIGIN_PORT FOLDER`; the folder has `secret.key` and `sessions.txt`.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use pingora_core::Result;
use pingora_core::server::Server;
use pingora_core::server::configuration::ServerConf;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{ProxyHttp, Session, http_proxy_service};

#[global_allocator]
static ALLOC: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is read of a token; `exp` is checked by the library.
#[derive(serde::Deserialize)]
struct Claims {
    client_id: String,
}

struct Guard {
    key: DecodingKey,
    rules: Validation,
    owners: DashMap<String, String, ahash::RandomState>,
}

impl Guard {
    fn read(folder: &Path) -> std::io::Result<Self> {
        let secret = fs::read(folder.join("secret.key"))?;
        let table = fs::read_to_string(folder.join("sessions.txt"))?;
        let rows = table.lines().filter_map(|line| line.split_once(' '));
        Ok(Self {
            key: DecodingKey::from_secret(&secret),
            rules: Validation::new(Algorithm::HS256),
            owners: rows.map(|(session, client)| (session.to_owned(), client.to_owned())).collect(),
        })
    }

    fn admits(&self, head: &RequestHeader) -> bool {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let (Some(authorization), Some(client), Some(session)) =
            (text("authorization"), text("client-id"), text("session-id"))
        else {
            return false;
        };
        let Some(token) = authorization.strip_prefix("Bearer ") else { return false };
        decode::<Claims>(token, &self.key, &self.rules).is_ok_and(|token| token.claims.client_id == client)
            && self.owners.get(session).is_some_and(|owner| owner.as_str() == client)
    }
}

struct Proxy {
    origin: SocketAddr,
    guard: Option<Arc<Guard>>,
}

#[async_trait]
impl ProxyHttp for Proxy {
    type CTX = ();

    fn new_ctx(&self) -> Self::CTX {}

    async fn request_filter(&self, session: &mut Session, _: &mut ()) -> Result<bool> {
        if self.guard.as_ref().is_none_or(|guard| guard.admits(session.req_header())) {
            return Ok(false);
        }
        // Not `respond_error`, which would close the connection.
        let mut head = ResponseHeader::build(401, Some(1))?;
        head.insert_header("content-length", "9")?;
        session.write_response_header(Box::new(head), false).await?;
        session.write_response_body(Some(Bytes::from_static(b"rejected\n")), true).await?;
        Ok(true)
    }

    async fn upstream_peer(&self, _: &mut Session, _: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.origin, false, String::new())))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plain, guarded, origin, folder] = arguments.as_slice() else {
        return Err("usage: sessiongate-peer-pingora PLAIN_PORT GUARDED_PORT ORIGIN_PORT FOLDER".into());
    };
    let origin = SocketAddr::from((Ipv4Addr::LOCALHOST, origin.parse()?));
    let guard = Arc::new(Guard::read(Path::new(folder))?);
    let settings =
        ServerConf { threads: 1, work_stealing: false, upstream_keepalive_pool_size: 1024, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, settings);
    server.bootstrap();
    for (port, guard) in [(plain, None), (guarded, Some(guard))] {
        let mut service = http_proxy_service(&server.configuration, Proxy { origin, guard });
        service.add_tcp(&format!("127.0.0.1:{port}"));
        server.add_service(service);
    }
    server.run_forever()
}
