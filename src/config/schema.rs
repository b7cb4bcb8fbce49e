//! The JSON Schema of the file, for editors.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::raw::File;

/// Where the schema can be found.
const ID: &str = "https://sessiongate.dev/schema/sessiongate.schema.json";

/// The JSON Schema (draft 2020-12) of configuration files, with a line end. It is kept in
/// `docs/sessiongate.schema.json`.
#[must_use]
pub fn json_schema() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<File>();
    let mut schema = schema.to_value();
    schema["$id"] = ID.into();
    tidy(&mut schema);
    format!("{schema:#}\n")
}

/// From what Rust types say to what a TOML file means: a key that is not there is never null, keys marked `x-required`
/// must be there, and a paragraph is one line.
fn tidy(value: &mut Value) {
    if let Value::Array(items) = value {
        items.iter_mut().for_each(tidy);
    }
    let Value::Object(object) = value else { return };
    object.values_mut().for_each(tidy);

    let is_null = |branch: &Value| branch["type"] == "null";
    if let Some(Value::Array(branches)) = object.get_mut("anyOf")
        && branches.iter().any(is_null)
    {
        branches.retain(|branch| !is_null(branch));
        if let [Value::Object(only)] = branches.as_mut_slice() {
            let only = std::mem::take(only);
            object.remove("anyOf");
            object.extend(only);
        }
    }
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|one| one != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".into(), only);
        }
    }
    // Widths of Rust numbers are no formats that editors know.
    if object.get("format").and_then(Value::as_str).is_some_and(|format| format.contains("int")) {
        object.remove("format");
    }
    // The defaults of a table stand at its keys.
    if object.get("default").is_some_and(Value::is_object) {
        object.remove("default");
    }
    if let Some(Value::String(text)) = object.get_mut("description") {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    require_marked(object);
}

fn require_marked(object: &mut Map<String, Value>) {
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let mut required = Vec::new();
    for (key, property) in properties {
        let Value::Object(property) = property else { continue };
        if property.remove("x-required").is_some() {
            property.remove("default");
            required.push(key.clone());
        }
    }
    if !required.is_empty() {
        object.insert("required".into(), required.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE_SCHEMA=1 cargo test` writes it anew.
    #[test]
    fn the_committed_schema_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sessiongate.schema.json");
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            std::fs::create_dir_all(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
            std::fs::write(path, json_schema()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(committed == json_schema(), "docs/sessiongate.schema.json is old; run with UPDATE_SCHEMA=1");
    }

    #[test]
    fn defaults_and_texts_are_in_the_schema() {
        let schema: Value = serde_json::from_str(&json_schema()).unwrap();
        let idle = &schema["$defs"]["Sessions"]["properties"]["idle"];
        assert_eq!(idle["default"], "30m", "{idle:#}");
        assert!(idle["description"].as_str().unwrap().starts_with("Longest time between"));
        assert_eq!(schema["$defs"]["Route"]["required"], serde_json::json!(["name", "path", "upstream"]));
        assert_eq!(schema["$defs"]["Route"]["additionalProperties"], false);
        assert_eq!(schema["$defs"]["Route"]["properties"]["headers"]["$ref"], "#/$defs/Headers");
        assert!(!json_schema().contains("null") && !json_schema().contains("x-required"));
    }
}
