//! What an `OpenAPI` description (2.0, 3.0 or 3.1) says of its operations: their paths, methods, scopes and header fields.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use sessiongate::policy::method::Verb;

/// References that lead from one to the next.
const HOPS_MAX: usize = 16;

/// An API, as far as it concerns a gate.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub title: String,
    /// Where it is served; may be relative, or hold variables that were not resolved.
    pub servers: Vec<String>,
    /// What it can do.
    pub operations: Vec<Operation>,
    /// Where it says more than was understood.
    pub notes: Vec<String>,
}

/// One method on one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The path, below that of the server.
    pub path: String,
    /// The method.
    pub verb: Verb,
    /// Its `operationId`.
    pub id: Option<String>,
    /// What it demands of tokens.
    pub security: Security,
    /// Header fields it demands, in lower case.
    pub fields: BTreeSet<String>,
    /// Media types of its request body; none: it has no body.
    pub media: BTreeSet<String>,
}

/// What an operation demands of tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Security {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// Nothing is demanded.
    None,
    /// One of these sets of scopes; an empty set: any token.
    Scopes(BTreeSet<BTreeSet<String>>),
}

/// Not a description.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotADescription(pub String);

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// [`NotADescription`], with what it lacks.
    pub fn read(document: &Value) -> Result<Self, NotADescription> {
        let is_version = |key: &str, start: &str| {
            document[key]
                .as_str()
                .map(str::to_owned)
                .or_else(|| document[key].as_f64().map(|number| number.to_string()))
                .is_some_and(|version| version.starts_with(start))
        };
        let old = is_version("swagger", "2");
        if !old && !is_version("openapi", "3") {
            return Err(NotADescription(
                "it has neither \"openapi: 3.x\" nor \"swagger: 2.0\": this is no OpenAPI description".into(),
            ));
        }
        let Some(paths) = document["paths"].as_object() else {
            return Err(NotADescription("it has no \"paths\"".into()));
        };
        let mut reader = Reader { document, notes: BTreeSet::new() };
        let common = reader.security(document.get("security")).unwrap_or_default();
        let mut operations = Vec::new();
        for (path, item) in paths {
            if path.starts_with("x-") {
                continue;
            }
            let Some(item) = reader.follow(item).and_then(Value::as_object) else {
                reader.note(format!("{path}: its description is elsewhere, or nothing"));
                continue;
            };
            let shared = reader.fields(item.get("parameters"));
            for (method, operation) in item {
                if let Some(operation) = reader.operation(path, method, operation, &common, &shared) {
                    operations.push(operation);
                }
            }
        }
        let servers = if old { old_servers(document) } else { servers(document) };
        let title = document["info"]["title"].as_str().unwrap_or("API").to_owned();
        Ok(Self { title, servers, operations, notes: reader.notes.into_iter().collect() })
    }
}

struct Reader<'d> {
    document: &'d Value,
    notes: BTreeSet<String>,
}

/// Keys of a path item that are no methods.
const OTHER_KEYS: [&str; 5] = ["parameters", "summary", "description", "servers", "$ref"];

impl<'d> Reader<'d> {
    fn note(&mut self, note: String) {
        self.notes.insert(note);
    }

    /// What a value stands for: itself, or what it refers to in this document.
    fn follow(&mut self, value: &'d Value) -> Option<&'d Value> {
        let mut value = value;
        for _ in 0..HOPS_MAX {
            let Some(reference) = value.get("$ref").and_then(Value::as_str) else { return Some(value) };
            let Some(pointer) = reference.strip_prefix('#') else {
                self.note(format!("{reference}: other files are not read"));
                return None;
            };
            match self.document.pointer(pointer) {
                Some(target) => value = target,
                None => {
                    self.note(format!("{reference}: leads nowhere"));
                    return None;
                }
            }
        }
        None
    }

    fn operation(
        &mut self,
        path: &str,
        method: &str,
        operation: &'d Value,
        common: &Security,
        shared: &BTreeSet<String>,
    ) -> Option<Operation> {
        if OTHER_KEYS.contains(&method) || method.starts_with("x-") {
            return None;
        }
        let Some(verb) = Verb::named(&method.to_ascii_uppercase()) else {
            self.note(format!("{path}: the gate does not forward {}", method.to_ascii_uppercase()));
            return None;
        };
        if operation.get("servers").is_some() {
            self.note(format!("{path}: {verb} has servers of its own, which are not looked at", verb = verb.as_str()));
        }
        let security = self.security(operation.get("security")).unwrap_or_else(|| common.clone());
        let fields = shared.union(&self.fields(operation.get("parameters"))).cloned().collect();
        let media = self.media(operation);
        let id = operation["operationId"].as_str().map(str::to_owned);
        Some(Operation { path: path.to_owned(), verb, id, security, fields, media })
    }

    /// None if nothing is said.
    fn security(&mut self, security: Option<&'d Value>) -> Option<Security> {
        let alternatives = security?.as_array()?;
        let sets: BTreeSet<BTreeSet<String>> = alternatives.iter().filter_map(Value::as_object).map(scopes).collect();
        let nobody = alternatives.iter().filter_map(Value::as_object).any(Map::is_empty);
        Some(if sets.is_empty() || nobody { Security::None } else { Security::Scopes(sets) })
    }

    /// Names of the header fields that must be there.
    fn fields(&mut self, parameters: Option<&'d Value>) -> BTreeSet<String> {
        let list = parameters.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let mut fields = BTreeSet::new();
        for parameter in list {
            let Some(parameter) = self.follow(parameter) else { continue };
            if parameter["in"] == "header" && parameter["required"] == true {
                fields.extend(parameter["name"].as_str().map(str::to_ascii_lowercase));
            }
        }
        fields
    }

    fn media(&mut self, operation: &'d Value) -> BTreeSet<String> {
        let body = operation.get("requestBody").and_then(|body| self.follow(body));
        if let Some(content) = body.and_then(|body| body["content"].as_object()) {
            return content.keys().cloned().collect();
        }
        let consumes = operation.get("consumes").or_else(|| self.document.get("consumes"));
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let mut has_body = false;
        for parameter in parameters {
            let Some(parameter) = self.follow(parameter) else { continue };
            has_body |= parameter["in"] == "body" || parameter["in"] == "formData";
        }
        let types = consumes.and_then(Value::as_array).filter(|_| has_body);
        types.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }
}

/// All scopes of one alternative: its schemes hold together.
fn scopes(schemes: &Map<String, Value>) -> BTreeSet<String> {
    let lists = schemes.values().filter_map(Value::as_array);
    lists.flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn servers(document: &Value) -> Vec<String> {
    let list = document["servers"].as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(|server| server["url"].as_str().map(|url| filled(url, &server["variables"]))).collect()
}

/// The address with the defaults of its variables.
fn filled(url: &str, variables: &Value) -> String {
    let defaults: BTreeMap<_, _> = variables
        .as_object()
        .into_iter()
        .flatten()
        .filter_map(|(name, variable)| Some((format!("{{{name}}}"), variable["default"].as_str()?)))
        .collect();
    defaults.iter().fold(url.to_owned(), |url, (name, default)| url.replace(name, default))
}

fn old_servers(document: &Value) -> Vec<String> {
    let host = document["host"].as_str();
    let base = document["basePath"].as_str().unwrap_or("");
    let scheme = document["schemes"].as_array().and_then(|schemes| {
        schemes.iter().filter_map(Value::as_str).find(|scheme| *scheme == "https").or_else(|| schemes.first()?.as_str())
    });
    match host {
        Some(host) => vec![format!("{}://{host}{base}", scheme.unwrap_or("https"))],
        None => vec![base.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sets(sets: &[&[&str]]) -> Security {
        Security::Scopes(sets.iter().map(|set| set.iter().map(|scope| (*scope).to_owned()).collect()).collect())
    }

    #[test]
    fn operations_are_read_with_what_they_demand() {
        let description = Description::read(&json!({
            "openapi": "3.0.3",
            "info": {"title": "Orders"},
            "servers": [{"url": "https://{region}.example.com/v1", "variables": {"region": {"default": "eu"}}}],
            "security": [{"oauth": ["all"]}],
            "paths": {
                "x-hidden": {},
                "/orders/{id}": {
                    "parameters": [{"$ref": "#/components/parameters/client"}],
                    "get": {"operationId": "getOrder"},
                    "put": {"security": [{"oauth": ["a", "b"]}, {"key": []}], "requestBody": {"content": {"application/json": {}}}},
                    "delete": {"security": []},
                    "head": {"security": [{}, {"oauth": ["a"]}]},
                    "trace": {},
                },
                "/elsewhere": {"$ref": "other.yaml#/x"},
            },
            "components": {"parameters": {"client": {"in": "header", "name": "Client-Id", "required": true}}},
        }))
        .unwrap();
        assert_eq!(description.servers, ["https://eu.example.com/v1"]);
        let of = |verb| description.operations.iter().find(|operation| operation.verb == verb).unwrap();
        assert_eq!(of(Verb::Get).security, sets(&[&["all"]]));
        assert_eq!(of(Verb::Get).fields, BTreeSet::from(["client-id".to_owned()]));
        assert_eq!(of(Verb::Put).security, sets(&[&[], &["a", "b"]]));
        assert_eq!(of(Verb::Put).media, BTreeSet::from(["application/json".to_owned()]));
        assert_eq!((&of(Verb::Delete).security, &of(Verb::Head).security), (&Security::None, &Security::None));
        assert_eq!(description.operations.len(), 4);
        assert_eq!(
            description.notes,
            [
                "/elsewhere: its description is elsewhere, or nothing",
                "/orders/{id}: the gate does not forward TRACE",
                "other.yaml#/x: other files are not read",
            ]
        );
    }

    #[test]
    fn the_old_form_is_read_too() {
        let description = Description::read(&json!({
            "swagger": "2.0", "info": {"title": "Old"}, "host": "shop.example", "basePath": "/api",
            "schemes": ["http", "https"], "consumes": ["application/json"],
            "paths": {"/a": {"post": {"parameters": [{"in": "body", "name": "b"}]}, "get": {}}},
        }))
        .unwrap();
        assert_eq!(description.servers, ["https://shop.example/api"]);
        assert_eq!(description.operations.iter().map(|one| one.media.len()).sum::<usize>(), 1);
        assert!(description.operations.iter().all(|one| one.security == Security::Unsaid));
    }

    #[test]
    fn references_in_a_circle_end() {
        let document =
            json!({"openapi": "3.1.0", "paths": {"/a": {"$ref": "#/paths/~1b"}, "/b": {"$ref": "#/paths/~1a"}}});
        assert!(Description::read(&document).unwrap().operations.is_empty());
    }

    #[test]
    fn what_is_no_description_says_so() {
        for document in
            [json!(null), json!([]), json!({"openapi": "4.0"}), json!({"swagger": 1.2}), json!({"openapi": "3.0.0"})]
        {
            assert!(Description::read(&document).is_err(), "{document}");
        }
    }
}
