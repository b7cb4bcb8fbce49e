//! TLS of the listeners: certificates from files, replaced while running.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

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
    /// The TLS library refused the configuration.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// The certificate of a listener, shared by its workers and replaced by [`replace`](Self::replace).
#[derive(Debug)]
pub struct Certificate(ArcSwap<ServerConfig>);

impl Certificate {
    /// Loads a PEM chain (the server's certificate first) and its PEM key (PKCS #8, SEC 1 or PKCS #1).
    ///
    /// # Errors
    ///
    /// [`TlsError`].
    pub fn load(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::from_pointee(configure(chain.as_ref(), key.as_ref())?)))
    }

    /// Takes the files of another certificate, which was loaded for it. Handshakes from now on use them; connections that
    /// are open go on.
    pub fn replace(&self, with: &Self) {
        self.0.store(with.current());
    }

    /// What the next handshake uses.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// TLS 1.3 (RFC 8446) and 1.2, with the defaults of the provider, which is passed explicitly: nobody else's choice of a
/// process-wide default can change it.
fn configure(chain: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let certified = pair(chain, key, &provider)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // Stateless: the default keeps sessions in a small cache behind a lock.
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(config)
}

fn pair(chain: &Path, key: &Path, provider: &rustls::crypto::CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let certificates = CertificateDer::pem_file_iter(chain).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = certificates.map_err(|error| broken(chain, error, TlsError::NoCertificate))?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate(chain.to_owned()));
    }
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
        Certificate::load(&chain_file, &key_file).expect("a pair");

        let cases = [
            (files.dir.path().join("none.pem"), key_file.clone(), "none.pem: "),
            (key_file.clone(), key_file.clone(), "key.pem has no certificate"),
            (chain_file.clone(), chain_file.clone(), "chain.pem has no private key"),
            (chain_file.clone(), files.write("other.pem", &other_key), "other.pem does not belong"),
            (files.write("cut.pem", &chain[..chain.len() / 2]), key_file.clone(), "cut.pem"),
            (files.write("empty.pem", ""), key_file, "empty.pem has no certificate"),
        ];
        for (chain, key, expected) in cases {
            let text = Certificate::load(chain, key).expect_err(expected).to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("; "), "{text}");
        }
    }

    #[test]
    fn a_broken_new_certificate_leaves_the_old_one_in_use() {
        let files = Files::new();
        let (chain, key) = issue();
        let (chain_file, key_file) = (files.write("chain.pem", &chain), files.write("key.pem", &key));
        let certificate = Certificate::load(&chain_file, &key_file).expect("a pair");
        let old = certificate.current();
        files.write("chain.pem", "nonsense");
        Certificate::load(&chain_file, &key_file).expect_err("broken");
        assert!(Arc::ptr_eq(&old, &certificate.current()));

        let (chain, key) = issue();
        files.write("chain.pem", &chain);
        files.write("key.pem", &key);
        certificate.replace(&Certificate::load(&chain_file, &key_file).expect("good again"));
        assert!(!Arc::ptr_eq(&old, &certificate.current()));
    }
}
