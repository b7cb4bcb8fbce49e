//! Active health checks: one loop per endpoint and process, by the same code that calls go by.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use http::uri::PathAndQuery;
use http::{Method, StatusCode, header};

use super::config::ProbeConfig;
use super::error::{Fault, UpstreamError};
use super::exchange::Exchange;
use super::fields::Fields;
use super::pool::{Checkout, EndpointPool, Lease, Link, Need, Queue};
use super::state::{EndpointState, PoolState};
use super::upload::Upload;
use super::{Endpoint, Outbound, h1, h2};

/// Probes an endpoint for ever.
pub(super) async fn run(pool: &Arc<PoolState>, endpoint: &Arc<EndpointState>) {
    let Some(config) = &pool.config().probe else { return };
    // Connections of its own: what is probed is whether the endpoint takes new ones, too.
    let queue = Arc::new(Queue::new(Arc::clone(pool)));
    let connections = Arc::new(EndpointPool::new(Arc::clone(endpoint), queue, pool.config()));
    // Those of many endpoints do not begin in step, and do not fall into it.
    tokio::time::sleep(config.interval.mul_f64(jitter() / 10.0)).await;
    loop {
        let outcome = once(pool, &connections, config).await;
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

async fn once(pool: &PoolState, connections: &Arc<EndpointPool>, config: &ProbeConfig) -> Result<(), &'static str> {
    let asked = ask(pool, connections, config);
    let status = match tokio::time::timeout(config.timeout, asked).await {
        Err(_) => return Err("a probe was not answered in time"),
        Ok(Err(error)) => return Err(error.fault().map_or("a probe could not be sent", Fault::as_str)),
        Ok(Ok(status)) => status,
    };
    if config.expect.contains(&status.as_u16()) { Ok(()) } else { Err("a probe was answered with another status") }
}

async fn ask(
    pool: &PoolState,
    connections: &Arc<EndpointPool>,
    config: &ProbeConfig,
) -> Result<StatusCode, UpstreamError> {
    let request = Request(config);
    let Checkout { link, .. } = connections.connect(None, pool.config(), Need::Call).await?;
    match link {
        Link::H1(wire) => {
            answer(h1::Exchange::begin(wire, Lease(Arc::clone(connections)), &request, Upload::Empty)).await
        }
        Link::H2(slot) => {
            let exchange = h2::Exchange::begin(*slot, &connections.state.endpoint, &request, Upload::Empty);
            answer(exchange.map_err(|failed| failed.error)?).await
        }
    }
}

/// The status; nobody reads the rest.
async fn answer(mut exchange: impl Exchange) -> Result<StatusCode, UpstreamError> {
    let head = poll_fn(|context| exchange.poll_head(context, |_| {})).await?;
    Ok(exchange.reply(head).head.status)
}

/// What a probe asks.
struct Request<'a>(&'a ProbeConfig);

impl Outbound for Request<'_> {
    fn method(&self) -> &Method {
        &Method::GET
    }

    fn target(&self) -> Option<&PathAndQuery> {
        Some(&self.0.path)
    }

    fn host<'a>(&'a self, endpoint: &'a Endpoint) -> &'a [u8] {
        self.0.host.as_ref().unwrap_or(&endpoint.authority).as_bytes()
    }

    fn fields(&self, out: &mut impl Fields) {
        out.field(&header::USER_AGENT, b"sessiongate");
    }
}
