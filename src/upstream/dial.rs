//! New connections to endpoints.

use std::time::Duration;

use tokio::net::TcpStream;

use super::{Endpoint, UpstreamError};

/// Connects within `timeout`.
pub(super) async fn dial(endpoint: &Endpoint, timeout: Duration) -> Result<TcpStream, UpstreamError> {
    let name = || format!("{}:{}", endpoint.host, endpoint.port);
    let connecting = TcpStream::connect((&*endpoint.host, endpoint.port));
    let socket = match tokio::time::timeout(timeout, connecting).await {
        Err(_) => return Err(UpstreamError::ConnectTimeout { endpoint: name() }),
        Ok(Err(source)) if is_exhausted(&source) => {
            return Err(UpstreamError::Exhausted { endpoint: name(), source });
        }
        Ok(Err(source)) => return Err(UpstreamError::Connect { endpoint: name(), source }),
        Ok(Ok(socket)) => socket,
    };
    socket.set_nodelay(true).map_err(|source| UpstreamError::Connect { endpoint: name(), source })?;
    Ok(socket)
}

/// Local exhaustion: no descriptors, no ports, no memory.
fn is_exhausted(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24 | 105))
}
