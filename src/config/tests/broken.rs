//! Broken files, and the exact lines about them: the table is `broken.txt`.

use super::*;

const TABLE: &str = include_str!("broken.txt");

/// The file that a block describes.
fn file(block: &str) -> String {
    let mut text = LEAST.to_owned();
    for line in block.lines() {
        match line.split_at_checked(2) {
            Some(("+ ", line)) => text.extend([line, "\n"]),
            Some(("! ", line)) => line.clone_into(&mut text),
            Some(("s ", line)) => {
                let (from, to) = line.split_once(" => ").unwrap_or_else(|| panic!("{line}"));
                assert!(text.contains(from), "{from}");
                text = text.replace(from, to);
            }
            _ => assert!(line.starts_with(['=', '#']), "{line}"),
        }
    }
    text
}

#[test]
fn each_mistake_has_its_line() {
    let folder = Folder::new();
    let (head, blocks) = TABLE.split_once("\n## ").unwrap();
    let mut table = vec![head.trim_end().to_owned()];
    for block in format!("## {blocks}").split("\n\n") {
        let mut lines: Vec<String> = block.lines().filter(|line| !line.starts_with('=')).map(str::to_owned).collect();
        if lines.iter().any(|line| !line.starts_with('#')) {
            lines.extend(folder.mistakes(&file(block)).into_iter().map(|line| format!("= {line}")));
        }
        table.push(lines.join("\n"));
    }
    let table = table.join("\n\n") + "\n";
    if std::env::var_os("UPDATE_BROKEN").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/config/tests/broken.txt");
        std::fs::write(path, &table).unwrap();
        return;
    }
    for (expected, found) in TABLE.lines().zip(table.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(TABLE.lines().count(), table.lines().count());
}
