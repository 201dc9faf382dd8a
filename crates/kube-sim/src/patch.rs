//! JSON merge patch (RFC 7396) and JSON patch (RFC 6902).
//!
//! A strategic merge patch is taken as a merge patch: of the kinds that are written here, only lists would differ.

use crate::json::Json;
use crate::status::Status;

/// Merges a patch into an object; null removes.
pub(crate) fn merge(target: &Json, patch: &Json) -> Json {
    let Json::Object(fields) = patch else {
        return patch.clone();
    };
    let mut out = if target.is_object() {
        target.clone()
    } else {
        Json::object()
    };
    for (name, value) in fields {
        if *value == Json::Null {
            out.remove(name);
        } else {
            let merged = merge(out.get(name).unwrap_or(&Json::Null), value);
            out.set(name, merged);
        }
    }
    out
}

/// Applies the operations of a JSON patch.
pub(crate) fn json_patch(target: &Json, patch: &Json) -> Result<Json, Status> {
    let failed = || {
        Status::new(
            422,
            "Invalid",
            "the server rejected our request due to an error in our request",
        )
        .with_details(Json::object())
    };
    let mut out = target.clone();
    for operation in patch.items() {
        let place = pointer(operation.text(&["path"]).unwrap_or_default());
        let value = operation.get("value").cloned();
        let done = match operation.text(&["op"]).unwrap_or_default() {
            "test" => find(&out, &place)
                .zip(value.as_ref())
                .is_some_and(|(found, value)| found.same(value)),
            "add" => value.is_some_and(|value| change(&mut out, &place, Change::Add(value))),
            "replace" => {
                value.is_some_and(|value| change(&mut out, &place, Change::Replace(value)))
            }
            "remove" => change(&mut out, &place, Change::Remove),
            _ => false,
        };
        if !done {
            return Err(failed());
        }
    }
    Ok(out)
}

/// What Go says of text that is not JSON.
pub(crate) fn parse_error(error: &serde_json::Error) -> String {
    if error.is_eof() {
        "unexpected end of JSON input".to_owned()
    } else {
        format!("invalid character: {error}")
    }
}

enum Change {
    Add(Json),
    Replace(Json),
    Remove,
}

fn pointer(text: &str) -> Vec<String> {
    text.split('/')
        .skip(1)
        .map(|part| part.replace("~1", "/").replace("~0", "~"))
        .collect()
}

fn find<'j>(json: &'j Json, path: &[String]) -> Option<&'j Json> {
    path.iter().try_fold(json, |json, part| match json {
        Json::Array(items) => items.get(part.parse::<usize>().ok()?),
        json => json.get(part),
    })
}

fn change(json: &mut Json, path: &[String], what: Change) -> bool {
    match (path, json) {
        ([], _) => false,
        ([name], Json::Object(fields)) => {
            let at = fields.iter().position(|(key, _)| key == name);
            match (what, at) {
                (Change::Add(value) | Change::Replace(value), Some(at)) => fields[at].1 = value,
                (Change::Add(value), None) => fields.push((name.clone(), value)),
                (Change::Remove, Some(at)) => {
                    fields.remove(at);
                }
                (Change::Replace(_) | Change::Remove, None) => return false,
            }
            true
        }
        ([index], Json::Array(items)) => {
            let at = if index == "-" {
                Some(items.len())
            } else {
                index.parse().ok()
            };
            match (what, at) {
                (Change::Add(value), Some(at)) if at <= items.len() => items.insert(at, value),
                (Change::Replace(value), Some(at)) if at < items.len() => items[at] = value,
                (Change::Remove, Some(at)) if at < items.len() => {
                    items.remove(at);
                }
                _ => return false,
            }
            true
        }
        ([part, rest @ ..], json) => {
            let child = match json {
                Json::Array(items) => part.parse::<usize>().ok().and_then(|at| items.get_mut(at)),
                json => json.get_mut(part),
            };
            child.is_some_and(|child| change(child, rest, what))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches() {
        let json = |text: &str| Json::parse(text.as_bytes()).unwrap();
        let old = json(r#"{"a":{"b":1,"c":[1,2]},"d":"x"}"#);
        assert!(
            merge(&old, &json(r#"{"a":{"b":null,"e":2},"d":{"f":1}}"#))
                .same(&json(r#"{"a":{"c":[1,2],"e":2},"d":{"f":1}}"#))
        );
        let patch = r#"[{"op":"test","path":"/d","value":"x"},{"op":"add","path":"/a/c/-","value":3},
            {"op":"replace","path":"/a/b","value":2},{"op":"remove","path":"/d"},{"op":"add","path":"/x~1y","value":1}]"#;
        assert!(
            json_patch(&old, &json(patch))
                .unwrap()
                .same(&json(r#"{"a":{"b":2,"c":[1,2,3]},"x/y":1}"#))
        );
        for bad in [
            r#"[{"op":"test","path":"/d","value":"y"}]"#,
            r#"[{"op":"remove","path":"/no"}]"#,
            r#"[{"op":"move","path":"/d"}]"#,
            r#"[{"op":"add","path":"","value":1}]"#,
        ] {
            assert!(json_patch(&old, &json(bad)).is_err(), "{bad}");
        }
    }
}
