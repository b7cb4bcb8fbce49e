use super::*;

fn mistakes(text: &str) -> Vec<String> {
    let errors = Scenario::parse(text, "s.toml").expect_err("it has mistakes");
    errors.to_string().lines().skip(1).map(str::to_owned).collect()
}

fn flow(step: &str) -> String {
    format!("[[flows]]\nname = \"f\"\n[[flows.steps]]\n{step}\n")
}

#[test]
fn the_built_in_scenarios_are_right() {
    for (name, text) in BUILT_IN {
        let scenario = Scenario::parse(text, name).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(scenario.name, name);
        assert!(scenario.clients.is_empty(), "whoever runs it says who calls");
    }
}

#[test]
fn calls_of_a_walk_are_counted_on_average() {
    let of = |text: &str| Scenario::parse(text, "s.toml").unwrap().calls_per_walk();
    assert_eq!(of(BUILT_IN[1].1), 1.0);
    // A session, the first step, half of the time one to three of the second, and then the session is closed.
    let text = "[session]\nclose = true\n[[flows]]\nname = \"f\"\n[[flows.steps]]\nname = \"a\"\npath = \"/a\"\ngo_on = 0.5\n\
                [[flows.steps]]\nname = \"b\"\npath = \"/b\"\nrepeat = [1, 3]\n";
    assert_eq!(of(text), 1.0 + 1.0 + 0.5 * 2.0 + 0.5);
}

#[test]
fn requests_show_six_fields_unless_the_scenario_says_otherwise() {
    let text = flow(
        "name = \"a\"\npath = \"/a\"\nbody = '{}'\nheaders = { accept = \"text/plain\", x-more = \"{n}\", x-correlation-id = \"\" }",
    );
    let scenario = Scenario::parse(&text, "s.toml").unwrap();
    let names = |step: &Step| step.request.fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(scenario.opening()), ["authorization", "client-id"]);
    assert_eq!(
        names(&scenario.steps[1]),
        ["authorization", "client-id", "session-id", "content-type", "accept", "x-more"]
    );
}

#[test]
fn all_mistakes_are_found_with_their_places_and_hints() {
    let text = "[[flows]]\nname = \"f\"\nweight = 0\n[[flows.steps]]\nname = \"a\"\nmethod = \"PSOT\"\npath = \"a b\"\n\
                headers = { host = \"x\" }\ngo_on = 2\n[[flows.steps]]\nname = \"b\"\npath = \"/{ofer}\"\ncapture = { offer = { json = \"id\" } }\n";
    assert_eq!(
        mistakes(text),
        [
            "s.toml:3:10: flows[0].weight: a weight is a number above 0; leave out what never happens",
            "s.toml:6:10: flows[0].steps[0].method: \"PSOT\" is not a method; did you mean \"POST\"?",
            "s.toml:7:8: flows[0].steps[0].path: \"a b\" is not a path; it starts with '/' and has no spaces, like \"/offers?page=1\"",
            "s.toml:8:20: flows[0].steps[0].headers.host: \"host\" cannot be set; the generator writes it itself; leave it out",
            "s.toml:9:9: flows[0].steps[0].go_on: a probability is a number from 0 to 1; 0.8 is four in five",
            "s.toml:12:8: flows[0].steps[1].path: nothing before has captured {ofer}; known here: uuid, n, repeat, random, token, client_id, subject, session_id",
            "s.toml:13:21: flows[0].steps[1].capture.offer: \"id\" is not a JSON pointer (RFC 6901); it starts with '/', like \"/offers/0/id\"",
        ]
    );
}

#[test]
fn shapes_that_nobody_can_read_are_refused_with_how_to_write_them() {
    for (line, part) in [
        ("think = \"soon\"", "is not a duration"),
        ("think = { uniform = [\"2s\", \"1s\"] }", "the shorter time comes first"),
        ("think = { gauss = \"1s\" }", "\"uniform\" or \"exponential\""),
        ("repeat = 0", "write a number like 3"),
        ("repeat = [3, 1]", "the smaller first"),
        ("expect = [\"ok\"]", "write a status like 201"),
        ("expect = [999]", "999 is not a status"),
        ("expect = []", "no answer would be right"),
        ("pth = \"/\"", "did you mean \"path\"?"),
        ("capture = { uuid = { json = \"/id\" } }", "{uuid} is built in"),
        ("headers = { x = \"a\\nb\" }", "control characters"),
    ] {
        let found = mistakes(&flow(&format!("name = \"a\"\npath = \"/a\"\n{line}"))).join("\n");
        assert!(found.contains(part), "{line}: {found}");
    }
    assert!(mistakes("").join("").contains("there is no flow"));
}

#[test]
fn a_client_has_a_token_or_a_secret_and_neither_stands_in_the_file() {
    let with = |client: &str| format!("{}[[clients]]\n{client}\n", flow("name = \"a\"\npath = \"/a\""));
    let found = mistakes(&with("id = \"app\"\nsecret = \"hunter2hunter2\"")).join("\n");
    assert!(found.contains("secrets do not stand in this file") && !found.contains("hunter2"), "{found}");
    assert!(mistakes(&with("id = \"app\"")).join("").contains("either a token or a secret"));
    assert!(mistakes(&with("id = \"a b\"\ntoken = { env = \"T\" }")).join("").contains("is not a client-id"));
    let scenario = Scenario::parse(&with("id = \"app\"\ntoken = { env = \"T\" }\nweight = 2"), "s.toml").unwrap();
    assert_eq!((scenario.clients.len(), scenario.clients[0].weight), (1, 2.0));
}
