//! No text makes the configuration panic.

use proptest::prelude::*;

use super::*;

fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec![
        "version",
        "address",
        "name",
        "keys",
        "path",
        "upstream",
        "endpoints",
        "scopes",
        "headers",
        "idle",
        "status",
        "server",
        "listeners",
        "routes",
        "a.b",
        "headers.accept",
        "\"\"",
        "workers",
        "secret",
        "tls",
        "hosts",
        "methods",
    ]);
    let value = prop::sample::select(vec![
        "1",
        "-1",
        "\"x\"",
        "[]",
        "{}",
        "[1, \"a\"]",
        "{ file = \"x\" }",
        "\"1s\"",
        "true",
        "[[]]",
        "{ all = [\"a\"] }",
        "1.5",
        "1979-05-27",
        "\"http://h:1\"",
        "\"/{*r}\"",
        "",
        "\"\"\"\n\"\"\"",
        "[{ name = \"a\" }]",
        "\"ö\"",
    ]);
    (key, value, 0..4u8).prop_map(|(key, value, form)| match form {
        0 => format!("[{key}]\n"),
        1 => format!("[[{key}]]\n"),
        _ => format!("{key} = {value}\n"),
    })
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in ".*") {
        let _ = parse(&text, Path::new("/nowhere/gate.toml"), 1).map_err(|errors| errors.report_with(false, 80));
    }

    #[test]
    fn no_almost_valid_file_is_a_panic(lines in prop::collection::vec(line(), 0..20)) {
        let errors = parse(&lines.concat(), Path::new("/nowhere/gate.toml"), 1).unwrap_err();
        prop_assert!(!errors.mistakes().is_empty());
        let _ = errors.report_with(true, 80);
    }

    #[test]
    fn no_cut_of_a_valid_file_is_a_panic(from in 0..LEAST.len(), to in 0..LEAST.len()) {
        let text = [&LEAST[..from.min(to)], &LEAST[from.max(to)..]].concat();
        let _ = parse(&text, Path::new("/nowhere/gate.toml"), 1).map_err(|errors| errors.report_with(false, 80));
    }
}
