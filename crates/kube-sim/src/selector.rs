//! Label and field selectors.
//!
//! See <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors> and
//! <https://kubernetes.io/docs/concepts/overview/working-with-objects/field-selectors/>.

use crate::json::Json;
use crate::request::Params;
use crate::status::Status;

/// The selectors of a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Label>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Label {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads `labelSelector` and `fieldSelector`.
    pub(crate) fn new(params: &Params, group: &str, resource: &str) -> Result<Self, Status> {
        let mut fields = Vec::new();
        for part in params
            .text("fieldSelector")
            .split(',')
            .filter(|part| !part.is_empty())
        {
            let (name, equal, value) = if let Some((name, value)) = part.split_once("!=") {
                (name, false, value)
            } else if let Some((name, value)) = part.split_once("==") {
                (name, true, value)
            } else if let Some((name, value)) = part.split_once('=') {
                (name, true, value)
            } else {
                let message = format!("invalid selector: '{part}'; can't understand '{part}'");
                return Err(Status::bad_request(message));
            };
            if !selectable(group, resource, name) {
                return Err(Status::bad_request(unsupported(resource, name)));
            }
            fields.push((name.to_owned(), equal, value.to_owned()));
        }
        Ok(Self {
            labels: parse_labels(params.text("labelSelector"))?,
            fields,
        })
    }

    /// Whether everything is selected.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected. `namespace` and `name` are its own.
    pub(crate) fn matches(&self, json: &Json, namespace: &str, name: &str) -> bool {
        let labels = json.at(&["metadata", "labels"]);
        let label = |key: &str| {
            labels
                .and_then(|labels| labels.get(key))
                .and_then(Json::as_str)
        };
        let labelled = self.labels.iter().all(|requirement| match requirement {
            Label::In(key, values) => {
                label(key).is_some_and(|value| values.iter().any(|v| v == value))
            }
            Label::NotIn(key, values) => {
                label(key).is_none_or(|value| values.iter().all(|v| v != value))
            }
            Label::Exists(key) => label(key).is_some(),
            Label::Absent(key) => label(key).is_none(),
        });
        labelled
            && self.fields.iter().all(|(field, equal, value)| {
                let actual = match field.as_str() {
                    "metadata.name" => name.to_owned(),
                    "metadata.namespace" => namespace.to_owned(),
                    field => field_value(json, field),
                };
                (actual == *value) == *equal
            })
    }
}

fn field_value(json: &Json, field: &str) -> String {
    let path: Vec<&str> = field.split('.').collect();
    match json.at(&path) {
        Some(Json::String(text)) => text.clone(),
        Some(Json::Bool(value)) => value.to_string(),
        Some(Json::Number(number)) => number.to_string(),
        _ if field == "spec.unschedulable" || field == "spec.hostNetwork" => "false".to_owned(),
        _ => String::new(),
    }
}

fn selectable(group: &str, resource: &str, field: &str) -> bool {
    let fields: &[&str] = match (group, resource) {
        ("", "pods") => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        ("" | "events.k8s.io", "events") => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        ("", "nodes") => &["spec.unschedulable"],
        ("", "namespaces") => &["status.phase"],
        ("", "secrets") => &["type"],
        ("apps", "replicasets") => &["status.replicas"],
        ("batch", "jobs") => &["status.successful"],
        _ => &[],
    };
    field == "metadata.name" || field == "metadata.namespace" || fields.contains(&field)
}

fn unsupported(resource: &str, field: &str) -> String {
    match resource {
        "pods" | "events" | "nodes" | "namespaces" | "secrets" => {
            format!("field label not supported: {field}")
        }
        _ => format!(
            "field label {} not supported for {resource}",
            crate::status::quote(field)
        ),
    }
}

fn parse_labels(text: &str) -> Result<Vec<Label>, Status> {
    let bad =
        |message: &str| Status::bad_request(format!("unable to parse requirement: {message}"));
    let mut labels = Vec::new();
    for part in split_outside_parentheses(text)
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        if let Some(key) = part.strip_prefix('!') {
            if key.starts_with('!') {
                return Err(bad("found '!', expected: identifier"));
            }
            labels.push(Label::Absent(identifier(key, &bad)?));
        } else if let Some((key, value)) = part.split_once("!=") {
            labels.push(Label::NotIn(
                identifier(key, &bad)?,
                vec![value.trim().to_owned()],
            ));
        } else if let Some((key, value)) = part.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value).trim();
            if value.contains('=') {
                return Err(bad("found '=', expected: ',' or 'end of string'"));
            }
            labels.push(Label::In(identifier(key, &bad)?, vec![value.to_owned()]));
        } else if let Some((head, values)) = part.split_once('(') {
            let values: Vec<String> = values
                .trim_end()
                .trim_end_matches(')')
                .split(',')
                .map(|value| value.trim().to_owned())
                .collect();
            let words: Vec<&str> = head.split_whitespace().collect();
            match words.as_slice() {
                [key, "in"] => labels.push(Label::In((*key).to_owned(), values)),
                [key, "notin"] => labels.push(Label::NotIn((*key).to_owned(), values)),
                _ => {
                    return Err(bad(&format!(
                        "found '{head}', expected: in, notin, =, ==, !=, gt, lt"
                    )));
                }
            }
        } else {
            labels.push(Label::Exists(identifier(part, &bad)?));
        }
    }
    Ok(labels)
}

fn identifier(text: &str, bad: &impl Fn(&str) -> Status) -> Result<String, Status> {
    let text = text.trim();
    if text.is_empty() || text.contains(char::is_whitespace) {
        return Err(bad(&format!("found '{text}', expected: identifier")));
    }
    Ok(text.to_owned())
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut parts) = (0_i32, 0, Vec::new());
    for (index, char) in text.char_indices() {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..index]);
                from = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects() {
        let json = Json::parse(
            br#"{"metadata":{"labels":{"app":"web","tier":"front"}},"status":{"phase":"Running"}}"#,
        )
        .unwrap();
        let matches = |query: &str| {
            Selector::new(&Params::parse(query), "", "pods")
                .unwrap()
                .matches(&json, "ns", "web-1")
        };
        for query in [
            "labelSelector=app=web",
            "labelSelector=app%3D%3Dweb,tier",
            "labelSelector=!gone",
            "labelSelector=app!=x",
            "labelSelector=app in (a, web),tier notin (back)",
            "fieldSelector=status.phase!=Failed,metadata.name=web-1",
            "fieldSelector=metadata.namespace==ns",
            "",
        ] {
            assert!(matches(query), "{query}");
        }
        for query in [
            "labelSelector=app=x",
            "labelSelector=!app",
            "labelSelector=gone",
            "fieldSelector=status.phase=Failed",
            "fieldSelector=metadata.name!=web-1",
            "labelSelector=app notin (web)",
        ] {
            assert!(!matches(query), "{query}");
        }
        assert!(
            Selector::new(
                &Params::parse("fieldSelector=spec.containers=x"),
                "",
                "pods"
            )
            .is_err()
        );
        assert!(Selector::new(&Params::parse("labelSelector=!!bad==="), "", "pods").is_err());
    }
}
