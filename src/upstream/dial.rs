//! New connections to endpoints.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use super::names::Addresses;
use super::{Endpoint, UpstreamError};

/// Connects within `timeout`, to the first of its addresses that can be reached. An address that does not answer gets its
/// share of the time only.
pub(super) async fn dial(
    endpoint: &Endpoint,
    addresses: &Addresses,
    timeout: Duration,
) -> Result<(TcpStream, SocketAddr), UpstreamError> {
    let name = || endpoint.label();
    let late = Instant::now() + timeout;
    let Ok(to_try) = tokio::time::timeout(timeout, addresses.to_try()).await else {
        return Err(UpstreamError::Name { endpoint: name() });
    };
    let mut failed = UpstreamError::Name { endpoint: name() };
    for (left, address) in (1..=u32::try_from(to_try.len()).unwrap_or(u32::MAX)).rev().zip(to_try) {
        let share = late.saturating_duration_since(Instant::now()) / left;
        failed = match tokio::time::timeout(share, TcpStream::connect(address)).await {
            Err(_) => UpstreamError::ConnectTimeout { endpoint: name() },
            Ok(Err(source)) if is_exhausted(&source) => {
                return Err(UpstreamError::Exhausted { endpoint: name(), source });
            }
            Ok(Err(source)) => UpstreamError::Connect { endpoint: name(), source },
            Ok(Ok(socket)) => {
                addresses.tried(address, true);
                socket.set_nodelay(true).map_err(|source| UpstreamError::Connect { endpoint: name(), source })?;
                return Ok((socket, address));
            }
        };
        addresses.tried(address, false);
    }
    Err(failed)
}

/// Local exhaustion: no descriptors, no ports, no memory.
fn is_exhausted(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrInUse, AddrNotAvailable, OutOfMemory};
    matches!(error.kind(), AddrInUse | AddrNotAvailable | OutOfMemory)
        || matches!(error.raw_os_error(), Some(23 | 24 | 105))
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn what_this_machine_lacks_is_told_from_what_the_endpoint_lacks() {
        // ENFILE, EMFILE, ENOBUFS; ports (EADDRNOTAVAIL, EADDRINUSE).
        for code in [23, 24, 105, 99, 98] {
            assert!(is_exhausted(&Error::from_raw_os_error(code)), "{code}");
        }
        for kind in [ErrorKind::ConnectionRefused, ErrorKind::HostUnreachable, ErrorKind::TimedOut] {
            assert!(!is_exhausted(&kind.into()), "{kind}");
        }
    }
}
