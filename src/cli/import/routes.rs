//! Operations of a description to routes of a configuration.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use sessiongate::policy::method::Verb;

use super::description::{Operation, Security};

/// Longest name of a route.
const NAME_MAX: usize = 64;

/// A route that is proposed.
#[derive(Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its name.
    pub name: String,
    /// Its path, that of the server included.
    pub path: String,
    /// Its methods.
    pub verbs: Vec<Verb>,
    /// Its scopes.
    pub scopes: Scopes,
    /// Whether the description demands no token.
    pub free: bool,
    /// Media types of bodies, where these are not JSON.
    pub media: BTreeSet<String>,
    /// What a reader should know.
    pub remarks: Vec<String>,
    /// Why the gate cannot have it; none: it can.
    pub unusable: Option<String>,
}

/// The scopes of a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scopes {
    /// All of these.
    All(Vec<String>),
    /// One of these.
    Any(Vec<String>),
}

/// The proposals for the operations of an API below `base`. Operations on one path that demand the same are one route.
pub fn propose(operations: &[Operation], base: &str) -> Vec<Proposal> {
    let mut groups: BTreeMap<Group, Vec<&Operation>> = BTreeMap::new();
    for operation in operations {
        let path = matchable(&format!("{}{}", base.trim_end_matches('/'), operation.path));
        let key = (alike(&path), path, operation.security.clone(), not_json(operation));
        groups.entry(key).or_default().push(operation);
    }
    // Paths that differ only in names of parameters are one.
    let mut written: BTreeMap<String, String> = BTreeMap::new();
    let mut names = HashSet::new();
    let mut proposals = Vec::new();
    let several = |alike: &str| groups.keys().filter(|(other, ..)| other == alike).count() > 1;
    for ((alike, path, security, media), operations) in &groups {
        let path = written.entry(alike.clone()).or_insert_with(|| path.clone()).clone();
        let mut verbs: Vec<_> = operations.iter().map(|operation| operation.verb).collect();
        verbs.sort_unstable();
        verbs.dedup();
        let (scopes, remark) = scopes(security);
        let name = unique(name(&operations[0].path, operations, several(alike).then_some(&verbs)), &mut names);
        proposals.push(Proposal {
            name,
            path,
            verbs,
            scopes,
            free: *security == Security::None,
            media: media.clone(),
            remarks: remark.into_iter().collect(),
            unusable: None,
        });
    }
    proposals
}

/// Paths alike, the path, what is demanded, media types.
type Group = (String, String, Security, BTreeSet<String>);

/// Types of bodies that the usual rule of the gate does not take.
fn not_json(operation: &Operation) -> BTreeSet<String> {
    let is_json = |kind: &String| kind == "application/json" || kind.ends_with("+json") || kind == "*/*";
    let plain = |kind: &String| kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let media: BTreeSet<_> = operation.media.iter().map(plain).collect();
    if media.iter().any(is_json) { BTreeSet::new() } else { media }
}

/// The path with parameters as routes write them.
fn matchable(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut in_parameter = false;
    for char in path.chars() {
        match char {
            '{' => in_parameter = true,
            '}' => in_parameter = false,
            _ => {}
        }
        // A parameter may have any name in a description.
        let odd = in_parameter && char != '{' && !char.is_ascii_alphanumeric();
        out.push(if odd { '_' } else { char });
    }
    out
}

/// The path without names of parameters.
fn alike(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut in_parameter = false;
    for char in path.chars() {
        match char {
            '{' => {
                in_parameter = true;
                out.push_str("{}");
            }
            '}' => in_parameter = false,
            _ if in_parameter => {}
            _ => out.push(char),
        }
    }
    out
}

fn scopes(security: &Security) -> (Scopes, Option<String>) {
    let Security::Scopes(sets) = security else { return (Scopes::All(Vec::new()), None) };
    let mut sets: Vec<&BTreeSet<String>> = sets.iter().collect();
    if let [only] = sets[..] {
        return (Scopes::All(only.iter().cloned().collect()), None);
    }
    if sets.iter().all(|set| set.len() == 1) {
        return (Scopes::Any(sets.into_iter().flatten().cloned().collect()), None);
    }
    // The weakest alternative is what every permitted token has at least, if there is one such.
    sets.sort_by_key(|set| set.len());
    let common: Vec<String> =
        sets[0].iter().filter(|scope| sets.iter().all(|set| set.contains(*scope))).cloned().collect();
    let list = sets.iter().map(|set| {
        if set.is_empty() { "any token".to_owned() } else { set.iter().cloned().collect::<Vec<_>>().join(" and ") }
    });
    let remark = format!(
        "The description takes one of: {}. A route cannot say that; these are the scopes that all of them have.",
        list.collect::<Vec<_>>().join("; ")
    );
    (Scopes::All(common), Some(remark))
}

/// From the operation if there is one, else from the path; with the methods where the path has several routes.
fn name(path: &str, operations: &[&Operation], verbs: Option<&Vec<Verb>>) -> String {
    if let [Operation { id: Some(id), .. }] = operations {
        return shortened(&kebab(id));
    }
    let words: Vec<_> = path.split('/').filter(|part| !part.is_empty() && !part.contains('{')).map(kebab).collect();
    let mut name = words.join("-");
    if path.ends_with('}') {
        name.push_str("-item");
    }
    for verb in verbs.into_iter().flatten() {
        name.push('-');
        name.push_str(&verb.as_str().to_ascii_lowercase());
    }
    shortened(name.trim_matches('-'))
}

fn shortened(name: &str) -> String {
    // The end tells routes apart better than the beginning.
    let start = name.len().saturating_sub(NAME_MAX - 4);
    let name = name[start..].trim_matches('-');
    if name.is_empty() { "root".into() } else { name.into() }
}

/// `getOrderItems` and `Get order_items` to `get-order-items`; ASCII only.
fn kebab(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    let mut before = ' ';
    for char in text.chars() {
        if char.is_ascii_uppercase() && (before.is_ascii_lowercase() || before.is_ascii_digit()) {
            out.push('-');
        }
        if char.is_ascii_alphanumeric() {
            out.push(char.to_ascii_lowercase());
        } else if !out.ends_with('-') && !out.is_empty() {
            out.push('-');
        }
        before = char;
    }
    out.trim_end_matches('-').to_owned()
}

fn unique(name: String, names: &mut HashSet<String>) -> String {
    // What the gate calls its own.
    let reserved = |name: &str| name == "session" || name == "key-set";
    let mut candidate = name.clone();
    for number in 2_u32.. {
        if !reserved(&candidate) && names.insert(candidate.clone()) {
            break;
        }
        candidate = format!("{name}-{number}");
    }
    candidate
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(path: &str, verb: Verb, id: Option<&str>, security: Security) -> Operation {
        let id = id.map(str::to_owned);
        Operation { path: path.into(), verb, id, security, fields: BTreeSet::new(), media: BTreeSet::new() }
    }

    fn sets(sets: &[&[&str]]) -> Security {
        Security::Scopes(sets.iter().map(|set| set.iter().map(|scope| (*scope).to_owned()).collect()).collect())
    }

    #[test]
    fn operations_that_demand_the_same_are_one_route() {
        let read = || sets(&[&["read"]]);
        let all = [
            operation("/orders/{order-id}", Verb::Get, Some("getOrder"), read()),
            operation("/orders/{id}", Verb::Head, None, read()),
            operation("/orders/{id}", Verb::Delete, Some("deleteOrder"), sets(&[&["write"]])),
            operation("/orders", Verb::Get, None, Security::Unsaid),
            operation("/orders", Verb::Post, None, Security::Unsaid),
            operation("/session", Verb::Get, Some("session"), Security::None),
        ];
        let proposals = propose(&all, "/v1/");
        let shown: Vec<_> = proposals
            .iter()
            .map(|one| {
                let verbs: Vec<_> = one.verbs.iter().map(|verb| verb.as_str()).collect();
                format!("{} {} {}", one.name, verbs.join(","), one.path)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "orders GET,POST /v1/orders",
                "orders-item-head HEAD /v1/orders/{id}",
                "delete-order DELETE /v1/orders/{id}",
                "get-order GET /v1/orders/{id}",
                "session-2 GET /v1/session",
            ]
        );
        assert!(proposals[4].free);
    }

    #[test]
    fn alternatives_of_scopes_become_what_a_route_can_say() {
        assert_eq!(scopes(&sets(&[&["a", "b"]])).0, Scopes::All(vec!["a".into(), "b".into()]));
        assert_eq!(scopes(&sets(&[&["a"], &["b"]])).0, Scopes::Any(vec!["a".into(), "b".into()]));
        let (common, remark) = scopes(&sets(&[&["a", "b"], &["a", "c"]]));
        assert_eq!(common, Scopes::All(vec!["a".into()]));
        assert!(remark.unwrap().contains("a and b; a and c"));
        assert_eq!(scopes(&sets(&[&[], &["a"]])).0, Scopes::All(vec![]));
    }

    #[test]
    fn names_are_plain_short_and_unique() {
        let mut names = HashSet::new();
        for (text, expected) in [
            ("getHTTPOrder items", "get-httporder-items"),
            ("Überprüfen", "berpr-fen"),
            ("a__b--c", "a-b-c"),
            ("v2Order", "v2-order"),
        ] {
            assert_eq!(kebab(text), expected);
        }
        assert_eq!(unique("a".into(), &mut names), "a");
        assert_eq!(unique("a".into(), &mut names), "a-2");
        assert_eq!(unique("a".into(), &mut names), "a-3");
        assert!(shortened(&"x".repeat(200)).len() <= NAME_MAX);
    }
}
