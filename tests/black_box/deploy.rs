//! Every file in `deploy/` is what it says.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{binary, finish};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

/// Files under `deploy/`, with their content.
fn files() -> Vec<(PathBuf, String)> {
    let (mut found, mut folders) = (Vec::new(), vec![deploy()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("deploy/ is there").map_while(Result::ok) {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), std::fs::read_to_string(path).unwrap_or_default()));
            }
        }
    }
    found.sort();
    found
}

/// Those with this ending whose text contains `part`; there must be some.
#[track_caller]
fn kind(ending: &str, part: &str) -> Vec<PathBuf> {
    let all = files();
    let fits = |(path, text): &&(PathBuf, String)| path.to_string_lossy().ends_with(ending) && text.contains(part);
    let found: Vec<_> = all.iter().filter(fits).map(|(path, _)| path.clone()).collect();
    assert!(!found.is_empty(), "no *{ending} with {part:?} in deploy/");
    found
}

#[track_caller]
fn succeeds(command: &mut Command, hint: &str) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}; {hint}"));
    let text = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "{command:?}: {text}");
    text
}

/// Puts stand-ins where a configuration expects secrets and certificates, and gives the text that finds them there.
fn with_stand_ins(text: &str, dir: &Path) -> String {
    let pair = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let mut changed = text.to_owned();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        for (key, content) in [
            ("file = ", "stand-in-".repeat(6)),
            ("cert = ", pair.cert.pem()),
            ("key = ", pair.signing_key.serialize_pem()),
        ] {
            for rest in line.split(key).skip(1).filter(|rest| rest.starts_with('"')) {
                let name = rest.split('"').nth(1).unwrap_or_default();
                let stand_in = dir.join(name.trim_start_matches('/'));
                std::fs::create_dir_all(stand_in.parent().expect("it is in a folder")).expect("a folder");
                std::fs::write(&stand_in, &content).expect("a stand-in");
                changed = changed.replace(&format!("\"{name}\""), &format!("{:?}", stand_in.display().to_string()));
            }
        }
    }
    changed
}

#[test]
fn the_annotated_configuration_checks_out() {
    for path in kind(".toml", "version = 1") {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let text = with_stand_ins(&std::fs::read_to_string(&path).expect("a file"), dir.path());
        let copy = dir.path().join("sessiongate.toml");
        std::fs::write(&copy, text).expect("a copy");
        std::fs::copy(deploy().join("clients.toml"), dir.path().join("clients.toml")).expect("the registry");
        let done = finish(binary().arg("check").arg(&copy));
        assert_eq!(done.code, Some(0), "{}: {done:?}", path.display());
    }
}

#[test]
fn the_schema_in_the_documents_is_the_one_the_binary_prints() {
    let done = finish(binary().arg("schema"));
    assert_eq!(done.code, Some(0), "{done:?}");
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sessiongate.schema.json");
    let kept = std::fs::read_to_string(kept).expect("docs/sessiongate.schema.json");
    assert!(kept == done.stdout, "`sessiongate schema > docs/sessiongate.schema.json` brings it up to date");
}

#[test]
fn prometheus_takes_the_scrape_configuration_and_the_rules() {
    let hint = "apt-get install prometheus";
    for path in kind(".yml", "scrape_configs:") {
        succeeds(Command::new("promtool").args(["check", "config"]).arg(&path), hint);
    }
    for path in kind(".yml", "alert:") {
        succeeds(Command::new("promtool").args(["check", "rules"]).arg(&path), hint);
        let text = std::fs::read_to_string(&path).expect("a file");
        for name in text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
            let base = name.trim_end_matches("_bucket").trim_end_matches("_sum").trim_end_matches("_count");
            let known = sessiongate::telemetry::metrics::ALL.iter().any(|metric| metric.name == base);
            assert!(!name.starts_with("sessiongate_") || known, "{}: no metric {name}", path.display());
        }
    }
}

#[test]
fn systemd_takes_the_unit_and_finds_it_hardened() {
    for path in kind(".service", "[Service]") {
        // `verify` wants the binary that the unit names to be there.
        let dir = tempfile::tempdir().expect("a temporary folder");
        let text = std::fs::read_to_string(&path).expect("a file");
        let binary = env!("CARGO_BIN_EXE_sessiongate");
        let text: String = text
            .lines()
            .map(|line| match line.split_once('=') {
                Some((key @ ("ExecStart" | "ExecStartPre"), command)) => {
                    let (_, args) = command.split_once(' ').unwrap_or((command, ""));
                    format!("{key}={binary} {args}\n")
                }
                _ => format!("{line}\n"),
            })
            .collect();
        let copy = dir.path().join(path.file_name().expect("a name"));
        std::fs::write(&copy, text).expect("a copy");
        succeeds(Command::new("systemd-analyze").arg("verify").arg(&copy), "apt-get install systemd");
        let security = Command::new("systemd-analyze")
            .args(["security", "--offline=true", "--no-pager"])
            .arg(&copy)
            .output()
            .expect("systemd-analyze (apt-get install systemd)");
        let text = String::from_utf8_lossy(&security.stdout).into_owned();
        let overall = text.lines().rev().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
        let level = overall.split_whitespace().filter_map(|word| word.parse::<f64>().ok()).next_back();
        assert!(level.is_some_and(|level| level <= 2.0), "{text}");
    }
}

#[test]
fn the_image_is_built_from_what_the_repository_has() {
    for path in files().into_iter().filter(|(path, _)| path.ends_with("Dockerfile")).map(|(path, _)| path) {
        let text = std::fs::read_to_string(&path).expect("a file");
        assert!(text.contains("FROM ") && text.contains("USER "), "{text}");
        for line in text.lines().filter(|line| line.starts_with("COPY ") && !line.contains("--from=")) {
            let words: Vec<_> = line.split_whitespace().skip(1).filter(|word| !word.starts_with("--")).collect();
            let (_, sources) = words.split_last().expect("COPY has a destination");
            for source in sources {
                let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
                assert!(there.exists(), "{source} of {line:?}");
            }
        }
    }
    assert!(files().iter().any(|(path, _)| path.ends_with("Dockerfile")), "no Dockerfile in deploy/");
}
