//! TLS toward upstreams: whom we trust, who we are, and what is agreed on in a handshake.
//!
//! The name and the chain of an upstream are always verified; there is no switch for it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{self, SHA256};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Endpoint;

/// Oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

/// How TLS is to be spoken with the endpoints of a pool.
#[derive(Debug, Clone, Default)]
pub struct TlsSettings {
    /// PEM file of the authorities that endpoints may have their certificates from; none: those the system trusts.
    pub ca: Option<PathBuf>,
    /// The name that certificates must be for; none: the host of the endpoint.
    pub server_name: Option<ServerName<'static>>,
    /// PEM files of our certificate chain, leaf first, and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Oldest version.
    pub min_version: MinVersion,
}

/// Something that TLS needs and that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The authorities.
    #[error("{0}")]
    Ca(String),
    /// Our certificate or its key.
    #[error("{0}")]
    Identity(String),
}

/// A client of TLS for the endpoints of a pool. Two are equal if they do the same: the same settings, and the same bytes in
/// their files. Sessions are resumed (RFC 8446 section 2.2) for as long as it lives.
#[derive(Clone)]
pub struct TlsClient {
    connector: TlsConnector,
    server_name: Option<ServerName<'static>>,
    fingerprint: [u8; 32],
}

/// Protocols that are offered in a handshake (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offer {
    Http1,
    Http2,
    Both,
}

const H1: &[u8] = b"http/1.1";
const H2: &[u8] = b"h2";

impl TlsClient {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`]; its text names the file and what to do.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsError> {
        let provider = Arc::new(default_provider());
        let mut seen = digest::Context::new(&SHA256);
        seen.update(format!("{:?} {:?}", settings.server_name, settings.min_version).as_bytes());
        let roots = match &settings.ca {
            Some(path) => certificates(path).map_err(TlsError::Ca)?,
            None => system_roots()?,
        };
        let mut store = RootCertStore::empty();
        for root in &roots {
            seen.update(root);
            // Stores of systems hold odd ones; a file of our own should not.
            if let Err(error) = store.add(root.clone())
                && let Some(path) = &settings.ca
            {
                let message =
                    format!("{} has a certificate that cannot be used: {error}; issue it again", path.display());
                return Err(TlsError::Ca(message));
            }
        }
        let versions: &[_] = match settings.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let unusable = |error: rustls::Error| TlsError::Ca(format!("TLS cannot be set up: {error}"));
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), Arc::clone(&provider)).build();
        let verifier =
            verifier.map_err(|error| TlsError::Ca(format!("nobody is trusted: {error}; name a file in ca")))?;
        let builder =
            ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).map_err(unusable)?;
        let builder = builder.with_webpki_verifier(verifier);
        let config = match &settings.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = certificates(cert).map_err(TlsError::Identity)?;
                let private = PrivateKeyDer::from_pem_file(key);
                let private = private.map_err(|error| TlsError::Identity(unreadable(key, "private key", &error)))?;
                seen.update(b"identity");
                chain.iter().for_each(|certificate| seen.update(certificate));
                seen.update(private.secret_der());
                builder.with_client_auth_cert(chain, private).map_err(|error| {
                    let (cert, key) = (cert.display(), key.display());
                    TlsError::Identity(format!("{cert} and {key} cannot be used together: {error}; use the key of the first certificate in the chain"))
                })?
            }
        };
        let mut fingerprint = [0; 32];
        fingerprint.copy_from_slice(seen.finish().as_ref());
        Ok(Self { connector: Arc::new(config).into(), server_name: settings.server_name.clone(), fingerprint })
    }

    /// How TLS is spoken, for clients that are not of a pool, and what tells it from other ways.
    #[must_use]
    pub fn config(&self) -> (Arc<ClientConfig>, [u8; 32]) {
        (Arc::clone(self.connector.config()), self.fingerprint)
    }

    /// Agrees on TLS over `socket`. True if HTTP/2 was agreed on, too.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        socket: TcpStream,
        offer: Offer,
    ) -> io::Result<(Box<TlsStream<TcpStream>>, bool)> {
        let name = match &self.server_name {
            Some(name) => name.clone(),
            None => server_name(&endpoint.host)?,
        };
        let protocols = match offer {
            Offer::Http1 => vec![H1.to_vec()],
            Offer::Http2 => vec![H2.to_vec()],
            Offer::Both => vec![H2.to_vec(), H1.to_vec()],
        };
        let socket = Box::new(self.connector.with_alpn(protocols).connect(name, socket).await?);
        let http2 = socket.get_ref().1.alpn_protocol() == Some(H2);
        if offer == Offer::Http2 && !http2 {
            let error = rustls::Error::General("the upstream does not offer HTTP/2 (ALPN)".into());
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        Ok((socket, http2))
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

impl PartialEq for TlsClient {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for TlsClient {}

/// The name of a host as certificates have it.
///
/// # Errors
/// `InvalidInput` if no certificate can be for it.
pub fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let name = ServerName::try_from(host.to_owned());
    name.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// What TLS says was wrong, if it was TLS.
pub(super) fn cause(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref().and_then(|inner| inner.downcast_ref())
}

/// Whether it was about a certificate, theirs or ours.
pub(super) fn is_about_certificates(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => true,
        rustls::Error::AlertReceived(alert) => matches!(
            alert,
            Alert::NoCertificate
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::CertificateRequired
                | Alert::AccessDenied
        ),
        _ => false,
    }
}

/// Whether there is no protocol that both speak (RFC 7301 section 3.2).
pub(super) fn is_about_protocols(error: &rustls::Error) -> bool {
    matches!(error, rustls::Error::AlertReceived(rustls::AlertDescription::NoApplicationProtocol))
}

fn system_roots() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let why = found.errors.first().map(ToString::to_string).unwrap_or_else(|| "it is empty".to_owned());
        return Err(TlsError::Ca(format!("the system's trust store cannot be used: {why}; name a file in ca")));
    }
    Ok(found.certs)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err(unreadable(path, "certificate", &pem::Error::NoItemsFound)),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(unreadable(path, "certificate", &error)),
    }
}

fn unreadable(path: &Path, what: &str, error: &pem::Error) -> String {
    let path = path.display();
    match error {
        pem::Error::Io(error) => format!("cannot read {path}: {error}; check that this user may read it"),
        pem::Error::NoItemsFound => format!("{path} has no {what} in PEM; check that it is the right file"),
        other => format!("{path} is not valid PEM: {other}; convert it with `openssl`"),
    }
}

#[cfg(test)]
mod tests;
