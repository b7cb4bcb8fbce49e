//! Certificates, and TLS clients that trust them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::{Issued, Raw};

/// A self-signed certificate.
pub struct Certificate {
    pub cert_pem: String,
    pub key_pem: String,
    der: CertificateDer<'static>,
}

/// A finished handshake and its socket.
pub type Stream = (StreamOwned<ClientConnection, TcpStream>, TcpStream);

impl Certificate {
    /// A new one for `localhost`.
    pub fn new() -> Self {
        Self::named("localhost")
    }

    /// A new one for this name.
    pub fn named(name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        Self { cert_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
    }

    /// A client configuration that trusts this certificate and nothing else.
    pub fn client(&self, protocols: &[&[u8]]) -> Arc<ClientConfig> {
        self.client_as(protocols, None)
    }

    /// The same, and the client has a certificate.
    pub fn client_as(&self, protocols: &[&[u8]], client: Option<&Issued>) -> Arc<ClientConfig> {
        self.configure(&[&rustls::version::TLS13, &rustls::version::TLS12], protocols, client)
    }

    /// One that speaks only this version.
    pub fn client_of(&self, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
        self.configure(&[version], &[], None)
    }

    fn configure(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        protocols: &[&[u8]],
        client: Option<&Issued>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).expect("the certificate is a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions);
        let config = config.expect("versions of TLS").with_root_certificates(roots);
        let mut config = match client {
            None => config.with_no_client_auth(),
            Some(Issued { der, key_pem, .. }) => {
                let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).expect("a key");
                config.with_client_auth_cert(vec![der.clone()], key).expect("a certificate and its key")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// An HTTP/1.1 connection, and the protocol that was agreed on.
    pub fn connect(&self, address: SocketAddr, protocols: &[&[u8]]) -> (Raw, Option<Vec<u8>>) {
        let (stream, socket) = self.handshake(address, protocols).expect("a handshake");
        let agreed = stream.conn.alpn_protocol().map(<[u8]>::to_vec);
        (Raw::over(stream, socket), agreed)
    }

    /// The same over a socket on which something was said before.
    pub fn over(&self, socket: TcpStream, name: &str, config: Arc<ClientConfig>) -> std::io::Result<(Raw, TcpStream)> {
        let (stream, socket) = shake(socket, name, config)?;
        Ok((Raw::over(stream, socket.try_clone()?), socket))
    }

    /// A finished handshake.
    pub fn handshake(&self, address: SocketAddr, protocols: &[&[u8]]) -> std::io::Result<Stream> {
        shake(Raw::socket(address), "localhost", self.client(protocols))
    }

    /// A finished handshake with a server of another name.
    pub fn handshake_as(&self, address: SocketAddr, name: &str) -> std::io::Result<Stream> {
        shake(Raw::socket(address), name, self.client(&[]))
    }
}

fn shake(socket: TcpStream, name: &str, config: Arc<ClientConfig>) -> std::io::Result<Stream> {
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let client = ClientConnection::new(config, name).expect("a client");
    let mut stream = StreamOwned::new(client, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let socket = stream.sock.try_clone()?;
    Ok((stream, socket))
}
