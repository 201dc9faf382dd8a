//! Object metadata: what the server fills in, carries over, and the order in which it is written.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::events;
use crate::json::Json;
use crate::kinds::Kind;
use crate::status::{Cause, quote};

/// The order of the fields of `ObjectMeta`.
const METADATA: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "selfLink",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
];

/// The time of now, in whole seconds.
pub(crate) fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

/// A new object gets an identity.
pub(crate) fn begin(json: &mut Json, time: &str) {
    let metadata = json.get_mut("metadata").expect("checked before");
    for name in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        metadata.remove(name);
    }
    metadata.set("uid", uuid());
    metadata.set("creationTimestamp", time);
}

/// What a write cannot change is carried over from the live object.
pub(crate) fn carry(mut json: Json, live: &Json) -> Json {
    let metadata = json.get_mut("metadata").expect("checked before");
    for name in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generateName",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "managedFields",
    ] {
        match live.at(&["metadata", name]) {
            Some(value) => metadata.set(name, value.clone()),
            None => {
                metadata.remove(name);
            }
        }
    }
    json
}

/// An object that waits for its finalizers.
pub(crate) fn mark_deleted(live: &Json, time: &str, namespace: bool) -> Json {
    let mut json = live.clone();
    let metadata = json.get_mut("metadata").expect("every object has metadata");
    metadata.set("deletionTimestamp", time);
    if namespace {
        json.set("status", crate::json::object! { "phase" => "Terminating" });
    } else {
        metadata.set("deletionGracePeriodSeconds", 0_i64);
    }
    json
}

/// An object with its fields in the order of its Go type.
pub(crate) fn ordered(json: &Json, kind: &Kind) -> Json {
    let json = if kind.is_events() {
        events::normalise(json)
    } else {
        json.clone()
    };
    let mut out = Json::object();
    let empty = Json::object();
    let metadata = json.get("metadata").unwrap_or(&empty);
    let mut ordered = Json::object();
    for name in METADATA {
        if let Some(value) = metadata.get(name).filter(|value| **value != Json::Null) {
            let sorted = matches!(name, "labels" | "annotations");
            ordered.set(name, if sorted { sort(value) } else { value.clone() });
        }
    }
    out.set("metadata", ordered);
    let first: &[&str] = if kind.plural == "configmaps" {
        &["immutable", "data", "binaryData"]
    } else {
        &["spec", "status"]
    };
    for name in first {
        if let Some(value) = json.get(name) {
            out.set(
                name,
                if kind.plural == "configmaps" {
                    sort(value)
                } else {
                    value.clone()
                },
            );
        }
    }
    for (name, value) in json.fields() {
        if !matches!(name.as_str(), "metadata" | "kind" | "apiVersion") && out.get(name).is_none() {
            out.set(name, value.clone());
        }
    }
    out
}

/// What is wrong with a name.
pub(crate) fn check_name(name: &str) -> Option<Cause> {
    let good = name.len() <= 253
        && name.split('.').all(|part| {
            let inner =
                |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            !part.is_empty()
                && part.bytes().all(inner)
                && !part.starts_with('-')
                && !part.ends_with('-')
        });
    // The names of RBAC objects may hold more.
    if good || name.contains(':') {
        return None;
    }
    let why = format!(
        "Invalid value: {}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
         and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        quote(name)
    );
    Some(Cause::new("FieldValueInvalid", why, "metadata.name"))
}

/// The times of a Lease have exactly six digits after the point.
pub(crate) fn check_micro_times(json: &Json) -> Result<(), String> {
    for name in ["acquireTime", "renewTime"] {
        let Some(time) = json.text(&["spec", name]) else {
            continue;
        };
        let rest = time.get(19..).unwrap_or_default();
        let digits = rest.strip_prefix('.').map_or(0, |rest| {
            rest.bytes().take_while(u8::is_ascii_digit).count()
        });
        if !time.starts_with(|char: char| char.is_ascii_digit()) {
            let time = quote(time);
            return Err(format!(
                "parsing time {time} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {time} as \"2006\""
            ));
        }
        if digits != 6 {
            return Err(format!(
                "parsing time {} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {} as \".000000\"",
                quote(time),
                quote(rest)
            ));
        }
    }
    Ok(())
}

/// What is wrong with the content of a Lease.
pub(crate) fn check_lease(json: &Json) -> Option<Cause> {
    let Some(Json::Number(seconds)) = json.at(&["spec", "leaseDurationSeconds"]) else {
        return None;
    };
    let why = format!("Invalid value: {seconds}: must be greater than 0");
    let wrong = seconds.as_i64().is_none_or(|seconds| seconds <= 0);
    wrong.then(|| Cause::new("FieldValueInvalid", why, "spec.leaseDurationSeconds"))
}

/// Five characters for a generated name.
pub(crate) fn suffix() -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut number = random();
    (0..5)
        .map(|_| {
            let char = ALPHABET[usize::try_from(number % 27).unwrap_or(0)];
            number /= 27;
            char::from(char)
        })
        .collect()
}

/// A new uid.
pub(crate) fn uuid() -> String {
    uuid_of(random(), random())
}

/// A uid of two numbers.
pub(crate) fn uuid_of(a: u64, b: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        a >> 32,
        (a >> 16) & 0xffff,
        a & 0xfff,
        0x8000 | ((b >> 48) & 0x3fff),
        b & 0xffff_ffff_ffff
    )
}

/// Mixes a number well (`SplitMix64`).
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn random() -> u64 {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos().into());
    let process = u64::from(std::process::id());
    mix(mix(COUNTER.fetch_add(1, Ordering::Relaxed)) ^ mix(time) ^ (process << 32))
}

fn sort(json: &Json) -> Json {
    match json {
        Json::Object(fields) => {
            let mut fields = fields.clone();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            // Of a field given twice the last counts.
            fields.reverse();
            fields.dedup_by(|later, earlier| later.0 == earlier.0);
            fields.reverse();
            Json::Object(fields)
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for name in ["a", "a-b.c", "1", "system:node"] {
            assert!(check_name(name).is_none(), "{name}");
        }
        for name in ["", "A", "-a", "a-", "a..b", "a_b"] {
            assert!(check_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_last_of_two_counts() {
        let json = Json::parse(br#"{"b":"1","a":"1","a":"2"}"#).unwrap();
        assert_eq!(sort(&json).to_bytes(), br#"{"a":"2","b":"1"}"#);
        assert_ne!(uuid(), uuid());
    }
}
