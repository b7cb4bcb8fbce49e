//! Certificates, and TLS clients that trust them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use super::Raw;

/// A self-signed certificate for `localhost`.
pub struct Certificate {
    pub cert_pem: String,
    pub key_pem: String,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// A new one.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        Self { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    /// A client configuration that trusts this certificate and nothing else.
    pub fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("the certificate is a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// An HTTP/1.1 connection, and the protocol that was agreed on.
    pub fn connect(&self, address: SocketAddr, protocols: &[&[u8]]) -> (Raw, Option<Vec<u8>>) {
        let (stream, socket) = self.handshake(address, protocols).expect("a handshake");
        let agreed = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        (Raw::over(stream, socket), agreed)
    }

    /// A finished handshake.
    pub fn handshake(
        &self,
        address: SocketAddr,
        protocols: &[&[u8]],
    ) -> std::io::Result<(StreamOwned<ClientConnection, TcpStream>, TcpStream)> {
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(self.client(protocols), name).expect("a client");
        let mut stream = StreamOwned::new(client, Raw::socket(address));
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let socket = stream.sock.try_clone()?;
        Ok((stream, socket))
    }
}
