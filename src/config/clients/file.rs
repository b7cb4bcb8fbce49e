//! One file of clients: its form, and what it means.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::config::document::Document;
use crate::config::error::{ConfigErrors, Found};
use crate::config::other::Mistakes;
use crate::config::raw::{At, Count, Period, Table};
use crate::policy::clients::{Client, Clients, LiveCap};
use crate::policy::ids::{CLIENT_ID_MAX, is_client_id};
use crate::policy::rates;
use crate::policy::scopes::is_scope_token;

/// A file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
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
    rate: Option<Table<Rate>>,
}

/// How fast a client may call.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Rate {
    requests: Option<At<NonZeroU32>>,
    window: Option<At<Period>>,
    burst: Option<At<NonZeroU32>>,
}

/// Most mistakes of a file that are told.
const MOST: usize = 100;

/// Clients that are read at a time: what reading needs beside the text does not grow with the registry.
const BLOCK: usize = 1000;

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

    /// Takes in the clients of file `number`, and gives what is wrong with it. `place_of` words where a client of an earlier
    /// file is.
    pub(super) fn read(
        &mut self,
        number: usize,
        origin: &str,
        text: &str,
        place_of: impl Fn(usize, usize) -> String,
    ) -> Option<ConfigErrors> {
        let mut wrong: Vec<(Found, String)> = Vec::new();
        let mut before = 0;
        for block in blocks(text) {
            let (document, mut found) = Document::parse(text.get(block.clone()).unwrap_or_default());
            let mut read = 0;
            if found.is_empty() {
                let reading = document.read::<File>();
                found = reading.found;
                if let Some(file) = reading.file {
                    let mut mistakes = Mistakes::default();
                    self.add(&file, (number, block.start), &mut mistakes, &place_of);
                    found.extend(mistakes.into_found());
                    read = file.client.len();
                }
            }
            wrong.extend(found.into_iter().map(|mut found| {
                let path = counted_from(before, document.path_of(&found.span));
                found.span = found.span.start + block.start..found.span.end + block.start;
                (found, path)
            }));
            before += read;
            if wrong.len() >= MOST {
                wrong.truncate(MOST);
                break;
            }
        }
        let path_of = |span: &Range<usize>| {
            let path = wrong.iter().find(|(found, _)| found.span == *span).map(|(_, path)| path.clone());
            path.unwrap_or_default()
        };
        let found: Vec<Found> = wrong.iter().map(|(found, _)| found.clone()).collect();
        (!found.is_empty()).then(|| ConfigErrors::new(origin, text, found, path_of))
    }

    fn add(
        &mut self,
        file: &File,
        (number, start): (usize, usize),
        mistakes: &mut Mistakes,
        place_of: &impl Fn(usize, usize) -> String,
    ) {
        for entry in &file.client {
            if mistakes.count() >= MOST {
                return;
            }
            let client = self.client(entry, mistakes);
            let Some(id) = &entry.id else {
                mistakes.add_with_hint(entry.span(), "\"id\" is missing", "write id = \"..\", the client-id");
                continue;
            };
            if !is_client_id(id.as_bytes()) {
                let hint = format!("it is 1 to {CLIENT_ID_MAX} letters, digits, \".\", \"_\" and \"-\"");
                mistakes.add_with_hint(id.span(), format!("{:?} is not a client-id", &**id), hint);
            } else if self.clients.add(id, client).is_ok() {
                self.places.insert(id.as_str().into(), (number, start + id.span().start));
            } else if let Some((file, offset)) = self.places.get(id.as_str()) {
                let message = format!("there is a client {:?} already, at {}", &**id, place_of(*file, *offset));
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
            rate: entry.rate.as_ref().and_then(|rate| read_rate(rate, mistakes)),
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

fn read_rate(rate: &Table<Rate>, mistakes: &mut Mistakes) -> Option<rates::Rate> {
    let Some(requests) = &rate.requests else {
        mistakes.add_with_hint(
            rate.span(),
            "\"requests\" is missing",
            "write rate = { requests = 100, window = \"1s\" }",
        );
        return None;
    };
    let window = rate.window.as_ref().map_or(Duration::from_secs(1), |window| window.0);
    if window < Duration::from_millis(1) || window > Duration::from_secs(24 * 3600) {
        let at = rate.window.as_ref().map_or(rate.span(), At::span);
        mistakes.add_with_hint(at, "the window is out of range", "allowed: 1ms to 24h");
        return None;
    }
    let read = rates::Rate::new(**requests, window, rate.burst.as_ref().map_or(**requests, |burst| **burst));
    if read.is_none() {
        mistakes.add(requests.span(), "that is more than one call each nanosecond".to_owned());
    }
    read
}

/// The text in pieces of so many clients. No table of one reaches into the next: a line that begins with `[[client]]` is
/// the head of a table unless it stands in a text of several lines, and with one of those the whole is one piece.
fn blocks(text: &str) -> Vec<Range<usize>> {
    let mut starts = vec![0];
    if !text.contains("\"\"\"") && !text.contains("'''") {
        let heads = text.match_indices("\n[[client]]").map(|(newline, _)| newline + 1);
        starts.extend(heads.skip(BLOCK - 1).step_by(BLOCK));
    }
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// A path within a block as one within the file, where so many clients stand before the block.
fn counted_from(before: usize, path: String) -> String {
    let Some((number, rest)) = path.strip_prefix("client[").and_then(|rest| rest.split_once(']')) else { return path };
    number.parse::<usize>().map_or(path.clone(), |number| format!("client[{}]{rest}", before + number))
}
