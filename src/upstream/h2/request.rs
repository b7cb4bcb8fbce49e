//! The head of a request.

use h2::ext::Protocol;
use http::uri::{Authority, Parts, PathAndQuery, Scheme, Uri};
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use http_body::Body;

use crate::upstream::upload::Upload;
use crate::upstream::{Endpoint, Outbound, UpstreamError};

/// Fields of a usual call.
const FIELDS: usize = 24;

/// The head for `endpoint`. Who asks for another protocol does so by an extended CONNECT (RFC 8441).
pub(super) fn head(
    request: &impl Outbound,
    endpoint: &Endpoint,
    upload: &Upload,
) -> Result<Request<()>, UpstreamError> {
    let mut uri = Parts::default();
    uri.scheme = Some(if endpoint.tls { Scheme::HTTPS } else { Scheme::HTTP });
    let authority = Authority::try_from(request.host(endpoint));
    uri.authority = Some(authority.map_err(|_| UpstreamError::Malformed("the host is no authority"))?);
    uri.path_and_query = Some(target(request.target())?);
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = Uri::from_parts(uri).map_err(|_| UpstreamError::Malformed("the target"))?;
    *head.version_mut() = Version::HTTP_2;
    let mut fields = HeaderMap::with_capacity(FIELDS);
    request.fields(&mut fields);
    // A method that usually has a body says that there is none (RFC 9110 section 8.6).
    let usual = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = upload.size_hint().exact()
        && (!upload.is_empty() || usual)
    {
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    if let Some(protocol) = protocol(request) {
        *head.method_mut() = Method::CONNECT;
        head.extensions_mut().insert(Protocol::from(protocol));
        // Section 5.
        fields.remove(header::SEC_WEBSOCKET_KEY);
    }
    *head.headers_mut() = fields;
    Ok(head)
}

/// The protocol to ask for: there is room for one, and the first is what the client likes best (RFC 9110 section 7.8).
pub(super) fn protocol(request: &impl Outbound) -> Option<&str> {
    let protocols = request.upgrade()?.to_str().ok()?;
    protocols.split(',').next().map(str::trim_ascii)
}

fn target(target: Option<&PathAndQuery>) -> Result<PathAndQuery, UpstreamError> {
    match target {
        None => Ok(PathAndQuery::from_static("/")),
        // An absolute form may have a query behind no path.
        Some(target) if target.as_str().starts_with('?') => {
            PathAndQuery::try_from(format!("/{target}")).map_err(|_| UpstreamError::Malformed("the target"))
        }
        Some(target) => Ok(target.clone()),
    }
}
