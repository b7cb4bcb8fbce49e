//! PROXY headers: nothing behind one is taken for a part of it, and none is longer than it may be.

use sessiongate::config::snapshot::ProxyVersions;
use sessiongate::server::proxy_protocol::{Header, MOST, parse};

/// Reads bytes as the begin of a connection, in the pieces that are asked for.
pub fn check(bytes: &[u8]) {
    for (v1, v2) in [(true, true), (true, false), (false, true)] {
        let versions = ProxyVersions { v1, v2 };
        let mut taken = 0;
        while let Some(Ok(Header::Missing(missing))) = bytes.get(..taken).map(|begin| parse(begin, versions)) {
            assert!(missing > 0, "asks for nothing and is not whole");
            // However few of them come at once, a header that is not refused asks on until it is whole.
            for fewer in 1..missing {
                let Some(begin) = bytes.get(..taken + fewer) else { break };
                match parse(begin, versions) {
                    Ok(Header::Missing(rest)) => assert!(taken + fewer + rest >= taken + missing, "asks for less"),
                    Ok(Header::Whole(_)) => panic!("whole before its end"),
                    Err(_) => break,
                }
            }
            taken += missing;
            assert!(taken <= MOST, "asks for too much");
        }
    }
}
