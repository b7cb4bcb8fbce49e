//! The configuration of `serve` without a file: a gate in front of one upstream, from a handful of flags.
//!
//! It is a [`File`] that nobody wrote, compiled as any other, so that both ways mean the same by the same words. What
//! differs are defaults: lenient headers, no scopes, no body limit, and a shorter wait for the upstream.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use url::Url;

use super::compile;
use super::document::Touched;
use super::error::ConfigErrors;
use super::raw::{
    Admin, BodyLimit, ConfigMode, File, Headers, Issuer, Key, Limits, Listener, Period, Route, SecretRef, Server, Tls,
    Upstream, UpstreamServer, VERSION,
};
use super::snapshot::{AccessLog, LogFormat, Snapshot, TlsFiles};

/// Seconds that an upstream has for the first byte of its response.
const RESPONSE_TIMEOUT_SECS: u64 = 10;

/// What `serve` is told by its flags.
#[derive(Debug, Clone)]
pub struct Fileless {
    /// Where it listens in cleartext; none only if `tls` is there.
    pub listen: Option<SocketAddr>,
    /// Where it listens with TLS, and its certificate.
    pub tls: Option<(SocketAddr, TlsFiles)>,
    /// The upstream, `http://host:port` or `https://host:port`.
    pub upstream: Url,
    /// The file of the HMAC secret; at least 32 bytes.
    pub hs256_secret_file: PathBuf,
    /// Audiences of which a token must name one; empty: `aud` is not looked at.
    pub audiences: Vec<String>,
    /// The operator's listener.
    pub admin: Option<SocketAddr>,
    /// Worker threads; none: one per core.
    pub workers: Option<usize>,
    /// Where the access log goes.
    pub access: AccessLog,
    /// The form of log lines.
    pub format: LogFormat,
}

impl Fileless {
    /// Compiles the flags. `generation` numbers the snapshot.
    ///
    /// # Errors
    /// All flags that are wrong: a secret that cannot be read or is too short, an upstream that is no
    /// `http://host:port`, two listeners on one port, and so on.
    pub fn compile(&self, generation: u64) -> Result<Snapshot, ConfigErrors> {
        let compiled = compile::compile(&self.file(), &Touched::default(), Path::new(""), generation);
        let mut snapshot = compiled.map_err(|wrong| ConfigErrors::new("serve", "", wrong.found, |_| String::new()))?;
        snapshot.logs.access = self.access.clone();
        snapshot.logs.format = self.format;
        Ok(snapshot)
    }

    fn file(&self) -> File {
        let clear = self.listen.map(|address| Listener { address: text(address), ..Listener::default() });
        let tls = self.tls.as_ref().map(|(address, files)| {
            let (cert, key) = (text(files.cert.display()), text(files.key.display()));
            let tls = Tls { cert, key, ..Tls::default() };
            Listener { address: text(address), tls: Some(tls.into()), ..Listener::default() }
        });
        let secret = SecretRef::File(self.hs256_secret_file.display().to_string());
        let issuer = Issuer {
            name: text("default"),
            audiences: self.audiences.iter().cloned().map(Into::into).collect(),
            keys: vec![Key { secret: Some(secret.into()), ..Key::default() }.into()],
            ..Issuer::default()
        };
        let upstream = Upstream {
            name: text("default"),
            endpoints: vec![UpstreamServer::from(self.upstream.to_string()).into()],
            response_timeout: Period::secs(RESPONSE_TIMEOUT_SECS).into(),
            ..Upstream::default()
        };
        let route = Route { name: text("all"), path: text("/{*path}"), upstream: text("default"), ..Route::default() };
        File {
            version: Some(VERSION.into()),
            server: Server { workers: self.workers.map(Into::into), ..Server::default() }.into(),
            listeners: clear.into_iter().chain(tls).map(Into::into).collect(),
            admin: self.admin.map(|address| Admin { address: address.to_string().into(), token: None }.into()),
            limits: Limits { body: BodyLimit(None).into(), ..Limits::default() }.into(),
            headers: Headers { mode: Some(ConfigMode::Lenient), ..Headers::default() }.into(),
            issuers: vec![issuer.into()],
            upstreams: vec![upstream.into()],
            routes: vec![route.into()],
            ..File::default()
        }
    }
}

fn text(value: impl std::fmt::Display) -> Option<super::raw::At<String>> {
    Some(value.to_string().into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::method::MethodSet;
    use crate::policy::scopes::ScopeSet;

    fn flags(folder: &Path, secret: &str) -> Fileless {
        let file = folder.join("secret");
        std::fs::write(&file, secret).unwrap();
        Fileless {
            listen: Some("127.0.0.1:8080".parse().unwrap()),
            tls: None,
            upstream: Url::parse("http://127.0.0.1:9000").unwrap(),
            hs256_secret_file: file,
            audiences: vec!["orders".into()],
            admin: Some("127.0.0.1:9901".parse().unwrap()),
            workers: Some(3),
            access: AccessLog::Off,
            format: LogFormat::Auto,
        }
    }

    #[test]
    fn a_handful_of_flags_makes_a_gate() {
        let folder = tempfile::tempdir().unwrap();
        let live = flags(folder.path(), "0123456789abcdef0123456789abcdef\n").compile(7).unwrap();
        let [session, all] = live.routes.routes() else { panic!("{:?}", live.routes) };
        assert_eq!((live.generation, live.workers, &*session.name, &*all.name), (7, Some(3), "session", "all"));
        assert_eq!((&*all.path, all.methods, all.max_body), ("/{*path}", MethodSet::ALL, None));
        assert!(all.scopes.admits(&ScopeSet::NONE) && session.scopes.admits(&ScopeSet::NONE) && !all.exempt);
        assert_eq!(live.pools[0].response_timeout, Duration::from_secs(10));
        assert_eq!(live.pools[0].connect_timeout, Duration::from_secs(2));
        assert!(live.trusted_proxies.is_empty() && live.sessions.max_live_per_client.is_none());
        let claims = &live.auth.issuers()[0].claims;
        assert_eq!((claims.issuer.as_deref(), &*claims.audiences[0]), (None, "orders"));
        assert_eq!((&live.logs.access, live.admin.as_ref().unwrap().address.port()), (&AccessLog::Off, 9901));
    }

    #[test]
    fn flags_are_judged_like_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut flags = flags(folder.path(), "hunter2");
        flags.upstream = Url::parse("ftp://shop.example/").unwrap();
        flags.admin = flags.listen;
        flags.tls = Some((
            "127.0.0.1:8443".parse().unwrap(),
            TlsFiles { cert: folder.path().join("none.pem"), key: folder.path().join("secret") },
        ));
        let errors = flags.compile(1).unwrap_err().to_string();
        for part in [
            "serve: 4 mistakes",
            "the secret has 7 bytes; HMAC needs at least 32",
            "is not the address of a server",
            "another listener is at 127.0.0.1:8080",
            "none.pem: there is no such file",
        ] {
            assert!(errors.contains(part), "{part}\n{errors}");
        }
        assert!(!errors.contains("hunter2"));
    }
}
