//! The rules of `deny.toml` about licenses, bans and sources, held by `cargo tree` alone, so that they hold where
//! cargo-deny is not installed.

use std::collections::BTreeSet;
use std::process::Command;

use serde::Deserialize;

#[derive(Deserialize)]
struct Rules {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

/// A package that is built for this system with all features, tests included.
struct Package {
    name: String,
    license: String,
    /// Name, version, and where it is from if that is not the public registry.
    shown: String,
    public: bool,
}

fn rules() -> Rules {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deny.toml");
    toml::from_str(&std::fs::read_to_string(path).expect("deny.toml")).expect("deny.toml has the rules")
}

/// What `cargo tree` lists. `cargo metadata` also names packages that only a feature nobody asked for would bring.
fn packages() -> Vec<Package> {
    let done = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--all-features", "--edges=normal,build,dev", "--prefix=none", "--no-dedupe"])
        .args(["--format={p}|{l}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let lines: BTreeSet<_> = String::from_utf8_lossy(&done.stdout).lines().map(str::to_owned).collect();
    let packages: Vec<_> = lines
        .iter()
        .map(|line| {
            let (shown, license) = line.rsplit_once('|').expect("the format has a bar");
            let shown = shown.trim_end_matches(" (proc-macro)");
            let name = shown.split(' ').next().unwrap_or_default();
            // A folder, a git address or another registry stands in brackets.
            let public = !shown.contains('(') || name == env!("CARGO_PKG_NAME");
            Package { name: name.to_owned(), license: license.to_owned(), shown: shown.to_owned(), public }
        })
        .collect();
    assert!(packages.len() > 100, "cargo tree lists the packages");
    packages
}

/// Whether an SPDX expression can be met with licenses that are allowed. `OR` binds weaker than `AND`.
fn admits(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let tokens = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<_> = tokens.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let met = any_of(&mut rest, allowed);
    met && rest.is_empty()
}

fn any_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = all_of(rest, allowed);
    while let Some((&"OR", after)) = rest.split_first() {
        *rest = after;
        met |= all_of(rest, allowed);
    }
    met
}

fn all_of(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut met = one(rest, allowed);
    while let Some((&"AND", after)) = rest.split_first() {
        *rest = after;
        met &= one(rest, allowed);
    }
    met
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let Some((first, after)) = rest.split_first() else { return false };
    *rest = after;
    if *first == "(" {
        let met = any_of(rest, allowed);
        let closed = rest.first() == Some(&")");
        *rest = rest.get(1..).unwrap_or_default();
        return met && closed;
    }
    if let [with, exception, after @ ..] = *rest
        && *with == "WITH"
    {
        *rest = after;
        return allowed.contains(&format!("{first} WITH {exception}"));
    }
    allowed.contains(*first)
}

#[test]
fn licenses_are_those_that_are_allowed() {
    let rules = rules();
    let bad = packages().into_iter().filter(|package| !admits(&package.license, &rules.licenses.allow));
    let bad: Vec<_> = bad.map(|package| format!("{}: {}", package.shown, package.license)).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn banned_crates_are_not_in_the_tree() {
    let rules = rules();
    let banned = packages().into_iter().filter(|package| rules.bans.deny.iter().any(|ban| ban.name == package.name));
    let banned: Vec<_> = banned.map(|package| package.shown).collect();
    assert!(banned.is_empty(), "{banned:?}; `cargo tree -i NAME` says who wants it");
}

#[test]
fn everything_comes_from_the_public_registry() {
    assert_eq!(rules().sources.allow_registry, ["https://github.com/rust-lang/crates.io-index"]);
    let foreign = packages().into_iter().filter(|package| !package.public);
    let foreign: Vec<_> = foreign.map(|package| package.shown).collect();
    assert!(foreign.is_empty(), "{foreign:#?}");
}

#[test]
fn expressions_are_read_as_spdx_says() {
    let allowed: BTreeSet<_> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
    for (expression, met) in [
        ("MIT", true),
        ("GPL-3.0", false),
        ("GPL-3.0 OR MIT", true),
        ("MIT/GPL-3.0", true),
        ("MIT AND GPL-3.0", false),
        ("MIT AND (GPL-3.0 OR ISC)", true),
        ("GPL-3.0 OR MIT AND ISC", true),
        ("(GPL-3.0 OR MIT) AND X", false),
        ("Apache-2.0 WITH LLVM-exception OR X", true),
        ("Apache-2.0", false),
        ("MIT)", false),
        ("", false),
    ] {
        assert_eq!(admits(expression, &allowed), met, "{expression}");
    }
}
