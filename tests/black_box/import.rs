//! `sessiongate import`: a configuration proposed for an API that has a description.

use serde_json::Value;

use crate::harness::{Finished, binary, finish};

/// A product ordering API of the kind that TM Forum describes (TMF622), in the form of its time: Swagger 2.0.
const ORDERING: &str = r##"
swagger: "2.0"
info: { title: Product Ordering, version: "4.0" }
host: serverRoot
basePath: /tmf-api/productOrderingManagement/v4/
schemes: [https]
consumes: [application/json;charset=utf-8]
securityDefinitions:
  oauth: { type: oauth2, flow: application, tokenUrl: https://login.example/token, scopes: { "order:read": r, "order:write": w } }
security:
  - oauth: ["order:read"]
parameters:
  client: { name: Client-Id, in: header, required: true, type: string }
  tenant: { name: X-Tenant, in: header, required: true, type: string }
paths:
  /productOrder:
    get: { operationId: listProductOrder, parameters: [{ $ref: "#/parameters/client" }], responses: {} }
    post:
      operationId: createProductOrder
      security: [{ oauth: ["order:write"] }]
      parameters: [{ $ref: "#/parameters/tenant" }, { name: productOrder, in: body, required: true, schema: {} }]
      responses: {}
  /productOrder/{id}:
    get: { operationId: retrieveProductOrder, responses: {} }
    patch: { operationId: patchProductOrder, security: [{ oauth: ["order:write"] }], consumes: [application/merge-patch+json], responses: {} }
    delete: { operationId: deleteProductOrder, security: [{ oauth: ["order:write"] }], responses: {} }
  /cancelProductOrder:
    get: { operationId: listCancelProductOrder, responses: {} }
    post: { operationId: createCancelProductOrder, security: [{ oauth: ["order:write"] }, { oauth: ["order:admin"] }], responses: {} }
  /hub:
    post: { operationId: registerListener, security: [], parameters: [{ name: data, in: body, schema: {} }], consumes: [text/plain], responses: {} }
  /hub/{a}.{b}:
    get: { operationId: odd, responses: {} }
  /report:
    trace: { responses: {} }
"##;

fn import(text: &str, more: &[&str]) -> (tempfile::TempDir, Finished) {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::write(dir.path().join("api.yaml"), text).expect("a file");
    let outcome = finish(binary().current_dir(dir.path()).args(["import", "api.yaml"]).args(more));
    (dir, outcome)
}

#[test]
fn an_ordering_api_becomes_a_configuration_that_passes_the_check() {
    let (dir, outcome) = import(ORDERING, &[]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("9 operations, 7 routes; 1 that the gate cannot have"), "{}", outcome.stderr);
    let file = &outcome.stdout;
    for part in [
        "# Proposed from api.yaml (Product Ordering)",
        "endpoints = [\"https://serverroot\"]",
        "# x-tenant\n",
        "# exempt = true",
        "scopes = { any = [\"order:admin\", \"order:write\"] }",
        "headers = { content-type = { allow = [\"text/plain\"] } }",
        "# The gate cannot have this one",
        "# - /report: the gate does not forward TRACE",
    ] {
        assert!(file.contains(part), "{part:?} in {file}");
    }

    std::fs::write(dir.path().join("sessiongate.toml"), file).expect("a file");
    std::fs::write(dir.path().join("secret.key"), "0123456789abcdef0123456789abcdef").expect("a file");
    let checked = finish(binary().current_dir(dir.path()).args(["check", "sessiongate.toml"]));
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let routes = finish(binary().current_dir(dir.path()).args(["routes", "--output", "json"]));
    let routes: Value = serde_json::from_str(&routes.stdout).expect("JSON");
    let shown: Vec<String> = routes
        .as_array()
        .expect("routes")
        .iter()
        .skip(1)
        .map(|route| {
            let methods: Vec<_> = route["methods"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
            let path = text("path").replace("/tmf-api/productOrderingManagement/v4", "");
            format!("{} {} {path} {}", text("name"), methods.join(","), text("scopes"))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "create-cancel-product-order POST /cancelProductOrder order:admin order:write",
            "list-cancel-product-order GET,HEAD /cancelProductOrder order:read",
            "register-listener POST /hub ",
            "list-product-order GET,HEAD /productOrder order:read",
            "create-product-order POST /productOrder order:write",
            "retrieve-product-order GET,HEAD /productOrder/{id} order:read",
            "product-order-item-patch-delete PATCH,DELETE /productOrder/{id} order:write",
        ]
    );
}

#[test]
fn the_upstream_can_be_said_and_json_is_read_too() {
    let json =
        r#"{"openapi": "3.1.0", "info": {"title": "x"}, "servers": [{"url": "/v1"}], "paths": {"/a": {"get": {}}}}"#;
    let (_, outcome) = import(json, &["--upstream", "http://10.0.0.7:9000"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stdout.contains("endpoints = [\"http://10.0.0.7:9000\"]"), "{}", outcome.stdout);
    assert!(outcome.stdout.contains("path = \"/v1/a\""), "{}", outcome.stdout);
}

#[test]
fn what_is_no_description_is_refused_with_its_place() {
    for (text, said) in [
        ("a: [1,\nb: 2\n", "line"),
        ("{\"openapi\": \"3.0.0\"", "line 1"),
        ("openapi: 3.0.0\n", "\"paths\""),
        ("hello", "no OpenAPI description"),
        ("", "no OpenAPI description"),
        // A few lines that would grow to gigabytes.
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
             d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
             g: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\ni: [*h,*h,*h,*h,*h,*h,*h,*h,*h]\n",
            "api.yaml",
        ),
    ] {
        let (_, outcome) = import(text, &[]);
        assert_eq!(outcome.code, Some(2), "{text}: {}", outcome.stdout);
        assert!(outcome.stderr.contains(said) && outcome.stderr.lines().count() == 1, "{text}: {}", outcome.stderr);
    }
    let missing = finish(binary().args(["import", "/no/such/file.yaml"]));
    assert_eq!(missing.code, Some(2), "{}", missing.stderr);
}
