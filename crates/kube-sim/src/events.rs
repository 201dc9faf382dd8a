//! Events have two forms, core/v1 and events.k8s.io/v1, of the same objects. The core form is stored.

use crate::json::Json;

/// Fields of the newer form, in its order, and where they are in the older.
const NEW: [(&str, &str); 14] = [
    ("metadata", "metadata"),
    ("eventTime", "eventTime"),
    ("series", "series"),
    ("reportingController", "reportingComponent"),
    ("reportingInstance", "reportingInstance"),
    ("action", "action"),
    ("reason", "reason"),
    ("regarding", "involvedObject"),
    ("related", "related"),
    ("note", "message"),
    ("type", "type"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
];

/// Fields of the older form, in its order.
const OLD: [&str; 15] = [
    "metadata",
    "involvedObject",
    "reason",
    "message",
    "source",
    "firstTimestamp",
    "lastTimestamp",
    "count",
    "type",
    "eventTime",
    "series",
    "action",
    "related",
    "reportingComponent",
    "reportingInstance",
];

/// An Event of core/v1 as one of events.k8s.io/v1, both as items of a list.
pub(crate) fn to_new(text: &[u8]) -> Vec<u8> {
    let old = Json::parse(text).unwrap_or(Json::Null);
    let mut new = Json::object();
    for (name, source) in NEW {
        let value = old.get(source).filter(|value| !is_default(name, value));
        if let Some(value) = value {
            new.set(name, value.clone());
        }
    }
    for name in ["deprecatedSource", "regarding"] {
        if new.get(name).is_none() {
            new.set(name, Json::object());
        }
    }
    for name in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        if new.get(name).is_none() {
            new.set(name, Json::Null);
        }
    }
    if let Some(count) = old.get("count") {
        new.set("deprecatedCount", count.clone());
    }
    new.to_bytes()
}

/// Turns an Event of either form into one of core/v1, with the fields in the order of its type and those present that a
/// server always writes.
pub(crate) fn normalise(json: &Json) -> Json {
    let from_new = json.get("regarding").is_some() || json.get("note").is_some();
    let mut out = Json::object();
    for old in OLD {
        let name = if from_new {
            NEW.iter()
                .find(|(_, source)| *source == old)
                .map_or(old, |(new, _)| *new)
        } else {
            old
        };
        let name = if from_new && old == "count" {
            "deprecatedCount"
        } else {
            name
        };
        match (json.get(name), old) {
            (Some(value), _) => out.set(old, value.clone()),
            (None, "involvedObject" | "source") => out.set(old, Json::object()),
            (None, "firstTimestamp" | "lastTimestamp" | "eventTime") => out.set(old, Json::Null),
            (None, "reportingComponent" | "reportingInstance") => out.set(old, ""),
            _ => {}
        }
    }
    out
}

fn is_default(name: &str, value: &Json) -> bool {
    matches!(name, "reportingController" | "reportingInstance") && value.as_str() == Some("")
}
