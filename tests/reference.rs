//! The references are complete: every code, metric, configuration key and alert is where readers look for it, and
//! nothing is there that the code does not have.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sessiongate::policy::rejection::TABLE;
use sessiongate::telemetry::metrics;

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Each code with the statuses of its rows.
fn codes() -> BTreeMap<&'static str, BTreeSet<String>> {
    let mut codes: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for row in TABLE {
        codes.entry(row.code).or_default().insert(row.status.as_str().to_owned());
    }
    codes
}

/// Numbers in `text` that are statuses of refusals.
fn statuses(text: &str) -> BTreeSet<String> {
    let numbers = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    numbers
        .filter(|word| word.len() == 3 && word.parse::<u16>().is_ok_and(|status| (400..600).contains(&status)))
        .map(str::to_owned)
        .collect()
}

/// The text between a heading that is exactly `heading` and the next one of any level.
fn section<'t>(text: &'t str, heading: &str) -> Option<&'t str> {
    let start = text.find(&format!("\n{heading}\n"))? + heading.len() + 2;
    let rest = &text[start..];
    Some(rest.split("\n#").next().unwrap_or(rest))
}

fn headings<'t>(text: &'t str, mark: &'t str) -> impl Iterator<Item = &'t str> {
    text.lines().filter_map(move |line| line.strip_prefix(mark))
}

#[test]
fn every_code_has_cause_remedy_and_retry() {
    let text = read("docs/errors.md");
    for (code, expected) in codes() {
        let section = section(&text, &format!("### {code}")).unwrap_or_else(|| panic!("no section for {code}"));
        assert!(section.contains("**Remedy:**") && section.contains("**Retry:**"), "{code}");
        let first_bold = section.split("**Remedy:**").next().unwrap_or_default();
        let told = first_bold.split("**").skip(1).step_by(2).collect::<Vec<_>>().join(" ");
        assert_eq!(statuses(&told), expected, "{code}");
    }
    for code in headings(&text, "### ") {
        assert!(codes().contains_key(code), "there is no {code}");
    }
}

#[test]
fn every_code_is_documented_with_its_status_of_grpc() {
    let text = read("docs/errors.md");
    let section = section(&text, "## gRPC").expect("a section on gRPC");
    for row in TABLE {
        let lines: Vec<_> =
            section.lines().filter(|line| line.starts_with('|') && line.contains(&format!("`{}`", row.code))).collect();
        let [line] = lines[..] else { panic!("{} is there {} times", row.code, lines.len()) };
        assert!(line.starts_with(&format!("| {} `", row.grpc.number())), "{} is not {:?}", row.code, row.grpc);
    }
}

#[test]
fn the_client_guide_names_only_codes_that_exist() {
    let text = read("docs/client-guide.md");
    let (_, table) = text.split_once("| code | do |").expect("the table of codes");
    for line in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cell = line.split('|').nth(1).unwrap_or_default();
        for code in cell.split('`').skip(1).step_by(2) {
            assert!(codes().contains_key(code), "there is no {code}");
        }
    }
}

#[test]
fn openapi_lists_every_code() {
    let text = read("docs/openapi.yaml");
    let (_, listed) = text.split_once("\n    Code:\n").expect("the schema of codes");
    let listed: BTreeMap<_, _> = listed
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .map(|item| item.split_once(" # ").expect("each code has its statuses as a comment"))
        .map(|(code, told)| (code, statuses(told)))
        .collect();
    assert_eq!(listed, codes());
}

#[test]
fn every_metric_is_described_with_its_labels() {
    let text = read("docs/metrics.md");
    let rows: BTreeMap<&str, Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| `sessiongate_"))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells)
        })
        .collect();
    for metric in metrics::ALL {
        let row = rows.get(metric.name).unwrap_or_else(|| panic!("{} is not in docs/metrics.md", metric.name));
        for label in metric.labels {
            assert!(row[3].contains(&format!("`{label}`")), "{}: label {label}", metric.name);
        }
        assert_eq!(row[3].is_empty(), metric.labels.is_empty(), "{}", metric.name);
    }
    for name in rows.keys() {
        assert!(metrics::ALL.iter().any(|metric| metric.name == *name), "there is no metric {name}");
    }
}

/// Keys of a JSON Schema with all schemas it refers to.
fn keys(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(serde_json::Value::Object(properties)) = map.get("properties") {
                found.extend(properties.keys().cloned());
            }
            map.values().for_each(|value| keys(value, found));
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
        _ => {}
    }
}

#[test]
fn every_configuration_key_is_in_the_reference_and_in_the_readme() {
    let schema = serde_json::from_str(&read("docs/sessiongate.schema.json")).expect("the schema is JSON");
    let mut found = BTreeSet::new();
    keys(&schema, &mut found);
    assert!(found.len() > 50, "{found:?}");
    for document in ["docs/configuration.md", "README.md"] {
        let text = read(document);
        let words: BTreeSet<&str> =
            text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_' && letter != '-').collect();
        let missing: Vec<_> = found.iter().filter(|key| !words.contains(key.as_str())).collect();
        assert!(missing.is_empty(), "{document} lacks {missing:?}");
    }
}

#[test]
fn every_alert_has_a_remedy_and_a_test() {
    let (rules, runbook, tests) =
        (read("deploy/alerts.yml"), read("docs/operations.md"), read("deploy/alerts.test.yml"));
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::trim).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    for alert in &alerts {
        let remedy = section(&runbook, &format!("### {alert}")).unwrap_or_default();
        assert!(remedy.trim().len() > 40, "docs/operations.md has no remedy for {alert}");
        assert!(tests.contains(alert), "deploy/alerts.test.yml does not test {alert}");
    }
    for heading in headings(&runbook, "### Sessiongate") {
        assert!(alerts.contains(format!("Sessiongate{heading}").as_str()), "there is no alert Sessiongate{heading}");
    }
}

#[test]
fn the_session_key_of_the_runbook_is_the_one_the_gate_makes() {
    let runbook = read("docs/operations.md");
    let (id, key) = runbook
        .lines()
        .find_map(|line| line.strip_prefix("assert session_key(\"")?.strip_suffix('"')?.split_once("\") == \""))
        .expect("the example");
    let id = sessiongate::policy::ids::SessionId::parse(id.as_bytes()).expect("a session-id");
    assert_eq!(id.key().to_string(), key);
}

#[test]
fn the_small_example_is_a_valid_configuration() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("secret.key"), "stand-in-".repeat(6)).expect("a secret");
    std::fs::create_dir(folder.path().join("examples")).expect("a folder");
    let origin = folder.path().join("examples/orders.toml");
    _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
    let read = sessiongate::config::parse(&read("examples/orders.toml"), &origin, 1);
    assert_eq!(read.map(|live| live.routes.routes().len()).map_err(|errors| errors.to_string()), Ok(4));
}
