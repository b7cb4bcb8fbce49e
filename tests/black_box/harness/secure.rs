//! Upstreams behind TLS: an authority of their own, and origins that speak through it.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use super::PATIENCE;

/// An authority.
pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
    root: rustls_pki_types::CertificateDer<'static>,
}

/// A certificate of an authority, and its key, in PEM.
pub struct Issued {
    pub cert_pem: String,
    pub key_pem: String,
    pub der: rustls_pki_types::CertificateDer<'static>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test authority {}", NUMBER.fetch_add(1, Ordering::SeqCst));
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let cert = params.self_signed(&key).expect("a certificate");
        Self { pem: cert.pem(), root: cert.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name.
    pub fn issue(&self, name: &str) -> Issued {
        self.issue_as(name, |_| {})
    }

    /// A certificate for a name, as it was wanted.
    pub fn issue_as(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Issued {
        let mut params = CertificateParams::new([name.to_owned()]).expect("parameters");
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { cert_pem: cert.pem(), key_pem: key.serialize_pem(), der: cert.der().clone() }
    }

    /// The list that revokes these serial numbers, in PEM.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    /// A server of a certificate; with `clients` it demands one of theirs.
    pub fn server(&self, issued: &Issued, protocols: &[&[u8]], clients: Option<&Self>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.root.clone()).expect("a root");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).expect("a key");
        let mut config = builder.with_single_cert(vec![issued.der.clone()], key).expect("a pair");
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }
}

/// One connection of a [`SecureOrigin`].
pub type SecureLine = StreamOwned<ServerConnection, TcpStream>;

/// An origin that speaks HTTP/1.1 over TLS.
pub struct SecureOrigin {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl SecureOrigin {
    /// Answers each request whose head it has read as `script` says; false ends the connection without a word.
    pub fn answering(
        config: Arc<ServerConfig>,
        script: impl Fn(&str, &mut SecureLine) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (connections, script) = (Arc::new(AtomicUsize::new(0)), Arc::new(script));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                counted.fetch_add(1, Ordering::SeqCst);
                socket.set_read_timeout(Some(PATIENCE * 3)).expect("a time-out");
                let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
                let (mut line, script) = (StreamOwned::new(session, socket), Arc::clone(&script));
                thread::spawn(move || {
                    while let Some(head) = read_head(&mut line) {
                        if !script(&head, &mut line) {
                            let _ = line.sock.shutdown(Shutdown::Write);
                            return;
                        }
                    }
                });
            }
        });
        Self { address, connections }
    }

    /// Answers every request with `{"ok":true}`.
    pub fn start(config: Arc<ServerConfig>) -> Self {
        Self::answering(config, |_, line| {
            line.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"ok\":true}")
                .and_then(|()| line.flush())
                .is_ok()
        })
    }

    /// Its base, by name.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn read_head(line: &mut SecureLine) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match line.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Ok(_) | Err(_) => return None,
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
