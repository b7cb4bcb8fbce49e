//! What the gate would say to a call: by a running gate, and by a configuration alone.

use serde_json::{Value, json};

use crate::harness::{CLIENT, Call, Config, Gate, Origin, Session, Setup, binary, finish, token};

const FLOW: &str = r#"
name = "ordering"
[[flows.steps]]
name = "offer"
routes = ["offers"]
repeat = true
[[flows.steps]]
name = "order"
routes = ["orders"]
after = ["offer"]
max_gap = "30m"

[[rate_limits]]
name = "per-client"
per = "client"
requests = 50
window = "1h"
"#;

fn config(origin: &Origin) -> Config {
    let route = |name: &str, method: &str| {
        format!("name = \"{name}\"\nmethods = [\"{method}\"]\npath = \"/{name}\"\nupstream = \"shop\"")
    };
    Config::new(&origin.url()).route(&route("offers", "GET")).route(&route("orders", "POST")).flow(FLOW)
}

fn ask(gate: &Gate, question: &Value) -> Value {
    let reply = gate.operate(&Call::new("POST", "/explain").body(question.to_string()));
    reply.assert_status(200);
    reply.json()
}

fn fields(session: Option<&Session>) -> Value {
    let mut fields = json!({ "authorization": format!("Bearer {}", token()), "client-id": CLIENT, "accept": "*/*" });
    if let Some(session) = session {
        fields["session-id"] = session.id.clone().into();
    }
    fields
}

fn stage<'a>(explanation: &'a Value, name: &str) -> &'a Value {
    let stages = explanation["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["name"] == name).unwrap_or_else(|| panic!("no {name} in {explanation}"))
}

fn view(gate: &Gate, session: &Session) -> Value {
    gate.operate(&Call::new("GET", &format!("/sessions/{}", session.id))).json()
}

#[test]
fn a_running_gate_explains_a_call_in_a_live_session_and_changes_nothing() {
    let origin = Origin::start();
    let gate = Gate::administered_with(config(&origin));
    let session = gate.open();
    let before = view(&gate, &session);

    let order = json!({ "method": "POST", "path": "/orders", "headers": fields(Some(&session)) });
    let refused = ask(&gate, &order);
    assert_eq!(
        (&refused["verdict"]["code"], &refused["verdict"]["reason"]),
        (&json!("step-not-allowed"), &json!("StepOutOfOrder"))
    );
    assert_eq!(stage(&refused, "step")["result"], "refused");
    assert!(!refused.to_string().contains(&session.id) && !refused.to_string().contains(&token()), "{refused}");

    let offers = json!({ "method": "GET", "path": "/offers", "headers": fields(Some(&session)) });
    for _ in 0..100 {
        let admitted = ask(&gate, &offers);
        assert_eq!(admitted["verdict"]["verdict"], "admitted", "{admitted}");
        assert_eq!(stage(&admitted, "limits")["result"], "passed", "more often than the rate has calls");
    }
    assert_eq!(view(&gate, &session), before, "no call was made");
    assert!(origin.seen().is_empty());

    gate.send(&session.get("/offers")).assert_status(200);
    let named = json!({ "method": "POST", "path": "/orders", "headers": fields(None), "session": before["key"] });
    assert_eq!(ask(&gate, &named)["verdict"]["verdict"], "admitted", "the session is named by its key");
    let mut later = named.clone();
    later["time"] = "2100-01-01T00:00:00Z".into();
    assert_eq!(ask(&gate, &later)["verdict"]["code"], "token-invalid");
    for wrong in [
        json!({}),
        json!({ "method": "GET", "path": "offers" }),
        json!({ "method": "GET", "path": "/", "session": "x" }),
    ] {
        gate.operate(&Call::new("POST", "/explain").body(wrong.to_string())).assert_status(400);
    }
    gate.admin(&Call::new("POST", "/explain").body(offers.to_string())).assert_status(401);
}

#[test]
fn a_session_that_the_operator_saw_can_be_judged_without_the_gate() {
    let origin = Origin::start();
    let setup = Setup::administered(config(&origin));
    let dir = setup.dir().to_owned();
    let gate = setup.start();
    let session = gate.open();
    gate.send(&session.get("/offers")).assert_status(200);
    let seen = view(&gate, &session);
    assert_eq!((&seen["done"], &seen["step"]), (&json!(["offer"]), &json!("offer")));

    let file = dir.join("session.json");
    let explain = |session: &Value, more: &[&str]| {
        std::fs::write(&file, session.to_string()).expect("a file");
        let (bearer, client) = (format!("authorization: Bearer {}", token()), format!("client-id: {CLIENT}"));
        let mut command = binary();
        command.args(["explain", "POST", "/orders", "-o", "json", "-H", &bearer, "-H", &client, "-H", "accept: */*"]);
        command.arg("--config").arg(dir.join("sessiongate.toml")).arg("--session").arg(&file).args(more);
        finish(&mut command)
    };
    let admitted: Value = serde_json::from_str(&explain(&seen, &[]).stdout).expect("JSON");
    assert_eq!(admitted["verdict"]["verdict"], "admitted", "{admitted}");
    let words = json!({ "client_id": CLIENT, "created_at": "40m ago", "last_seen_at": "1m ago", "step": "offer", "step_at": "31m ago" });
    let late: Value = serde_json::from_str(&explain(&words, &[]).stdout).expect("JSON");
    assert_eq!(late["verdict"]["reason"], "StepTooLate", "{late}");
    let gone: Value = serde_json::from_str(&explain(&seen, &["--at", "2020-01-01T00:00:00Z"]).stdout).expect("JSON");
    assert_eq!(gone["time"], "2020-01-01T00:00:00Z", "{gone}");
    let wrong = explain(&json!({ "client_id": CLIENT, "step": "pay" }), &[]);
    assert_eq!(wrong.code, Some(2), "{wrong:?}");
    assert!(wrong.stderr.contains("its steps: offer, order"), "{wrong:?}");
}
