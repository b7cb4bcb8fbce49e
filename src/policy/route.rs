//! (host, method, path) to route.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use matchit::Router;

use super::binding::SenderConstraint;
use super::head::Head;
use super::headers::HeaderRules;
use super::method::{MethodSet, Verb};
use super::rejection::Rejection;
use super::scopes::ScopeRule;
use super::target;

/// Place of an upstream pool in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolId(pub usize);

/// What a route does with an admitted call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Answers it here: the session endpoint.
    Session,
    /// Answers it here: the keys of the tokens that the gate issues.
    KeySet,
    /// Forwards it.
    Forward(PoolId),
}

/// What becomes of the `authorization` field toward the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardAuthorization {
    /// It goes on as it came.
    Keep,
    /// It is removed.
    Strip,
    /// A token that the gate issues takes its place.
    Replace,
}

/// One route.
#[derive(Debug, Clone)]
pub struct Route {
    /// Its name: label of metrics and logs.
    pub name: Arc<str>,
    /// Hosts it is for, in lower case, without port; `*.example.com` for all below; empty: every host.
    pub hosts: Vec<Box<str>>,
    /// Path pattern: `/orders/{id}`, `/files/{*rest}`.
    pub path: Box<str>,
    /// Methods it takes.
    pub methods: MethodSet,
    /// What it does.
    pub action: Action,
    /// Whether calls need neither credentials nor a session.
    pub exempt: bool,
    /// What tokens must be bound to, if anything.
    pub sender: Option<SenderConstraint>,
    /// Scopes it demands.
    pub scopes: ScopeRule,
    /// Its header rules.
    pub headers: Arc<HeaderRules>,
    /// Longest request body in bytes; none: no limit.
    pub max_body: Option<u64>,
    /// Time to the first byte of the response, if other than the pool's.
    pub response_timeout: Option<Duration>,
    /// Time to the last byte of the response, if other than the pool's: perhaps none.
    pub total_timeout: Option<Option<Duration>>,
    /// Time between two bytes of the response, if other than the pool's: perhaps none.
    pub stall_timeout: Option<Option<Duration>>,
    /// Whether idempotent calls without a body may be sent again after they may have arrived.
    pub retry_idempotent: bool,
    /// What becomes of the credentials.
    pub authorization: ForwardAuthorization,
}

/// Why two routes cannot stand in one table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteConflict {
    /// The path pattern cannot be read.
    #[error("{0}")]
    Pattern(String),
    /// The pattern overlaps with another so that neither is more specific.
    #[error("the path overlaps with \"{0}\"")]
    Overlap(String),
    /// Another route has this host, path and method.
    #[error("route \"{0}\" has the same host, path and method")]
    Same(Arc<str>),
}

/// Routes of one path pattern, by method.
#[derive(Debug, Clone, Copy, Default)]
struct ByMethod {
    routes: [Option<u16>; Verb::ALL.len()],
    allowed: MethodSet,
}

type Paths = Router<ByMethod>;

/// All routes, ready to be searched.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
    /// The session endpoint: it has its path on every host, whatever else is routed there.
    session: Option<u16>,
    /// The key set, likewise.
    key_set: Option<u16>,
    any_host: Paths,
    hosts: HashMap<Box<str>, Paths>,
}

impl RouteTable {
    /// Adds a route.
    ///
    /// # Errors
    /// [`RouteConflict`] if it can never be told apart from one that is there; then nothing has changed.
    pub fn add(&mut self, route: Route) -> Result<(), RouteConflict> {
        let place = u16::try_from(self.routes.len());
        let place = place.map_err(|_| RouteConflict::Pattern("there are too many routes".into()))?;
        if route.action == Action::Session {
            self.session = Some(place);
        } else if route.action == Action::KeySet {
            self.key_set = Some(place);
        } else if route.hosts.is_empty() {
            self.any_host = with(&self.any_host, &route, place, &self.routes)?;
        } else {
            let changed = route.hosts.iter().map(|host| {
                let paths = self.hosts.get(host).cloned().unwrap_or_default();
                Ok((host.clone(), with(&paths, &route, place, &self.routes)?))
            });
            let changed: Vec<_> = changed.collect::<Result<_, RouteConflict>>()?;
            self.hosts.extend(changed);
        }
        self.routes.push(route);
        Ok(())
    }

    /// All routes in the order they were added; a route's place here is its number.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The route of a call, and its number. What the gate answers itself comes first. Then the exact host, then `*.` of its
    /// parents, then routes for every host: the first of them that has the path decides, so that a call which a host
    /// does not take cannot fall through to a laxer route. Within a host the most specific path decides.
    ///
    /// # Errors
    /// [`Rejection::RouteUnknown`], or [`Rejection::MethodNotAllowed`] with the methods that are.
    pub fn find(&self, head: &Head<'_>) -> Result<(u16, &Route), Rejection> {
        if let Some(place) = self.own(head.path()) {
            let route = &self.routes[usize::from(place)];
            // There is nothing to tunnel to.
            let allowed = route.methods.contains(head.verb()) && !head.is_connect();
            return if allowed { Ok((place, route)) } else { Err(Rejection::MethodNotAllowed(route.methods)) };
        }
        let found = self.by_path(head).ok_or(Rejection::RouteUnknown)?;
        match found.routes[head.verb() as usize] {
            Some(place) => Ok((place, &self.routes[usize::from(place)])),
            None => Err(Rejection::MethodNotAllowed(found.allowed)),
        }
    }

    /// The number of the route that would take a call like this one with another method, or else of any route of its path:
    /// what a CORS preflight asks about.
    #[must_use]
    pub fn find_for(&self, head: &Head<'_>, verb: Option<Verb>) -> Option<u16> {
        if let Some(place) = self.own(head.path()) {
            return Some(place);
        }
        let found = self.by_path(head)?;
        verb.and_then(|verb| found.routes[verb as usize]).or_else(|| found.routes.into_iter().flatten().next())
    }

    /// What the gate answers itself, on every host.
    fn own(&self, path: &str) -> Option<u16> {
        let is_key_set = |place: &u16| self.routes.get(usize::from(*place)).is_some_and(|route| *route.path == *path);
        self.session.filter(|_| path == target::SESSION_PATH).or_else(|| self.key_set.filter(is_key_set))
    }

    fn by_path(&self, head: &Head<'_>) -> Option<ByMethod> {
        let look = |paths: &Paths| paths.at(head.path()).ok().map(|found| *found.value);
        let found = if self.hosts.is_empty() { None } else { self.by_host(head.host(), look) };
        found.or_else(|| look(&self.any_host))
    }

    fn by_host(&self, host: &str, look: impl Fn(&Paths) -> Option<ByMethod>) -> Option<ByMethod> {
        let host = target::host_name(host).to_ascii_lowercase();
        if let Some(found) = self.hosts.get(host.as_str()).and_then(&look) {
            return Some(found);
        }
        let parents = host.match_indices('.').map(|(dot, _)| &host[dot..]);
        parents.filter_map(|parent| self.hosts.get(format!("*{parent}").as_str())).find_map(look)
    }
}

/// The paths with one more route.
fn with(paths: &Paths, route: &Route, place: u16, routes: &[Route]) -> Result<Paths, RouteConflict> {
    let mut paths = paths.clone();
    insert_pattern(&mut paths, &route.path, route, place, routes)?;
    // `/files/{*rest}` also means `/files/`: a rest that is empty.
    if let Some(star) = route.path.rfind("{*")
        && route.path[..star].ends_with('/')
    {
        insert_pattern(&mut paths, &route.path[..star], route, place, routes)?;
    }
    Ok(paths)
}

fn insert_pattern(
    paths: &mut Paths,
    pattern: &str,
    route: &Route,
    place: u16,
    routes: &[Route],
) -> Result<(), RouteConflict> {
    // A pattern that is there already is found by matching it against itself.
    let mut entry = paths.remove(pattern.to_owned()).unwrap_or_default();
    let clash =
        Verb::ALL.into_iter().filter(|verb| route.methods.contains(*verb)).find_map(|verb| entry.routes[verb as usize]);
    if clash.is_none() {
        for verb in Verb::ALL.into_iter().filter(|verb| route.methods.contains(*verb)) {
            entry.routes[verb as usize] = Some(place);
        }
        entry.allowed = entry.allowed.union(route.methods);
    }
    paths.insert(pattern, entry).map_err(|error| match error {
        matchit::InsertError::Conflict { with } => RouteConflict::Overlap(with),
        other => RouteConflict::Pattern(other.to_string()),
    })?;
    match clash {
        Some(other) => Err(RouteConflict::Same(Arc::clone(&routes[usize::from(other)].name))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fields::FieldNames;
    use crate::policy::head::RawHead;
    use crate::policy::headers::Mode;

    fn route(name: &str, hosts: &[&str], methods: &[Verb], path: &str) -> Route {
        Route {
            name: name.into(),
            hosts: hosts.iter().map(|host| (*host).into()).collect(),
            path: path.into(),
            methods: methods.iter().fold(MethodSet::NONE, |set, verb| set.with(*verb)),
            action: Action::Forward(PoolId(0)),
            exempt: false,
            sender: None,
            scopes: ScopeRule::default(),
            headers: Arc::new(HeaderRules::of(Mode::Lenient)),
            max_body: None,
            response_timeout: None,
            total_timeout: None,
            stall_timeout: None,
            retry_idempotent: false,
            authorization: ForwardAuthorization::Keep,
        }
    }

    fn table(routes: Vec<Route>) -> RouteTable {
        let mut table = RouteTable::default();
        routes.into_iter().for_each(|route| table.add(route).unwrap());
        table
    }

    fn find(table: &RouteTable, method: &str, host: &str, path: &str) -> Result<String, Rejection> {
        let request = http::Request::builder().method(method).uri(path).header("host", host).body(()).unwrap();
        let raw = RawHead::from(&request);
        let head = Head::parse(raw, &FieldNames::default(), "gate")?;
        table.find(&head).map(|(_, route)| route.name.to_string())
    }

    #[test]
    fn the_most_specific_route_wins() {
        let table = table(vec![
            route("all", &[], &Verb::ALL, "/{*rest}"),
            route("order", &[], &[Verb::Get], "/orders/{id}"),
            route("search", &[], &[Verb::Get], "/orders/search"),
            route("shop", &["shop.example"], &[Verb::Get], "/orders/{id}"),
            route("tenant", &["*.example"], &[Verb::Get], "/orders/{id}"),
        ]);
        for (host, path, name) in [
            ("h", "/", "all"),
            ("h", "/x/y", "all"),
            ("h", "/orders/7", "order"),
            ("h", "/%6frders/7", "order"),
            ("h", "/orders/search", "search"),
            ("Shop.Example:8080", "/orders/7", "shop"),
            ("shop.example.", "/orders/7", "shop"),
            ("a.example", "/orders/7", "tenant"),
            ("a.b.example", "/orders/7", "tenant"),
            ("shop.example", "/other", "all"),
        ] {
            assert_eq!(find(&table, "GET", host, path), Ok(name.into()), "{host}{path}");
        }
    }

    #[test]
    fn a_wrong_method_is_told_the_right_ones() {
        let table = table(vec![
            route("read", &[], &[Verb::Get], "/orders/{id}"),
            route("write", &[], &[Verb::Put], "/orders/{id}"),
        ]);
        let Err(Rejection::MethodNotAllowed(allowed)) = find(&table, "POST", "h", "/orders/7") else { panic!() };
        assert_eq!(allowed.to_string(), "GET, HEAD, PUT");
        assert_eq!(find(&table, "HEAD", "h", "/orders/7"), Ok("read".into()));
        assert_eq!(find(&table, "GET", "h", "/orders"), Err(Rejection::RouteUnknown));
    }

    #[test]
    fn a_call_that_its_host_does_not_take_does_not_fall_through() {
        let table =
            table(vec![route("all", &[], &Verb::ALL, "/{*rest}"), route("read", &["shop"], &[Verb::Get], "/orders")]);
        let Err(Rejection::MethodNotAllowed(allowed)) = find(&table, "POST", "shop", "/orders") else { panic!() };
        assert_eq!(allowed.to_string(), "GET, HEAD");
        assert_eq!(find(&table, "POST", "other", "/orders"), Ok("all".into()));
        assert_eq!(find(&table, "POST", "shop", "/else"), Ok("all".into()));
    }

    #[test]
    fn routes_that_nobody_could_tell_apart_conflict() {
        let mut table = table(vec![route("a", &[], &[Verb::Get], "/orders/{id}")]);
        assert_eq!(
            table.add(route("b", &[], &[Verb::Get, Verb::Post], "/orders/{id}")),
            Err(RouteConflict::Same("a".into()))
        );
        assert!(matches!(table.add(route("c", &[], &[Verb::Get], "/orders/{other}")), Err(RouteConflict::Overlap(_))));
        assert!(matches!(table.add(route("d", &[], &[Verb::Get], "/orders/{")), Err(RouteConflict::Pattern(_))));
        assert_eq!(find(&table, "GET", "h", "/orders/7"), Ok("a".into()));
    }
}
