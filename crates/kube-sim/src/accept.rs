//! In which form the client wants its answer: `Accept`.
//!
//! See <https://kubernetes.io/docs/reference/using-api/api-concepts/#alternate-representations-of-resources>.

use crate::http::Head;
use crate::status::Status;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// The objects themselves.
    Full,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `PartialObjectMetadataList`.
    MetadataList,
}

const FOR_ANY: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
const FOR_LISTS: &str =
    "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";

/// Picks the first acceptable form. `collection` is whether a list or a watch was asked for.
pub(crate) fn form(head: &Head, collection: bool) -> Result<Form, Status> {
    let Some(accept) = head
        .header("accept")
        .filter(|accept| !accept.trim().is_empty())
    else {
        return Ok(Form::Full);
    };
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        if !matches!(
            parts.next(),
            Some("application/json" | "*/*" | "application/*")
        ) {
            continue;
        }
        let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
        let parameter = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| *value)
        };
        match (parameter("as"), parameter("g"), parameter("v")) {
            (None, _, _) => return Ok(Form::Full),
            (Some("PartialObjectMetadata"), Some("meta.k8s.io"), Some("v1")) => {
                return Ok(Form::Metadata);
            }
            (Some("PartialObjectMetadataList"), Some("meta.k8s.io"), Some("v1")) => {
                return Ok(Form::MetadataList);
            }
            _ => {}
        }
    }
    let available = if collection {
        format!("{FOR_ANY}, {FOR_LISTS}")
    } else {
        FOR_ANY.to_owned()
    };
    Err(Status::not_acceptable(&available))
}

/// Whether the client gets indented JSON: it asked for it, or it looks like a person's.
pub(crate) fn pretty(head: &Head, parameter: Option<&str>) -> bool {
    match parameter {
        Some(value) => value != "false" && value != "0",
        None => ["curl/", "Wget/", "Mozilla/5.0"].iter().any(|agent| {
            head.header("user-agent")
                .is_some_and(|value| value.starts_with(agent))
        }),
    }
}

/// Whether errors come indented: the client accepts no plain object, only another form of it.
pub(crate) fn only_other_forms(head: &Head) -> bool {
    head.header("accept")
        .is_some_and(|accept| accept.split(',').all(|range| range.contains("as=")))
}
