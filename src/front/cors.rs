//! Cross-origin resource sharing (Fetch standard), as configured: what browsers may send and read.
//!
//! The fields are made by tower-http; asking it costs a few allocations, on calls with an `origin` only.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;

use futures_util::FutureExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response};
use tower::{Layer, Service, service_fn};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::response::EXPIRES_IN;
use crate::config::Snapshot;
use crate::config::snapshot::{CorsConfig, Origins};
use crate::policy::fields::{FieldNames, PROOF};
use crate::policy::head::Head;
use crate::policy::method::Verb;
use crate::policy::violation::Field;
use crate::upstream::forward::REQUEST_ID;

/// Fields of a request that carry what the gateway demands.
const DEMANDED: [Field; 7] = [
    Field::Authorization,
    Field::ClientId,
    Field::SessionId,
    Field::Correlation,
    Field::ContentType,
    Field::Accept,
    Field::IdempotencyKey,
];

/// The rules of all routes.
#[derive(Debug)]
pub(super) struct Rules {
    /// Of calls that no route takes.
    unrouted: Option<Rule>,
    /// By the number of the route.
    routes: Vec<Option<Rule>>,
}

/// What one route shares, and with whom.
#[derive(Debug)]
pub(super) struct Rule {
    layer: CorsLayer,
    /// Whether the answer depends on who asks.
    varies: bool,
}

impl Rules {
    /// The rules of a snapshot; none if it has none.
    pub(super) fn of(live: &Snapshot) -> Option<Self> {
        let rule = |config: &Option<Arc<_>>| config.as_deref().map(|config| Rule::new(config, &live.names));
        let cors = &live.cors;
        let rules = Self { unrouted: rule(&cors.unrouted), routes: cors.routes.iter().map(rule).collect() };
        (rules.unrouted.is_some() || rules.routes.iter().any(Option::is_some)).then_some(rules)
    }

    /// The rule of a call, by its route if it has one.
    pub(super) fn find(&self, route: Option<u16>) -> Option<&Rule> {
        match route {
            Some(number) => self.routes.get(usize::from(number))?.as_ref(),
            None => self.unrouted.as_ref(),
        }
    }

    /// The route that a preflight asks about, and its rule.
    pub(super) fn preflight(&self, live: &Snapshot, head: &Head<'_>) -> Option<(u16, &Rule)> {
        if !head.is_preflight() {
            return None;
        }
        let wanted = head.raw().headers.get(header::ACCESS_CONTROL_REQUEST_METHOD);
        let wanted = wanted.and_then(|method| method.to_str().ok()).and_then(Verb::named);
        let route = live.routes.find_for(head, wanted)?;
        Some((route, self.find(Some(route))?))
    }
}

impl Rule {
    fn new(config: &CorsConfig, names: &FieldNames) -> Self {
        let origin = match &config.origins {
            Origins::Any => AllowOrigin::any(),
            Origins::Listed(_) => {
                let origins = config.origins.clone();
                AllowOrigin::predicate(move |origin, _| origins.contains(origin.as_bytes()))
            }
        };
        let varies = config.origins != Origins::Any;
        let methods = Verb::ALL.into_iter().filter(|verb| config.methods.contains(*verb));
        let methods = methods.filter_map(|verb| Method::from_bytes(verb.as_str().as_bytes()).ok());
        let demanded = DEMANDED.map(|field| names.name(field).clone()).into_iter().chain([PROOF]);
        let told = [REQUEST_ID, EXPIRES_IN].into_iter();
        let told = told.chain([Field::SessionId, Field::Correlation].map(|field| names.name(field).clone()));
        let layer = CorsLayer::new()
            .allow_origin(origin)
            .allow_credentials(config.credentials)
            .allow_methods(methods.collect::<Vec<_>>())
            .allow_headers(demanded.chain(config.headers.iter().cloned()).collect::<Vec<_>>())
            .expose_headers(told.chain(config.expose.iter().cloned()).collect::<Vec<_>>())
            .max_age(config.max_age)
            .vary(if varies { vec![header::ORIGIN] } else { Vec::new() });
        Self { layer, varies }
    }

    /// The fields of the answer to a preflight.
    pub(super) fn answer(&self, head: &Head<'_>) -> HeaderMap {
        self.fields(Method::OPTIONS, head.raw().headers.get(header::ORIGIN))
    }

    /// Puts these rules on an answer, in place of those of the upstream.
    pub(super) fn apply(&self, origin: Option<&HeaderValue>, fields: &mut HeaderMap) {
        let foreign = |name: &&HeaderName| name.as_str().starts_with("access-control-");
        let foreign: Vec<_> = fields.keys().filter(foreign).cloned().collect();
        for name in foreign {
            fields.remove(name);
        }
        if origin.is_some() {
            let mut shared = self.fields(Method::GET, origin);
            shared.remove(header::VARY);
            fields.extend(shared);
        }
        // Also without an origin: a cache must not give this answer to who has one.
        if self.varies {
            fields.append(header::VARY, HeaderValue::from_static("origin"));
        }
    }

    fn fields(&self, method: Method, origin: Option<&HeaderValue>) -> HeaderMap {
        let mut request = Request::new(());
        *request.method_mut() = method;
        request.headers_mut().extend(origin.map(|origin| (header::ORIGIN, origin.clone())));
        let mut sharing = self.layer.layer(service_fn(empty));
        // Nothing in it waits.
        let answer = sharing.call(request).now_or_never();
        answer.and_then(Result::ok).map(|answer| answer.into_parts().0.headers).unwrap_or_default()
    }
}

/// What the layer is laid around: we only want its fields.
fn empty(_: Request<()>) -> Ready<Result<Response<()>, Infallible>> {
    ready(Ok(Response::new(())))
}
