//! Clients as they were onboarded: which of them may call, with which scopes, with how many sessions.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use super::claims::Caller;
use super::ids::is_client_id;
use super::rates::Rate;
use super::scopes::ScopeNames;

/// Most live sessions that a client may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LiveCap {
    /// As many as the configuration lets every client have.
    #[default]
    Usual,
    /// This many.
    AtMost(u32),
    /// Any number.
    Unlimited,
}

impl LiveCap {
    /// The cap, where `usual` is that of every client; none: no cap.
    #[must_use]
    pub const fn or_usual(self, usual: Option<u32>) -> Option<u32> {
        match self {
            Self::Usual => usual,
            Self::AtMost(most) => Some(most),
            Self::Unlimited => None,
        }
    }
}

/// One client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// What people call it.
    pub name: Option<Box<str>>,
    /// Whether it may call.
    pub enabled: bool,
    /// The scopes that its tokens may use at most; none: whatever they have. Lists that are the same are one.
    pub scopes: Option<Arc<[Box<str>]>>,
    /// Most live sessions.
    pub live_cap: LiveCap,
    /// How fast it may call, in place of what rate rules say of every client.
    pub rate: Option<Rate>,
}

/// There is a client of this id already, or it is no client-id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAdded;

/// All clients that were onboarded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clients(BTreeMap<Box<str>, Client>);

impl Clients {
    /// Adds a client.
    ///
    /// # Errors
    /// [`NotAdded`] if `id` is taken or malformed; then nothing has changed.
    pub fn add(&mut self, id: &str, client: Client) -> Result<(), NotAdded> {
        if !is_client_id(id.as_bytes()) || self.0.contains_key(id) {
            return Err(NotAdded);
        }
        self.0.insert(id.into(), client);
        Ok(())
    }

    /// The client of this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Client> {
        self.0.get(id)
    }

    /// Whether the client of this id is known and enabled.
    #[must_use]
    pub fn allow(&self, id: &str) -> bool {
        self.get(id).is_some_and(|client| client.enabled)
    }

    /// Whether every client that this registry allows is allowed by `next` too.
    #[must_use]
    pub fn all_allowed_by(&self, next: &Self) -> bool {
        self.0.iter().all(|(id, client)| !client.enabled || next.allow(id))
    }

    /// The clients behind the id `after`, in the order of their ids.
    pub fn after<'c>(&'c self, after: Option<&'c str>) -> impl Iterator<Item = (&'c str, &'c Client)> {
        let first = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.0.range::<str, _>((first, Bound::Unbounded)).map(|(id, client)| (&**id, client))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many of them are enabled.
    #[must_use]
    pub fn enabled(&self) -> usize {
        self.0.values().filter(|client| client.enabled).count()
    }

    /// What these clients make of the caller of a token. `names` are the scopes that routes know.
    #[must_use]
    pub fn register(&self, caller: Arc<Caller>, names: &ScopeNames) -> Registered {
        let Some(client) = self.get(caller.owner().client.as_str()) else {
            return Registered { caller, allowed: false, live_cap: LiveCap::Usual, rate: None };
        };
        let may_use =
            |scope: &str| client.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(|own| **own == *scope));
        let caller = if caller.scope().split_ascii_whitespace().all(may_use) {
            caller
        } else {
            Arc::new(caller.narrowed(names, may_use))
        };
        Registered { caller, allowed: client.enabled, live_cap: client.live_cap, rate: client.rate }
    }
}

/// The caller of a token as the registry of clients has it: with no more scopes than its client may use.
#[derive(Debug, Clone)]
pub struct Registered {
    caller: Arc<Caller>,
    allowed: bool,
    live_cap: LiveCap,
    rate: Option<Rate>,
}

impl Registered {
    /// The caller where there is no registry: every client may call, with all scopes of its token.
    #[must_use]
    pub const fn unlisted(caller: Arc<Caller>) -> Self {
        Self { caller, allowed: true, live_cap: LiveCap::Usual, rate: None }
    }

    /// Who calls.
    #[must_use]
    pub const fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Who calls, and nothing else.
    #[must_use]
    pub fn into_caller(self) -> Arc<Caller> {
        self.caller
    }

    /// Whether the client may call.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Most live sessions of the client.
    #[must_use]
    pub const fn live_cap(&self) -> LiveCap {
        self.live_cap
    }

    /// How fast the client may call, where that is its own.
    #[must_use]
    pub const fn rate(&self) -> Option<Rate> {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::policy::claims::{ClaimRules, Claims};

    fn client(enabled: bool, scopes: Option<&[&str]>) -> Client {
        let scopes = scopes.map(|scopes| scopes.iter().map(|scope| Box::from(*scope)).collect());
        Client { name: None, enabled, scopes, live_cap: LiveCap::Usual, rate: None }
    }

    fn clients(all: &[(&str, Client)]) -> Clients {
        let mut clients = Clients::default();
        all.iter().for_each(|(id, client)| clients.add(id, client.clone()).unwrap());
        clients
    }

    fn caller(client: &str, scope: &str, names: &ScopeNames) -> Arc<Caller> {
        let rules = ClaimRules { leeway: Duration::ZERO, ..ClaimRules::default() };
        let json = serde_json::json!({ "client_id": client, "scope": scope, "exp": 9, "sub": "s" }).to_string();
        let claims: Claims = serde_json::from_str(&json).unwrap();
        Arc::new(claims.caller(&rules, names, |text| text.into()).unwrap())
    }

    #[test]
    fn only_known_and_enabled_clients_may_call() {
        let names = ScopeNames::default();
        let clients = clients(&[("on", client(true, None)), ("off", client(false, None))]);
        for (id, allowed) in [("on", true), ("off", false), ("other", false), ("On", false)] {
            assert_eq!(clients.register(caller(id, "a", &names), &names).is_allowed(), allowed, "{id}");
            assert_eq!(clients.allow(id), allowed, "{id}");
        }
        assert!(Registered::unlisted(caller("other", "", &names)).is_allowed());
    }

    #[test]
    fn scopes_that_a_client_may_not_use_count_as_not_held() {
        let mut names = ScopeNames::default();
        let (read, write) = (names.intern(["read"]).unwrap(), names.intern(["write"]).unwrap());
        let clients = clients(&[("some", client(true, Some(&["read", "other"]))), ("all", client(true, None))]);

        let whole = caller("some", "write read", &names);
        let narrowed = clients.register(Arc::clone(&whole), &names);
        let scopes = narrowed.caller().scopes();
        assert!(scopes.contains_all(&read) && !scopes.contains_any(&write));
        assert_eq!(&**narrowed.caller().scope(), "read", "also what upstreams and the client are told");
        assert_eq!(narrowed.caller().fields().scopes.as_ref().unwrap(), "read");
        assert!(Arc::ptr_eq(narrowed.caller().owner(), whole.owner()), "sessions are bound as before");

        for fitting in [caller("some", "read", &names), caller("all", "read write", &names)] {
            assert!(
                Arc::ptr_eq(clients.register(Arc::clone(&fitting), &names).caller(), &fitting),
                "nothing is copied"
            );
        }
    }

    #[test]
    fn ids_are_taken_once_and_have_their_form() {
        let mut clients = clients(&[("a", client(true, None))]);
        assert_eq!(clients.add("a", client(false, None)), Err(NotAdded));
        assert_eq!(clients.add("a b", client(true, None)), Err(NotAdded));
        assert!(clients.allow("a") && clients.len() == 1);
    }

    #[test]
    fn a_change_bars_somebody_or_nobody() {
        let before = clients(&[("a", client(true, None)), ("b", client(false, None))]);
        for (next, fine) in [
            (clients(&[("a", client(true, Some(&[]))), ("c", client(true, None))]), true),
            (clients(&[("a", client(false, None)), ("b", client(true, None))]), false),
            (clients(&[("b", client(true, None))]), false),
        ] {
            assert_eq!(before.all_allowed_by(&next), fine, "{next:?}");
        }
    }

    #[test]
    fn pages_follow_the_ids() {
        let clients = clients(&["b", "a", "c"].map(|id| (id, client(true, None))));
        let ids = |after| clients.after(after).map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!((ids(None), ids(Some("a")), ids(Some("bb"))), (vec!["a", "b", "c"], vec!["b", "c"], vec!["c"]));
    }

    #[test]
    fn a_cap_of_its_own_comes_before_the_usual_one() {
        for (cap, with, without) in
            [(LiveCap::Usual, Some(5), None), (LiveCap::AtMost(2), Some(2), Some(2)), (LiveCap::Unlimited, None, None)]
        {
            assert_eq!((cap.or_usual(Some(5)), cap.or_usual(None)), (with, without), "{cap:?}");
        }
    }
}
