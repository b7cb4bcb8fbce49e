//! One connection of the load, in cleartext or over TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};

use crate::http;

/// A connection, and the request on it.
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    received: Vec<u8>,
    /// When the request on it was due; none if there is none.
    pub due: Option<Instant>,
}

/// What came of reading.
pub enum Progress {
    /// The answer is not there yet.
    Waiting,
    /// It is.
    Answered {
        /// Whether its status is 2xx.
        success: bool,
    },
    /// The other side left.
    Gone,
}

impl Client {
    /// Connects.
    pub fn open(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let tls = tls.map(|config| {
            let name = ServerName::try_from("gateway.local").map_err(io::Error::other)?;
            ClientConnection::new(config.clone(), name).map(Box::new).map_err(io::Error::other)
        });
        Ok(Self { stream, tls: tls.transpose()?, received: Vec::with_capacity(4096), due: None })
    }

    /// Sends a request; over TLS, as soon as the handshake allows. It fits into the socket: the one before was answered.
    pub fn send(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        self.due = Some(due);
        match &mut self.tls {
            None => self.stream.write_all(request),
            Some(tls) => {
                tls.writer().write_all(request)?;
                flush(tls, &mut self.stream)
            }
        }
    }

    /// Reads what has arrived.
    pub fn receive(&mut self, part: &mut [u8]) -> Progress {
        let open = match self.read(part) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Progress::Waiting,
            Err(_) => return Progress::Gone,
        };
        let whole = http::head_length(&self.received)
            .is_some_and(|length| self.received.len() >= length + http::body_length(&self.received[..length]));
        if whole {
            let success = http::succeeded(&self.received);
            self.received.clear();
            return Progress::Answered { success };
        }
        if open { Progress::Waiting } else { Progress::Gone }
    }

    /// Whether the other side goes on.
    fn read(&mut self, part: &mut [u8]) -> io::Result<bool> {
        let Some(tls) = &mut self.tls else {
            let length = self.stream.read(part)?;
            self.received.extend_from_slice(&part[..length]);
            return Ok(length > 0);
        };
        let open = tls.read_tls(&mut self.stream)? > 0;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        let start = self.received.len();
        self.received.resize(start + state.plaintext_bytes_to_read(), 0);
        tls.reader().read_exact(&mut self.received[start..])?;
        flush(tls, &mut self.stream)?;
        Ok(open && !state.peer_has_closed())
    }
}

fn flush(tls: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(stream)?;
    }
    Ok(())
}

/// TLS 1.3 with what every peer has, so that all do the same work: X25519, AES-128-GCM, no resumption.
pub fn tls() -> Arc<ClientConfig> {
    let mut provider = ring::default_provider();
    provider.cipher_suites = vec![ring::cipher_suite::TLS13_AES_128_GCM_SHA256];
    provider.kx_groups = vec![ring::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the suite is one of TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// Believes every server: the load is to be light, and the server is our own.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 was not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
