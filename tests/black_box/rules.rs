//! Scenarios as files, played against a configuration.

use std::path::Path;

use crate::harness::{Finished, binary, finish};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn test(args: &[&str]) -> Finished {
    finish(binary().arg("test").args(args).current_dir(repository()))
}

#[test]
fn the_example_of_the_ordering_flow_holds_without_its_keys() {
    let done = test(&["examples/rules/ordering.toml"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("8 scenarios: 8 passed, 0 failed"), "{done:?}");
}

#[test]
fn a_rule_that_changed_is_found_by_its_scenarios() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = std::fs::read_to_string(repository().join("deploy/sessiongate.toml")).expect("a file");
    let changed = folder.path().join("sessiongate.toml");
    std::fs::write(&changed, text.replace("max_gap = \"30m\"", "max_gap = \"40m\"")).expect("a copy");
    std::fs::copy(repository().join("deploy/clients.toml"), folder.path().join("clients.toml")).expect("the registry");
    let (config, junit) = (changed.display().to_string(), folder.path().join("junit.xml"));
    let done = test(&["examples/rules/ordering.toml", "--config", &config, "--junit", &junit.display().to_string()]);
    assert_eq!(done.code, Some(1), "{done:?}");
    for part in [
        "call 5: POST /orders   examples/rules/ordering.toml:",
        "expected  step-not-allowed (StepTooLate)",
        "got       ok",
        "it is step order of flow ordering",
        "8 scenarios: 7 passed, 1 failed",
    ] {
        assert!(done.stdout.contains(part), "{part} in {}", done.stdout);
    }
    let xml = std::fs::read_to_string(junit).expect("the report");
    assert!(xml.contains("tests=\"8\" failures=\"1\"") && xml.contains("<failure message="), "{xml}");
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_its_place_and_code_2() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("rules.toml").display().to_string();
    std::fs::write(&file, "[[scenario]]\nname = \"a\"\n[[scenario.call]]\npath = \"/\"\nanser = 201\n")
        .expect("a file");
    let done = test(&[&file, "examples/rules/ordering.toml"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr.contains(&format!("{file}:5:1:")) && done.stderr.contains("did you mean \"answer\"?"),
        "{done:?}"
    );
    assert!(done.stdout.is_empty(), "nothing is played: {done:?}");
    let none = test(&["/nowhere/rules.toml"]);
    assert_eq!(none.code, Some(2), "{none:?}");
}
