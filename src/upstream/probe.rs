//! Active health checks: one loop per endpoint and process, by the same code that calls go by.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use http::Method;

use super::config::ProbeConfig;
use super::dial::dial;
use super::error::{Fault, UpstreamError};
use super::h1::{Exchange, Wire};
use super::state::{EndpointState, PoolState};
use super::upload::Upload;

/// Probes an endpoint for ever.
pub(super) async fn run(pool: &PoolState, endpoint: &EndpointState) {
    let Some(config) = &pool.config().probe else { return };
    // Those of many endpoints do not begin in step, and do not fall into it.
    tokio::time::sleep(config.interval.mul_f64(jitter() / 10.0)).await;
    loop {
        let outcome = once(pool, endpoint, config).await;
        endpoint.probed(outcome.is_ok());
        let change = endpoint.health.probed(outcome, config, Instant::now());
        pool.tell(endpoint, change, outcome.err().unwrap_or_default());
        tokio::time::sleep(config.interval.mul_f64(0.9 + jitter() / 5.0)).await;
    }
}

/// From 0 to 1.
fn jitter() -> f64 {
    f64::from(u16::from_ne_bytes(crate::random::bytes())) / f64::from(u16::MAX)
}

async fn once(pool: &PoolState, endpoint: &EndpointState, config: &ProbeConfig) -> Result<(), &'static str> {
    let asked = ask(pool, endpoint, config);
    let status = match tokio::time::timeout(config.timeout, asked).await {
        Err(_) => return Err("a probe was not answered in time"),
        Ok(Err(error)) => return Err(error.fault().map_or("a probe could not be sent", Fault::as_str)),
        Ok(Ok(status)) => status,
    };
    if config.expect.contains(&status) { Ok(()) } else { Err("a probe was answered with another status") }
}

async fn ask(pool: &PoolState, endpoint: &EndpointState, config: &ProbeConfig) -> Result<u16, UpstreamError> {
    let limit = config.timeout.max(Duration::from_millis(1));
    let (socket, _) = dial(&endpoint.endpoint, &endpoint.addresses, limit.min(pool.config().connect_timeout)).await?;
    let host = config.host.as_ref().unwrap_or(&endpoint.endpoint.authority);
    let write = |out: &mut Vec<u8>| {
        let parts: [&[u8]; 5] = [
            b"GET ",
            config.path.as_bytes(),
            b" HTTP/1.1\r\nhost: ",
            host.as_bytes(),
            b"\r\nuser-agent: sessiongate\r\nconnection: close\r\n",
        ];
        out.extend_from_slice(&parts.concat());
    };
    let mut exchange = Exchange::begin(Box::new(Wire::new(socket)), &Method::GET, None, Upload::Empty, write);
    let head = poll_fn(|context| exchange.poll_head(context, |_| {})).await?;
    Ok(head.status())
}
