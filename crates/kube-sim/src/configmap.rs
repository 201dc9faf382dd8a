//! What a server checks in a ConfigMap.
//!
//! See <https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/config-map-v1/>.

use crate::json::Json;
use crate::kinds::Kind;
use crate::status::{Cause, Status, quote};

/// The bytes that all values may have together.
const SIZE_LIMIT: usize = 1 << 20;
const FIELDS: [&str; 6] = [
    "kind",
    "apiVersion",
    "metadata",
    "immutable",
    "data",
    "binaryData",
];

/// What the decoder says of values of the wrong type.
pub(crate) fn check_types(json: &Json) -> Result<(), String> {
    for name in ["data", "binaryData"] {
        for (_, value) in json.get(name).map(Json::fields).unwrap_or_default() {
            if value.as_str().is_none() && *value != Json::Null {
                let found = describe(value);
                return Err(format!(
                    "json: cannot unmarshal {found} into Go struct field ConfigMap.{name} of type string"
                ));
            }
        }
    }
    Ok(())
}

/// Drops fields that a ConfigMap has not, and says which they are, and which come twice.
pub(crate) fn drop_unknown(json: &mut Json) -> Vec<String> {
    let mut problems = Vec::new();
    let mut duplicates = |prefix: &str, json: &Json| {
        let fields = json.fields();
        for (index, (name, _)) in fields.iter().enumerate() {
            if fields[..index].iter().any(|(earlier, _)| earlier == name) {
                problems.push(format!("duplicate field \"{prefix}{name}\""));
            }
        }
    };
    duplicates("", json);
    if let Some(data) = json.get("data") {
        duplicates("data.", data);
    }
    if let Json::Object(fields) = json {
        fields.retain(|(name, _)| {
            let known = FIELDS.contains(&name.as_str());
            if !known {
                problems.push(format!("unknown field {}", quote(name)));
            }
            known
        });
    }
    problems
}

/// What apply says of a configuration that does not fit the schema.
pub(crate) fn check_schema(config: &Json, name: &str) -> Result<(), Status> {
    let fail = |why: String| {
        Err(Status::internal(format!(
            "failed to create typed patch object (/{name}; /v1, Kind=ConfigMap): {why}"
        )))
    };
    for (field, value) in config.fields() {
        if !FIELDS.contains(&field.as_str()) {
            return fail(format!(".{field}: field not declared in schema"));
        }
        if field == "data" || field == "binaryData" {
            for (key, value) in value.fields() {
                if value.as_str().is_none() && *value != Json::Null {
                    let shown = String::from_utf8_lossy(&value.to_bytes()).into_owned();
                    return fail(format!(
                        ".{field}.{key}: expected string, got &value.valueUnstructured{{Value:{shown}}}"
                    ));
                }
            }
        }
    }
    Ok(())
}

/// What is wrong with the content.
pub(crate) fn validate(json: &Json) -> Vec<Cause> {
    let mut causes = Vec::new();
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in json.get(field).map(Json::fields).unwrap_or_default() {
            // The values of binaryData are counted decoded.
            let length = value.as_str().map_or(0, str::len);
            size += if field == "data" {
                length
            } else {
                length / 4 * 3
            };
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            if key.is_empty() || !key.bytes().all(good) {
                let why = format!(
                    "Invalid value: {}: a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. \
                     'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
                    quote(key)
                );
                causes.push(Cause::new(
                    "FieldValueInvalid",
                    why,
                    format!("{field}[{key}]"),
                ));
            }
        }
    }
    if size > SIZE_LIMIT {
        let why = format!("Too long: may not be more than {SIZE_LIMIT} bytes");
        causes.push(Cause::new("FieldValueTooLong", why, "[]"));
    }
    causes
}

/// An immutable ConfigMap keeps its data.
pub(crate) fn check_immutable(
    kind: &Kind,
    live: &Json,
    json: &Json,
    name: &str,
) -> Result<(), Status> {
    if kind.collection() != "configmaps" || live.get("immutable") != Some(&Json::Bool(true)) {
        return Ok(());
    }
    let empty = Json::object();
    let changed = |field| {
        !live
            .get(field)
            .unwrap_or(&empty)
            .same(json.get(field).unwrap_or(&empty))
    };
    let causes: Vec<Cause> = [
        ("data", changed("data")),
        ("binaryData", changed("binaryData")),
    ]
    .iter()
    .filter(|(_, changed)| *changed)
    .map(|(field, _)| {
        Cause::new(
            "FieldValueForbidden",
            "Forbidden: field is immutable when `immutable` is set",
            *field,
        )
    })
    .collect();
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid("", "ConfigMap", name, &causes))
    }
}

fn describe(value: &Json) -> &'static str {
    match value {
        Json::Bool(_) => "bool",
        Json::Number(_) => "number",
        Json::Array(_) => "array",
        Json::Object(_) => "object",
        Json::String(_) | Json::Null => "string",
    }
}
