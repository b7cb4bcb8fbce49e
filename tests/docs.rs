//! What the documents say is so: the README's table of refusals is the code's, links lead somewhere, and what is named
//! exists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sessiongate::policy::rejection::TABLE;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// All Markdown files of the repository.
fn documents() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the repository can be read").map_while(Result::ok) {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    assert!(found.iter().any(|path| path.ends_with("README.md")), "there is a README");
    found
}

/// Rows of the README whose first cell is a code in backticks: code to the other cells.
fn readme_rows() -> BTreeMap<String, BTreeSet<String>> {
    let mut rows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in read(&root().join("README.md")).lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let codes: Vec<_> = cells
            .iter()
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
            .filter(|word| TABLE.iter().any(|row| row.code == *word))
            .collect();
        for code in codes {
            rows.entry(code.to_owned()).or_default().extend(cells.iter().map(|cell| (*cell).to_owned()));
        }
    }
    rows
}

#[test]
fn the_readme_lists_every_refusal_with_its_status() {
    let rows = readme_rows();
    let mut missing = BTreeSet::new();
    for row in TABLE {
        let status = row.status.as_str();
        let told = rows.get(row.code).is_some_and(|cells| {
            cells.iter().any(|cell| cell.split(|letter: char| !letter.is_ascii_digit()).any(|word| word == status))
        });
        if !told {
            missing.insert(format!("{} {status}", row.code));
        }
    }
    assert!(missing.is_empty(), "the README's table lacks {missing:?}");
}

#[test]
fn the_readme_lists_no_refusal_that_is_not_there() {
    let text = read(&root().join("README.md"));
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let is_status = |cell: &&&str| cell.len() == 3 && cell.parse::<u16>().is_ok_and(|status| status >= 400);
        let Some(status) = cells.iter().find(is_status) else { continue };
        for code in cells.iter().flat_map(|cell| cell.split('`').skip(1).step_by(2)).filter(|word| {
            word.contains('-') && word.chars().all(|letter| letter.is_ascii_lowercase() || letter == '-')
        }) {
            let known = TABLE.iter().any(|row| row.code == code && row.status.as_str() == *status);
            let header =
                ["client-id", "session-id", "content-type", "x-correlation-id", "idempotency-key", "retry-after"];
            assert!(known || header.contains(&code), "{code} {status} is not in the table of refusals: {line}");
        }
    }
}

#[test]
fn every_relative_link_leads_somewhere() {
    let mut broken = BTreeSet::new();
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().expect("a file is in a folder");
        let mut fenced = false;
        for line in text.lines() {
            fenced ^= line.trim_start().starts_with("```");
            if fenced {
                continue;
            }
            for rest in line.split("](").skip(1) {
                let link = rest.split([')', ' ']).next().unwrap_or_default();
                let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
                if link.contains("://") || link.starts_with("mailto:") {
                    continue;
                }
                let target = if file.is_empty() { document.clone() } else { folder.join(file) };
                if !target.exists() {
                    broken.insert(format!("{}: {link}", document.display()));
                } else if !anchor.is_empty()
                    && target.extension().is_some_and(|ending| ending == "md")
                    && !anchors(&read(&target)).contains(anchor)
                {
                    broken.insert(format!("{}: no heading for {link}", document.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Anchors of headings, as they are made on the web.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    headings
        .map(|heading| {
            let kept = heading
                .to_lowercase()
                .chars()
                .filter(|letter| letter.is_alphanumeric() || " -_".contains(*letter))
                .collect::<String>();
            kept.replace(' ', "-")
        })
        .collect()
}

#[test]
fn the_commands_of_the_readme_are_commands() {
    let text = read(&root().join("README.md"));
    assert!(text.contains("cargo run --release -- demo"), "the main job");
    assert!(text.contains("tests/run"), "the tests");
    for path in
        ["tests/run", ".ci/run", "CHANGELOG.md", "LICENSE-MIT", "LICENSE-APACHE", "deny.toml", "rust-toolchain.toml"]
    {
        assert!(root().join(path).exists(), "{path}");
    }
    let commands = [
        "serve", "check", "demo", "load", "token", "routes", "explain", "test", "import", "schema", "trail", "report",
        "replay",
    ];
    for rest in text.split("sessiongate ").skip(1) {
        let word: String = rest.chars().take_while(|letter| letter.is_ascii_lowercase()).collect();
        let after = rest[word.len()..].chars().next();
        let is_command = text.contains(&format!("`sessiongate {word}")) && matches!(after, Some(' ' | '`' | '\n'));
        assert!(!is_command || word.is_empty() || commands.contains(&word.as_str()), "sessiongate {word}");
    }
}
