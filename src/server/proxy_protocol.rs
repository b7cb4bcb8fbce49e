//! The PROXY protocol, versions 1 and 2: a load balancer that passes bytes on says first whose they are.
//!
//! Whoever can write such a header can claim any address, so only listed peers may, and on such a listener each of them
//! must. What the header says takes the place of the peer: in logs, toward upstreams, and when `x-forwarded-*` of the
//! client is believed or not.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::snapshot::ProxyVersions;
use crate::timer::Timer;

/// Longest header: of version 2, 16 bytes and what follows them. Version 1 has at most `V1_MAX`.
pub const MOST: usize = 16 + 512;

/// Longest line of version 1, with its end.
const V1_MAX: usize = 107;

/// Shortest line of version 1: `PROXY UNKNOWN`.
const V1_MIN: usize = 15;

const V1: &[u8] = b"PROXY ";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, with the command that speaks of the connection itself: a health check of the load balancer.
const LOCAL: u8 = 0x20;

/// Why a connection cannot begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The peer may not say who the client is.
    #[error("the peer may not send a PROXY header")]
    Sender,
    /// What came first is no such header, of none of the versions that are taken, or too long.
    #[error("there is no usable PROXY header")]
    Header,
    /// It did not come in time.
    #[error("the PROXY header took too long")]
    TooSlow,
    /// The peer closed the connection before its end.
    #[error("the connection ended before the PROXY header")]
    Gone,
}

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// The header, with the address of the client; none if it says nothing about one, which leaves the peer itself.
    Whole(Option<SocketAddr>),
    /// The begin of one. So many bytes are missing at least.
    Missing(usize),
}

/// Reads the first bytes of a connection, which are asked for one [`Header::Missing`] after the other: none of them
/// belongs to what follows.
///
/// # Errors
/// [`Fault::Header`].
pub fn parse(bytes: &[u8], versions: ProxyVersions) -> Result<Header, Fault> {
    let begins = |signature: &[u8]| signature.iter().zip(bytes).all(|(expected, byte)| expected == byte);
    let missing = if versions.v1 && begins(V1) {
        missing_of_line(bytes)
    } else if versions.v2 && begins(V2) {
        missing_of_block(bytes)
    } else {
        return Err(Fault::Header);
    };
    match missing {
        Some(0) => whole(bytes).map(Header::Whole),
        Some(missing) => Ok(Header::Missing(missing)),
        None => Err(Fault::Header),
    }
}

/// At least so many bytes end a line of version 1; none if it is too long.
fn missing_of_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [.., b'\r', b'\n'] => Some(0),
        _ if bytes.len() < V1_MIN => Some(V1_MIN - bytes.len()),
        [.., b'\r'] if bytes.len() < V1_MAX => Some(1),
        _ if bytes.len() + 2 <= V1_MAX => Some(2),
        _ => None,
    }
}

/// So many bytes end a header of version 2, as far as can be known; none if it is too long.
fn missing_of_block(bytes: &[u8]) -> Option<usize> {
    let Some([high, low]) = bytes.get(14..16) else { return Some(16 - bytes.len()) };
    let whole = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    if whole > MOST { None } else { whole.checked_sub(bytes.len()) }
}

fn whole(bytes: &[u8]) -> Result<Option<SocketAddr>, Fault> {
    // Whatever else such a header says is to be ignored.
    if bytes.starts_with(V2) && bytes.get(V2.len()) == Some(&LOCAL) {
        return Ok(None);
    }
    let only_addresses = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    // A header that is whole and still too short for its addresses is a fault like any other.
    let (header, length) = ProxyHeader::parse(bytes, only_addresses).map_err(|_| Fault::Header)?;
    match header.proxied_address() {
        _ if length != bytes.len() => Err(Fault::Header),
        None => Ok(None),
        Some(address) if address.protocol == Protocol::Stream => Ok(Some(address.source)),
        Some(_) => Err(Fault::Header),
    }
}

/// The rule of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProxyProtocol {
    pub(super) versions: ProxyVersions,
    /// Who may, and must, say who the client is.
    pub(super) senders: Vec<IpNet>,
}

impl ProxyProtocol {
    /// Takes the header off the begin of a connection, and nothing behind it.
    pub(super) async fn read(
        &self,
        socket: &mut (impl AsyncRead + Unpin),
        peer: SocketAddr,
        timer: &Timer,
        patience: Duration,
    ) -> Result<Option<SocketAddr>, Fault> {
        let ip = peer.ip().to_canonical();
        if !self.senders.iter().any(|network| network.contains(&ip)) {
            return Err(Fault::Sender);
        }
        timer.timeout(patience, take(socket, self.versions)).await.unwrap_or(Err(Fault::TooSlow))
    }
}

async fn take(socket: &mut (impl AsyncRead + Unpin), versions: ProxyVersions) -> Result<Option<SocketAddr>, Fault> {
    let mut bytes = [0; MOST];
    let mut length = 0;
    loop {
        let missing = match parse(bytes.get(..length).unwrap_or_default(), versions)? {
            Header::Whole(client) => return Ok(client),
            Header::Missing(missing) => missing,
        };
        let room = bytes.get_mut(length..length + missing).ok_or(Fault::Header)?;
        match socket.read(room).await {
            Ok(count @ 1..) => length += count,
            Ok(0) | Err(_) => return Err(Fault::Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::ProxiedAddress;

    use super::*;

    const ANY: ProxyVersions = ProxyVersions { v1: true, v2: true };

    fn block(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [V2, &[command, family], &length, body].concat()
    }

    fn client(address: &str) -> Header {
        Header::Whole(Some(address.parse().expect("an address")))
    }

    #[test]
    fn both_versions_say_whose_connection_it_is() {
        let line = parse(b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n", ANY);
        assert_eq!(line, Ok(client("192.0.2.7:5000")));
        let line = parse(b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n", ANY);
        assert_eq!(line, Ok(client("[2001:db8::7]:5000")));
        let body = [192, 0, 2, 7, 198, 51, 100, 1, 0x13, 0x88, 0x01, 0xbb];
        assert_eq!(parse(&block(0x21, 0x11, &body), ANY), Ok(client("192.0.2.7:5000")));
        // What follows the addresses is of no interest.
        let more = [&body[..], &[4, 0, 1, 0]].concat();
        assert_eq!(parse(&block(0x21, 0x11, &more), ANY), Ok(client("192.0.2.7:5000")));
    }

    #[test]
    fn a_header_without_a_client_leaves_the_peer() {
        for bytes in [&b"PROXY UNKNOWN\r\n"[..], b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"] {
            assert_eq!(parse(bytes, ANY), Ok(Header::Whole(None)));
        }
        for bytes in [block(LOCAL, 0, &[]), block(LOCAL, 0x11, &[0; 3]), block(0x21, 0, &[])] {
            assert_eq!(parse(&bytes, ANY), Ok(Header::Whole(None)));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_at_its_first_wrong_byte() {
        for bytes in [
            &b"G"[..],
            b"\x16\x03",
            b"PRI * HTTP/2.0\r\n",
            b"PROXYxTCP4 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n\r\n",
            b"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n",
            b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            b"\r\n\r\n\0\r\nQUIt",
        ] {
            assert_eq!(parse(bytes, ANY), Err(Fault::Header), "{}", bytes.escape_ascii());
        }
        for bytes in [block(0x22, 0x11, &[0; 12]), block(0x21, 0x12, &[0; 12]), block(0x21, 0x11, &[0; 11])] {
            assert_eq!(parse(&bytes, ANY), Err(Fault::Header), "{}", bytes.escape_ascii());
        }
        assert_eq!(parse(&block(0x21, 0x11, &[0; 513]), ANY), Err(Fault::Header), "too long");
        assert_eq!(parse(&[V1, &[b'x'; 101]].concat(), ANY), Err(Fault::Header), "too long");
    }

    #[test]
    fn a_version_that_is_not_taken_is_no_header() {
        let (v1, v2) = (ProxyVersions { v1: true, v2: false }, ProxyVersions { v1: false, v2: true });
        assert_eq!(parse(b"P", v2), Err(Fault::Header));
        assert_eq!(parse(b"\r", v1), Err(Fault::Header));
    }

    proptest! {
        #[test]
        fn a_header_is_taken_whole_and_nothing_behind_it(
            source: SocketAddr, port: u16, second: bool, behind in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let source = SocketAddr::new(source.ip(), source.port());
            let destination = SocketAddr::new(source.ip(), port);
            let header = ProxyHeader::with_address(ProxiedAddress::stream(source, destination));
            let mut bytes = [0; 256];
            let length = if second { header.encode_to_slice_v2(&mut bytes) } else { header.encode_to_slice_v1(&mut bytes) };
            let length = length.expect("room");
            let stream = [&bytes[..length], &behind].concat();
            let mut taken = 0;
            let whole = loop {
                match parse(&stream[..taken], ANY).expect("a header") {
                    Header::Missing(missing) => taken += missing,
                    Header::Whole(client) => break client,
                }
            };
            prop_assert_eq!(taken, length);
            prop_assert_eq!(whole, Some(source));
        }

        #[test]
        fn no_bytes_ask_for_more_than_a_header_has(bytes in proptest::collection::vec(any::<u8>(), 0..600), signature in 0..3_u8) {
            let signature = [&b""[..], V1, V2][usize::from(signature)];
            let stream = [signature, &bytes].concat();
            for end in 0..stream.len().min(MOST) {
                match parse(&stream[..end], ANY) {
                    Ok(Header::Missing(missing)) => prop_assert!(missing > 0 && end + missing <= MOST),
                    Ok(Header::Whole(_)) | Err(_) => break,
                }
            }
        }
    }
}
