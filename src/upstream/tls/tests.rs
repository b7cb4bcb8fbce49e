//! What is loaded, and when two clients are one.

use std::fs;

use super::*;

struct Files(tempfile::TempDir);

impl Files {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }
}

fn pair() -> (String, String) {
    let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (issued.cert.pem(), issued.signing_key.serialize_pem())
}

#[test]
fn clients_are_equal_as_long_as_settings_and_files_are() {
    let files = Files(tempfile::tempdir().unwrap());
    let (cert, key) = pair();
    let settings = TlsSettings { ca: Some(files.write("ca.pem", &cert)), ..TlsSettings::default() };
    let client = TlsClient::load(&settings).unwrap();
    assert_eq!(client, TlsClient::load(&settings).unwrap());
    let named = TlsSettings { server_name: Some(server_name("shop.test").unwrap()), ..settings.clone() };
    assert_ne!(client, TlsClient::load(&named).unwrap());
    let newer = TlsSettings { min_version: MinVersion::Tls13, ..settings.clone() };
    assert_ne!(client, TlsClient::load(&newer).unwrap());
    let identity = Some((files.write("cert.pem", &cert), files.write("key.pem", &key)));
    assert_ne!(client, TlsClient::load(&TlsSettings { identity, ..settings.clone() }).unwrap());
    files.write("ca.pem", &pair().0);
    assert_ne!(client, TlsClient::load(&settings).unwrap(), "the same file with other content");
}

#[test]
fn each_mistake_names_the_file_and_the_remedy() {
    let files = Files(tempfile::tempdir().unwrap());
    let ((cert, key), (_, other)) = (pair(), pair());
    let (ca, cert_file) = (files.write("ca.pem", &cert), files.write("cert.pem", &cert));
    let (key_file, other_file) = (files.write("key.pem", &key), files.write("other.pem", &other));
    let trusting = |ca: PathBuf| TlsSettings { ca: Some(ca), ..TlsSettings::default() };
    let showing = |cert: &PathBuf, key: &PathBuf| TlsSettings {
        identity: Some((cert.clone(), key.clone())),
        ..trusting(ca.clone())
    };
    for (settings, expected) in [
        (trusting(files.0.path().join("none.pem")), "cannot read"),
        (trusting(key_file.clone()), "key.pem has no certificate in PEM; "),
        (trusting(files.write("cut.pem", &cert[..cert.len() / 2])), "cut.pem"),
        (showing(&cert_file, &cert_file), "cert.pem has no private key in PEM; "),
        (showing(&key_file, &key_file), "key.pem has no certificate in PEM; "),
        (showing(&cert_file, &other_file), "cannot be used together"),
    ] {
        let text = TlsClient::load(&settings).expect_err(expected).to_string();
        assert!(text.contains(expected), "{text}");
    }
    TlsClient::load(&showing(&cert_file, &key_file)).unwrap();
}
