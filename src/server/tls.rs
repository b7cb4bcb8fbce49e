//! TLS of the listeners: certificates from files, replaced while running.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::config::snapshot::{ClientAuth, TlsConfig, TlsFiles};

/// A certificate or key that cannot be used. Each text names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {}: {source}; check that it exists and that this user may read it", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not PEM (RFC 7468), or a block in it is broken.
    #[error("{} is not valid PEM: {detail}; convert it with `openssl`", .path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There is no certificate in the chain file.
    #[error("{} has no certificate; it must hold the server's certificate first, then its issuers, in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// There is no private key in the key file.
    #[error("{} has no private key; it must hold one unencrypted key in PEM", .0.display())]
    NoKey(PathBuf),
    /// The key is of a kind that we cannot sign with.
    #[error("the key in {} cannot be used: {detail}; use an ECDSA, Ed25519 or RSA key", .path.display())]
    KeyUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Certificate and key are not a pair.
    #[error("the key in {} does not belong to the first certificate in {}; order the chain with the server's certificate first, or use its key", .key.display(), .chain.display())]
    Mismatch {
        /// The chain file.
        chain: PathBuf,
        /// The key file.
        key: PathBuf,
    },
    /// The certificate cannot be parsed.
    #[error("the certificate in {} cannot be used: {detail}; issue it again", .path.display())]
    CertificateUnusable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There is no revocation list in the file.
    #[error("{} has no revocation list; it must hold the lists of all issuers of client certificates, in PEM", .0.display())]
    NoRevocationList(PathBuf),
    /// Authorities or revocation lists of clients cannot be used.
    #[error("client certificates cannot be judged by {}: {detail}; check the authorities and revocation lists", .path.display())]
    ClientAuth {
        /// The file of the authorities.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The TLS library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What the listener says and asks for in a handshake.
#[derive(Debug)]
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// Whether upstreams are shown the certificate of the client.
    pub(super) forward_certificate: bool,
}

impl Tls {
    /// Reads the files: PEM chains (the server's certificate first) and their PEM keys (PKCS #8, SEC 1 or PKCS #1),
    /// authorities and revocation lists of clients.
    ///
    /// TLS 1.3 (RFC 8446) and 1.2, with the defaults of the provider, which is passed explicitly: nobody else's choice of
    /// a process-wide default can change it.
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub(super) fn load(files: &TlsConfig) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut certificates = ByName::default();
        for TlsFiles { cert, key } in &files.certificates {
            certificates.add(pair(cert, key, &provider)?, cert)?;
        }
        let versions: &[_] = if files.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
        let builder = match &files.clients {
            Some(clients) => builder.with_client_cert_verifier(verifier(clients, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificates));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Stateless: the default keeps sessions in a small cache behind a lock. New keys for each configuration, so that
        // no session goes on that another listener, or the rules before a reload, let in.
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        let forward_certificate = files.clients.as_ref().is_some_and(|clients| clients.forward);
        Ok(Self { config: Arc::new(config), forward_certificate })
    }
}

/// Judges the certificates of clients.
fn verifier(clients: &ClientAuth, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let file = &clients.authorities;
    let mut roots = RootCertStore::empty();
    for authority in certificates(file)? {
        let added = roots.add(authority);
        added.map_err(|error| TlsError::CertificateUnusable { path: file.clone(), detail: error.to_string() })?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(file) = &clients.revoked {
        let lists = CertificateRevocationListDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let lists = lists.map_err(|error| broken(file, error, TlsError::NoRevocationList))?;
        if lists.is_empty() {
            return Err(TlsError::NoRevocationList(file.clone()));
        }
        // A list that is out of date says nothing about who was revoked since.
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    if !clients.required {
        builder = builder.allow_unauthenticated();
    }
    builder.build().map_err(|error| TlsError::ClientAuth { path: file.clone(), detail: error.to_string() })
}

/// Certificates by the names in them; the first one also answers for all other names.
#[derive(Debug, Default)]
struct ByName {
    default: Vec<Arc<CertifiedKey>>,
    /// `*.example.com` as `.example.com`. Several for one name differ in the kind of their key.
    names: HashMap<Box<str>, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    fn add(&mut self, certified: CertifiedKey, path: &Path) -> Result<(), TlsError> {
        let certified = Arc::new(certified);
        for name in names(certified.end_entity_cert()?, path)? {
            self.names.entry(name).or_default().push(Arc::clone(&certified));
        }
        if self.default.is_empty() {
            self.default.push(certified);
        }
        Ok(())
    }

    fn find(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        // A wildcard stands for one label (RFC 9525 section 6.3).
        let parent = || name.find('.').and_then(|dot| self.names.get(name.get(dot..)?));
        self.names.get(name).or_else(parent)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // The library has lowered its letters.
        let found = hello.server_name().and_then(|name| self.find(name)).unwrap_or(&self.default);
        let fits = found.iter().find(|certified| certified.key.choose_scheme(hello.signature_schemes()).is_some());
        fits.or(found.first()).cloned()
    }
}

/// The host names that a certificate is for, in lower case.
fn names(certificate: &CertificateDer<'_>, path: &Path) -> Result<Vec<Box<str>>, TlsError> {
    let unusable = |detail: String| TlsError::CertificateUnusable { path: path.to_owned(), detail };
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|error| unusable(error.to_string()))?;
    let names = certificate.subject_alternative_name().map_err(|error| unusable(error.to_string()))?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.strip_prefix('*').unwrap_or(name).to_ascii_lowercase().into()),
        _ => None,
    });
    Ok(names.collect())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| broken(path, error, TlsError::NoCertificate))?;
    if certificates.is_empty() { Err(TlsError::NoCertificate(path.to_owned())) } else { Ok(certificates) }
}

fn pair(chain: &Path, key: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificates = certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| broken(key, error, TlsError::NoKey))?;
    let signing = provider
        .key_provider
        .load_private_key(private)
        .map_err(|error| TlsError::KeyUnusable { path: key.to_owned(), detail: error.to_string() })?;
    let certified = CertifiedKey::new(certificates, signing);
    match certified.keys_match() {
        // A key that cannot tell is let through: handshakes will show.
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(TlsError::Mismatch { chain: chain.to_owned(), key: key.to_owned() })
        }
        Err(error) => Err(TlsError::CertificateUnusable { path: chain.to_owned(), detail: error.to_string() }),
    }
}

fn broken(path: &Path, error: pem::Error, missing: fn(PathBuf) -> TlsError) -> TlsError {
    let path = path.to_owned();
    match error {
        pem::Error::Io(source) => TlsError::Unreadable { path, source },
        pem::Error::NoItemsFound => missing(path),
        other => TlsError::NotPem { path, detail: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Files {
        dir: tempfile::TempDir,
    }

    impl Files {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().expect("a directory") }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.dir.path().join(name);
            fs::write(&path, text).expect("written");
            path
        }
    }

    fn load(chain: &Path, key: &Path) -> Result<Tls, TlsError> {
        let files = TlsFiles { cert: chain.to_owned(), key: key.to_owned() };
        Tls::load(&TlsConfig { certificates: vec![files], ..TlsConfig::default() })
    }

    fn issue() -> (String, String) {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("issued");
        (issued.cert.pem(), issued.signing_key.serialize_pem())
    }

    #[test]
    fn each_mistake_names_the_file_and_the_remedy() {
        let files = Files::new();
        let (chain, key) = issue();
        let (_, other_key) = issue();
        let chain_file = files.write("chain.pem", &chain);
        let key_file = files.write("key.pem", &key);
        load(&chain_file, &key_file).expect("a pair");

        let cases = [
            (files.dir.path().join("none.pem"), key_file.clone(), "none.pem: "),
            (key_file.clone(), key_file.clone(), "key.pem has no certificate"),
            (chain_file.clone(), chain_file.clone(), "chain.pem has no private key"),
            (chain_file.clone(), files.write("other.pem", &other_key), "other.pem does not belong"),
            (files.write("cut.pem", &chain[..chain.len() / 2]), key_file.clone(), "cut.pem"),
            (files.write("empty.pem", ""), key_file, "empty.pem has no certificate"),
        ];
        for (chain, key, expected) in cases {
            let text = load(&chain, &key).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("; "), "{text}");
        }
    }

    #[test]
    fn a_name_finds_its_certificate_and_a_wildcard_stands_for_one_label() {
        let files = Files::new();
        let mut by_name = ByName::default();
        for (number, names) in [["shop.example", "b.example"], ["*.Example", "www.c.example"]].iter().enumerate() {
            let issued = rcgen::generate_simple_self_signed(names.map(str::to_owned)).expect("issued");
            let chain = files.write(&format!("{number}.pem"), &issued.cert.pem());
            let key = files.write(&format!("{number}.key"), &issued.signing_key.serialize_pem());
            let certified = pair(&chain, &key, &aws_lc_rs::default_provider()).expect("a pair");
            by_name.add(certified, &chain).expect("names");
        }
        let first = by_name.default[0].cert.clone();
        for (name, expected) in [
            ("shop.example", Some(true)),
            ("other.example", Some(false)),
            ("www.c.example", Some(false)),
            ("x.c.example", None),
            ("example", None),
        ] {
            assert_eq!(by_name.find(name).map(|found| found[0].cert == first), expected, "{name}");
        }
    }
}
