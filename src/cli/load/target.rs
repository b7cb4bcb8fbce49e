//! What is called: an address, in cleartext or over TLS, by HTTP/1.1 or HTTP/2.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args as ClapArgs;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use url::Url;

use crate::cli::failure::Failure;

/// How the target is called.
#[derive(Debug, ClapArgs)]
#[command(next_help_heading = "Target")]
pub struct TargetArgs {
    /// What to call, such as http://127.0.0.1:8080 or https://gate.example
    #[arg(value_name = "URL", required_unless_present = "print_scenario")]
    target: Option<Url>,

    /// Speak HTTP/2: by prior knowledge in cleartext, by ALPN over TLS
    #[arg(long)]
    http2: bool,

    /// File with the certificates of the authorities to trust, in PEM [default: those of the system]
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,

    /// Do not verify the certificate of the target
    #[arg(long)]
    insecure: bool,
}

/// A connection's bytes.
pub type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A target whose address is known.
pub struct Target {
    /// As it was written.
    pub url: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Host and port, as in `host`.
    pub authority: String,
    /// Whether HTTP/2 is spoken.
    pub http2: bool,
    addresses: Vec<SocketAddr>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Nobody accepts there.
    #[error("no connection to {address}: {error}")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
    /// The handshake failed.
    #[error("no TLS with {authority}: {error}")]
    Tls {
        /// With whom.
        authority: String,
        /// What went wrong.
        error: std::io::Error,
    },
    /// Another protocol was chosen.
    #[error("{authority} does not speak HTTP/2; leave --http2 out")]
    NoHttp2 {
        /// Who.
        authority: String,
    },
    /// The HTTP/2 preface failed.
    #[error("no HTTP/2 with {authority}: {error}")]
    Http2 {
        /// With whom.
        authority: String,
        /// What went wrong.
        error: hyper::Error,
    },
}

impl Target {
    /// Looks the address up and reads the certificates.
    ///
    /// # Errors
    /// [`Failure::Input`] for a bad URL or certificate file, [`Failure::Runtime`] if the name is not known.
    pub async fn resolve(args: &TargetArgs) -> Result<Self, Failure> {
        let wrong = |what: &str| Failure::Input(format!("the target {what}; write it like http://127.0.0.1:8080"));
        let url = args.target.as_ref().ok_or_else(|| wrong("is missing"))?;
        let scheme = match url.scheme() {
            "http" => "http",
            "https" => "https",
            _ => return Err(wrong("is neither http nor https")),
        };
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
        if !bare || !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("has more than scheme, host and port; paths stand in the scenario"));
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(wrong("has no host"));
        };
        let bare_host = host.trim_start_matches('[').trim_end_matches(']');
        let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((bare_host, port))
            .await
            .map_err(|error| Failure::runtime(&format!("the address of {host} is not known"), error))?
            .collect();
        if addresses.is_empty() {
            return Err(Failure::Runtime(format!("{host} has no address")));
        }
        let tls = match scheme {
            "https" => {
                let name =
                    ServerName::try_from(bare_host.to_owned()).map_err(|_| wrong("has a host that TLS cannot name"))?;
                Some((TlsConnector::from(Arc::new(tls(args)?)), name))
            }
            _ => None,
        };
        let url = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { url, scheme, authority, http2: args.http2, addresses, tls })
    }

    /// `HTTP/1.1` or `HTTP/2`, for reports.
    pub fn protocol(&self) -> &'static str {
        if self.http2 { "HTTP/2" } else { "HTTP/1.1" }
    }

    /// A new connection.
    ///
    /// # Errors
    /// [`DialError`], about the last address that was tried.
    pub async fn dial(&self) -> Result<Stream, DialError> {
        let socket = self.socket().await?;
        // Without it small requests would wait for acknowledgments; where it is not known, nothing is lost.
        _ = socket.set_nodelay(true);
        let Some((connector, name)) = &self.tls else { return Ok(Either::Left(socket)) };
        let authority = || self.authority.clone();
        let stream = connector.connect(name.clone(), socket).await;
        let stream = stream.map_err(|error| DialError::Tls { authority: authority(), error })?;
        if self.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(DialError::NoHttp2 { authority: authority() });
        }
        Ok(Either::Right(stream))
    }

    async fn socket(&self) -> Result<TcpStream, DialError> {
        let (first, others) = match self.addresses.split_first() {
            Some((first, others)) => (*first, others),
            None => (SocketAddr::from(([0, 0, 0, 0], 0)), &[][..]),
        };
        let mut failed = match TcpStream::connect(first).await {
            Ok(socket) => return Ok(socket),
            Err(error) => DialError::Connect { address: first, error },
        };
        for address in others {
            match TcpStream::connect(*address).await {
                Ok(socket) => return Ok(socket),
                Err(error) => failed = DialError::Connect { address: *address, error },
            }
        }
        Err(failed)
    }
}

fn tls(args: &TargetArgs) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::runtime("TLS cannot be set up", error))?;
    let mut config = if args.insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Unverified(provider))).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(args.ca.as_deref())?).with_no_client_auth()
    };
    config.alpn_protocols = vec![if args.http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

fn roots(path: Option<&Path>) -> Result<RootCertStore, Failure> {
    let name = path.map_or_else(|| "the system's authorities".to_owned(), |path| path.display().to_string());
    let failed = |what: String| Failure::Input(format!("{name}: {what}; give --ca FILE"));
    let certificates = match path {
        Some(path) => CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| failed(format!("no certificates can be read: {error}")))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let mut roots = RootCertStore::empty();
    // Bundles of a system may hold some that are too old for rustls.
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 { Err(failed("there is no certificate in it".into())) } else { Ok(roots) }
}

/// Takes any certificate; only behind `--insecure`. Signatures of the handshake are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
