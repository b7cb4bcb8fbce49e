//! The address that a call comes from, as far as it can be believed.

use core::net::IpAddr;

use ipnet::IpNet;

use super::head::Head;

/// The address of the client. Each trusted proxy adds whom it serves to the end of `x-forwarded-for`; so the last address
/// there that is none of `trusted` is the client's. Where that cannot be read, it is the peer's: who is sent by a proxy
/// that writes nonsense shares its lot.
#[must_use]
pub fn of_client(head: &Head<'_>, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    // Only a trusted peer is believed, and the field is not even read otherwise.
    if head.origin().forwarded_for.is_none() {
        return peer.to_canonical();
    }
    let mut nearest = peer.to_canonical();
    let lines = head.raw().headers.get_all("x-forwarded-for").iter().rev();
    let entries = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    for entry in entries {
        let Ok(address) = entry.trim().parse::<IpAddr>() else { return nearest };
        nearest = address.to_canonical();
        if !is_trusted(&nearest) {
            return nearest;
        }
    }
    nearest
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::policy::fields::FieldNames;
    use crate::policy::head::RawHead;
    use http::{Method, Uri, Version};

    fn client(lines: &[&str], trusted_peer: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("host", "shop.example".parse().unwrap());
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let uri = Uri::from_static("/");
        let raw = RawHead {
            method: &Method::GET,
            uri: &uri,
            version: Version::HTTP_11,
            headers: &headers,
            protocol: None,
            has_body: false,
            trusted_peer,
        };
        let names = FieldNames::default();
        let head = Head::parse(raw, &names, "gate").unwrap();
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        of_client(&head, "::ffff:10.0.0.1".parse().unwrap(), &trusted).to_string()
    }

    #[test]
    fn it_is_the_last_one_that_no_trusted_proxy_has() {
        for (lines, expected) in [
            (&[][..], "10.0.0.1"),
            (&["192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, 10.2.3.4", "2001:db8::7"], "192.0.2.1"),
            (&["10.2.3.4, 10.2.3.5"], "10.2.3.4"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, unknown"], "10.0.0.1"),
            (&["192.0.2.1, nonsense, 10.2.3.4"], "10.2.3.4"),
            (&["192.0.2.1:4711"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
        ] {
            assert_eq!(client(lines, true), expected, "{lines:?}");
        }
        assert_eq!(client(&["192.0.2.1"], false), "10.0.0.1", "others are not believed");
    }
}
