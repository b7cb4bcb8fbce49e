//! Which way dependencies point. Reads the paths that the code names, so that the rule needs no
//! reviewer.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Modules of one rank, and the ranks in the order of use: a module may use what stands in an earlier rank, and
/// nothing of its own rank or a later one.
const RANKS: &[&[&str]] = &[
    &["policy", "clock", "timer", "random"],
    &["auth", "store", "upstream", "telemetry"],
    &["trail"],
    &["config"],
    &["gate"],
    &["explain"],
    &["front", "admin", "replay"],
    &["server"],
    &["cli", "demo", "main"],
];

/// Uses against the arrows that were argued for, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("clock", "policy", "a clock gives the Timestamps that policy judges by"),
    ("admin", "front", "the scrape reads the pools, which belong to the fronts of the workers"),
];

/// What `policy` may use beside itself: no runtime, IO, clock, random source or log call.
const POLICY_MAY_USE: &[&str] = &[
    "std",
    "core",
    "alloc",
    "http",
    "serde",
    "serde_json",
    "bytes",
    "thiserror",
    "uuid",
    "matchit",
    "regex",
    "memchr",
    "percent_encoding",
    "base64",
    "ipnet",
];

/// Crates whose types stay inside these modules.
const CONFINED: &[(&str, &[&str])] = &[
    // In `cli`, the demo and the load generator are clients of their own.
    ("hyper", &["server", "front", "upstream", "cli"]),
    // `auth` asks issuers for their keys.
    ("hyper_util", &["server", "upstream", "auth", "cli"]),
    ("hyper_rustls", &["auth"]),
    ("tokio_rustls", &["server", "upstream", "cli"]),
    ("rustls", &["server", "upstream", "auth", "config", "cli", "main"]),
    ("anyhow", &["main"]),
    ("clap", &["cli", "main"]),
    ("miette", &["cli", "main", "config"]),
    ("dashmap", &["store", "gate"]),
    ("prometheus", &["telemetry", "admin", "server"]),
];

/// A source file: its module and its text without comments, strings and unit tests.
struct Source {
    path: PathBuf,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("src/ can be read").map_while(Result::ok) {
            let path = entry.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                // Folders named `tests` hold unit tests.
                if name != "tests" {
                    folders.push(path);
                }
            } else if name.ends_with(".rs")
                && !name.ends_with("tests.rs")
                && name != "testing.rs"
                && name != "contract.rs"
            {
                let within = path.strip_prefix(&root).expect("it is below src/");
                let module = within.iter().next().unwrap_or_default().to_string_lossy();
                let module = module.trim_end_matches(".rs").to_owned();
                let text = code(&std::fs::read_to_string(&path).expect("a file"));
                found.push(Source { path: within.to_owned(), module, text });
            }
        }
    }
    assert!(found.len() > 20, "src/ was not found");
    found
}

/// The code of a file: no comments, no strings, and nothing from `#[cfg(test)]` on, which stands at the foot.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        for (place, part) in line.split('"').enumerate() {
            if place % 2 == 0 {
                code.push_str(part);
            }
        }
        code.push('\n');
    }
    code
}

/// The first segments of all paths that start with `prefix`, also those in braces after it.
fn segments(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices(prefix) {
        if text[..at].ends_with(is_word) {
            continue;
        }
        let rest = &text[at + prefix.len()..];
        if let Some(list) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut name = String::new();
            for letter in list.chars() {
                match letter {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        found.insert(std::mem::take(&mut name));
                    }
                    _ if depth == 0 && !letter.is_whitespace() => name.push(letter),
                    _ => {}
                }
            }
            found.insert(name);
        } else {
            found.insert(rest.chars().take_while(|letter| is_word(*letter)).collect());
        }
    }
    let first = |name: String| name.split("::").next().unwrap_or_default().to_owned();
    found
        .into_iter()
        .map(first)
        .filter(|name| name.chars().next().is_some_and(|letter| letter.is_lowercase()))
        .collect()
}

fn rank(module: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&module))
}

#[test]
fn every_module_has_a_rank() {
    let unranked: BTreeSet<_> = sources()
        .into_iter()
        .map(|source| source.module)
        .filter(|module| module != "lib" && rank(module).is_none())
        .collect();
    assert!(unranked.is_empty(), "say in RANKS where these stand: {unranked:?}");
}

#[test]
fn nothing_points_back_and_siblings_do_not_know_each_other() {
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let own = rank(&source.module);
        let prefixes = ["crate::", "sessiongate::"];
        for used in prefixes.iter().flat_map(|prefix| segments(&source.text, prefix)) {
            let allowed = used == source.module
                || rank(&used).is_none()
                || rank(&used) < own
                || EXCEPTIONS.iter().any(|(user, other, _)| *user == source.module && *other == used);
            if !allowed {
                breaches.insert(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "against the arrows of docs/architecture.md: {breaches:#?}");
}

#[test]
fn no_exception_is_left_over() {
    let all = sources();
    for (user, other, reason) in EXCEPTIONS {
        let needed =
            all.iter().any(|source| source.module == *user && segments(&source.text, "crate::").contains(*other));
        assert!(needed, "nobody needs `{user} uses {other}` ({reason}) any more");
    }
}

#[test]
fn policy_is_pure() {
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| source.module == "policy") {
        for line in
            source.text.lines().map(str::trim).filter(|line| line.starts_with("use ") || line.starts_with("pub use "))
        {
            let path = line.trim_start_matches("pub ").trim_start_matches("use ").trim_start_matches("::");
            let first = path.split([':', ';', ' ', '{']).next().unwrap_or_default();
            let allowed = matches!(first, "crate" | "super" | "self")
                || POLICY_MAY_USE.contains(&first)
                || path.starts_with("aws_lc_rs::digest");
            if !allowed {
                breaches.insert(format!("{}: {line}", source.path.display()));
            }
        }
        for impure in [
            "std::fs",
            "std::net",
            "std::process",
            "std::env",
            "std::thread",
            "std::io",
            "SystemTime",
            "Instant",
            "tokio::",
            "hyper::",
            "tracing::",
            "rand::",
            "log::",
            "println!",
            "eprintln!",
            "async fn",
            ".await",
            "new_v4",
            "Uuid::now",
            "aws_lc_rs::rand",
        ] {
            if source.text.contains(impure) {
                breaches.insert(format!("{}: {impure}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "policy decides, others act: {breaches:#?}");
}

#[test]
fn wall_time_is_read_in_one_place() {
    for source in sources().iter().filter(|source| source.module != "clock") {
        for reader in ["SystemTime::now", "UNIX_EPOCH", "Timestamp::now()", "Zoned::now"] {
            assert!(!source.text.contains(reader), "{} reads the clock by {reader}", source.path.display());
        }
    }
}

#[test]
fn libraries_stay_where_they_belong() {
    let mut breaches = BTreeSet::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        for (library, modules) in CONFINED {
            let used = source.text.match_indices(&format!("{library}::")).any(|(at, _)| {
                !source.text[..at]
                    .ends_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':')
            });
            if used && !modules.contains(&source.module.as_str()) {
                breaches.insert(format!("{} uses {library}", source.path.display()));
            }
        }
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
}

#[test]
fn the_reader_of_this_test_reads_what_it_should() {
    let text = "use crate::policy::{head::Head, ids};\nuse crate::{auth, store::memory};\nlet x = crate::gate::open();\nmycrate::x();";
    let found: Vec<_> = segments(text, "crate::").into_iter().collect();
    assert_eq!(found, ["auth", "gate", "policy", "store"]);
    assert_eq!(code("let a = \"crate::x\"; // crate::y\n#[cfg(test)]\nmod tests { crate::z }"), "let a = ; \n");
}
