//! One file of clients: its form, and what it means.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::Deserialize;

use crate::config::other::Mistakes;
use crate::config::raw::{At, Count, Table};
use crate::policy::clients::{Client, Clients, LiveCap};
use crate::policy::ids::{CLIENT_ID_MAX, is_client_id};
use crate::policy::scopes::is_scope_token;

/// A file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    client: Vec<Table<Entry>>,
}

/// A client as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Entry {
    id: Option<At<String>>,
    name: Option<At<String>>,
    enabled: Option<bool>,
    scopes: Option<Vec<At<String>>>,
    max_live_sessions: Option<At<Count>>,
}

/// Gathers the clients of all files.
#[derive(Default)]
pub(super) struct Gathering {
    clients: Clients,
    /// Number of the file and place in it.
    places: HashMap<Box<str>, (usize, usize)>,
    lists: HashSet<Arc<[Box<str>]>>,
}

impl Gathering {
    pub(super) fn into_clients(self) -> Clients {
        self.clients
    }

    /// Takes in the clients of file `number`. `place` words where a client of an earlier file is.
    pub(super) fn add(
        &mut self,
        file: &File,
        number: usize,
        mistakes: &mut Mistakes,
        place: impl Fn(usize, usize) -> String,
    ) {
        for entry in &file.client {
            let client = self.client(entry, mistakes);
            let Some(id) = &entry.id else {
                mistakes.add_with_hint(entry.span(), "\"id\" is missing", "write id = \"..\", the client-id");
                continue;
            };
            if !is_client_id(id.as_bytes()) {
                let hint = format!("it is 1 to {CLIENT_ID_MAX} letters, digits, \".\", \"_\" and \"-\"");
                mistakes.add_with_hint(id.span(), format!("{:?} is not a client-id", &**id), hint);
            } else if self.clients.add(id, client).is_ok() {
                self.places.insert(id.as_str().into(), (number, id.span().start));
            } else if let Some((file, offset)) = self.places.get(id.as_str()) {
                let message = format!("there is a client {:?} already, at {}", &**id, place(*file, *offset));
                mistakes.add_with_hint(id.span(), message, "remove one of the two");
            }
        }
    }

    fn client(&mut self, entry: &Entry, mistakes: &mut Mistakes) -> Client {
        for scope in entry.scopes.iter().flatten().filter(|scope| !is_scope_token(scope)) {
            let message = format!("{:?} is not a scope token (RFC 6749 section 3.3)", &**scope);
            match scope.split_whitespace().count() {
                0 | 1 => mistakes.add(scope.span(), message),
                _ => mistakes.add_with_hint(scope.span(), message, "write each scope on its own"),
            }
        }
        if let Some(name) = entry.name.as_ref().filter(|name| name.trim().is_empty()) {
            mistakes.add_with_hint(name.span(), "the name is empty", "leave the key out");
        }
        Client {
            name: entry.name.as_ref().map(|name| name.as_str().into()),
            enabled: entry.enabled.unwrap_or(true),
            scopes: entry.scopes.as_ref().map(|scopes| self.list(scopes)),
            live_cap: match entry.max_live_sessions.as_deref() {
                None => LiveCap::Usual,
                Some(Count(None)) => LiveCap::Unlimited,
                Some(Count(Some(most))) => LiveCap::AtMost(most.get()),
            },
        }
    }

    /// One copy of each list: most clients have one of a few.
    fn list(&mut self, scopes: &[At<String>]) -> Arc<[Box<str>]> {
        let list: Arc<[Box<str>]> = scopes.iter().map(|scope| scope.as_str().into()).collect();
        if let Some(known) = self.lists.get(&list) {
            return Arc::clone(known);
        }
        self.lists.insert(Arc::clone(&list));
        list
    }
}
