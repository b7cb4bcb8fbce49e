//! The discovery document of an issuer.

use serde::Deserialize;
use url::Url;

use crate::policy::members::Members;

/// What is read of it (OpenID Connect Discovery 1.0 section 3).
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// Where the key set of `issuer` is.
///
/// # Errors
/// If this is not its document. An issuer that is not the one that was asked for is somebody else's, who could then sign
/// for it (section 4.3).
pub(super) fn key_set_url(json: &[u8], issuer: &str) -> Result<Url, String> {
    // The reason may quote from the document, which may be anything.
    let text = std::str::from_utf8(json).ok().filter(|text| Members::read(text).is_some());
    let document = text.and_then(|text| serde_json::from_str::<Document>(text).ok());
    let document = document.ok_or_else(|| "this is no discovery document".to_owned())?;
    if document.issuer != issuer {
        return Err(format!("the document is of the issuer {:?}, not of {issuer:?}", shortened(&document.issuer)));
    }
    Url::parse(&document.jwks_uri).map_err(|error| format!("its jwks_uri is no address: {error}"))
}

/// As much of a foreign text as a log should hold.
fn shortened(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_document_of_the_issuer_itself_counts() {
        let url = |json: &str| key_set_url(json.as_bytes(), "https://login.example");
        let good = r#"{"issuer":"https://login.example","jwks_uri":"https://keys.example/jwks","x":[1]}"#;
        assert_eq!(url(good).unwrap().as_str(), "https://keys.example/jwks");
        for bad in [
            r#"{"issuer":"https://login.example/","jwks_uri":"https://keys.example/jwks"}"#,
            r#"{"issuer":"https://evil.example","jwks_uri":"https://keys.example/jwks"}"#,
            r#"{"issuer":"https://login.example","jwks_uri":"/jwks"}"#,
            r#"{"issuer":"https://login.example"}"#,
            r#"{"jwks_uri":"https://keys.example/jwks"}"#,
            r#"{"issuer":"https://login.example","issuer":"https://evil.example","jwks_uri":"https://k.example"}"#,
            r#"["https://login.example","https://keys.example/jwks"]"#,
            "<html>",
            "",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
