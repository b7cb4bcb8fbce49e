//! Certificates, and TLS clients that trust them.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};

use super::Raw;

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
            Some(Issued { der, key }) => {
                config.with_client_auth_cert(vec![der.clone()], key.clone_key()).expect("a certificate and its key")
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

/// An authority that issues certificates of clients.
pub struct ClientAuthority {
    pub cert_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl ClientAuthority {
    /// A new one.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let cert_pem = params.self_signed(&key).expect("a certificate").pem();
        Self { cert_pem, issuer: Issuer::new(params, key) }
    }

    /// A certificate with this serial number.
    pub fn issue(&self, serial: u64) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).expect("parameters");
        params.serial_number = Some(SerialNumber::from(serial));
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { der: certificate.der().clone(), key: PrivateKeyDer::try_from(key.serialize_der()).expect("a key") }
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
}

/// The certificate of a client.
pub struct Issued {
    der: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Issued {
    /// The certificate as RFC 9440 shows it.
    pub fn base64(&self) -> String {
        STANDARD.encode(&self.der)
    }
}
