//! `metrics.k8s.io`: what Pods and Nodes use, made up to fit the cluster.
//!
//! The metrics server pages nothing: `limit` is ignored. See
//! <https://kubernetes.io/docs/tasks/debug/debug-cluster/resource-metrics-pipeline/>.

use crate::generate::Request;
use crate::json::{Json, object};
use crate::metadata::{mix, now};
use crate::request::{Params, Target};
use crate::selector::Selector;
use crate::server::Shared;
use crate::status::{Answer, JSON, Status};
use crate::store::{Entry, Range, Store};

/// Whether the cluster has a metrics server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Metrics {
    /// It has none: 404 in plain text.
    #[default]
    Absent,
    /// It has one, and it works.
    Present,
    /// It is registered, and does not answer: 503 in plain text.
    Broken,
}

pub(crate) const GROUP: &str = "metrics.k8s.io";
pub(crate) const VERSION: &str = "v1beta1";

/// The answer of a metrics server that does not work.
pub(crate) fn broken() -> Answer {
    Answer::text(503, "service unavailable\n")
}

/// The resources of the group.
pub(crate) fn resources() -> Answer {
    let resource = |name: &str, namespaced: bool, kind: &str| {
        object! {
            "name" => name, "singularName" => "", "namespaced" => namespaced, "kind" => kind,
            "verbs" => vec![Json::from("get"), Json::from("list")],
        }
    };
    let json = object! {
        "kind" => "APIResourceList", "apiVersion" => "v1", "groupVersion" => format!("{GROUP}/{VERSION}"),
        "resources" => vec![resource("nodes", false, "NodeMetrics"), resource("pods", true, "PodMetrics")],
    };
    Answer::json(200, &json)
}

/// Answers a list or a get in the group.
pub(crate) fn answer(
    shared: &Shared,
    verb: &str,
    target: &Target,
    params: &Params,
) -> Result<Answer, Status> {
    let (kind, singular) = match target.resource.as_str() {
        "nodes" => ("NodeMetrics", "nodemetrics"),
        "pods" => ("PodMetrics", "podmetrics"),
        _ => return Err(Status::no_such_resource()),
    };
    if verb != "list" && verb != "get" {
        return Err(Status::method_not_allowed());
    }
    let selector = Selector::new(params, "", &target.resource)?;
    let prefix = if target.namespace.is_empty() {
        String::new()
    } else {
        format!("{}/", target.namespace)
    };
    let (entries, recorded) = {
        let store = shared.store();
        let recorded = entries(&store, &format!("{}.{GROUP}", target.resource), &prefix);
        if recorded.is_empty() {
            (entries(&store, &target.resource, &prefix), false)
        } else {
            (recorded, true)
        }
    };
    let time = now();
    let api_version = format!("{GROUP}/{VERSION}");
    let list_kind = format!("{kind}List");
    let mut body = object! { "kind" => list_kind, "apiVersion" => api_version.as_str(), "metadata" => Json::object() }
        .to_bytes();
    body.pop();
    body.extend_from_slice(b",\"items\":[");
    let mut first = true;
    for entry in entries {
        let item = match &entry {
            // Without the JSON of the Pod: there may be a hundred thousand of them.
            Entry::Pod(pods, index) if selector.is_empty() && !target.named => pods
                .running(*index)
                .map(|running| generated_pod(running, &time)),
            _ => {
                let object = entry.object();
                let wanted = (!target.named || object.name == target.name)
                    && selector.matches(object.json(), &object.namespace, &object.name);
                match kind {
                    _ if !wanted => None,
                    _ if recorded => Some(object.json().clone()),
                    "NodeMetrics" => node(object.json(), &time),
                    _ => pod(object.json(), &time),
                }
            }
        };
        let Some(item) = item else { continue };
        if target.named {
            let mut json = object! { "kind" => kind, "apiVersion" => api_version };
            for (name, value) in item.fields() {
                json.set(name, value.clone());
            }
            return Ok(Answer::json(200, &json));
        }
        if !first {
            body.push(b',');
        }
        first = false;
        item.write(&mut body);
    }
    if target.named {
        return Err(Status::not_found(GROUP, singular, &target.name));
    }
    body.extend_from_slice(b"]}\n");
    Ok(Answer::bytes(200, JSON, body))
}

fn entries(store: &Store, collection: &str, prefix: &str) -> Vec<Entry> {
    let range = Range {
        collection,
        prefix,
        from: "",
        limit: usize::MAX,
        revision: store.revision(),
    };
    store.range(&range, None).entries
}

/// A Node that is Ready uses a part of what it has.
fn node(node: &Json, time: &str) -> Option<Json> {
    let conditions = node
        .at(&["status", "conditions"])
        .map(Json::items)
        .unwrap_or_default();
    let ready = conditions
        .iter()
        .any(|c| c.text(&["type"]) == Some("Ready") && c.text(&["status"]) == Some("True"));
    if !ready {
        return None;
    }
    let share = share_of(node.text(&["metadata", "name"])?);
    let allocatable =
        |name| parse_quantity(node.text(&["status", "allocatable", name]).unwrap_or("0"));
    Some(sample(
        node,
        time,
        "usage",
        usage(allocatable("cpu"), allocatable("memory"), share),
    ))
}

/// A Pod that runs uses a part of what its containers request.
fn pod(pod: &Json, time: &str) -> Option<Json> {
    if pod.text(&["status", "phase"]) != Some("Running") {
        return None;
    }
    let name = pod.text(&["metadata", "name"])?;
    let mut containers = Vec::new();
    for container in pod
        .at(&["spec", "containers"])
        .map(Json::items)
        .unwrap_or_default()
    {
        let container_name = container.text(&["name"]).unwrap_or_default();
        let request = |name| {
            container
                .text(&["resources", "requests", name])
                .map_or(0.0, parse_quantity)
        };
        let usage = container_usage(name, container_name, request("cpu"), request("memory"));
        containers.push(object! { "name" => container_name, "usage" => usage });
    }
    Some(sample(pod, time, "containers", Json::Array(containers)))
}

/// The same of a Pod that was never written.
fn generated_pod((namespace, name, containers): (&str, String, Vec<Request>), time: &str) -> Json {
    let containers: Vec<Json> = containers
        .into_iter()
        .map(|(container, cpu, memory)| object! { "name" => container, "usage" => container_usage(&name, container, cpu, memory) })
        .collect();
    let metadata = object! { "name" => name, "namespace" => namespace };
    sample(
        &object! { "metadata" => metadata },
        time,
        "containers",
        Json::Array(containers),
    )
}

/// What requests nothing uses a little.
fn container_usage(pod: &str, container: &str, cpu: f64, memory: f64) -> Json {
    let share = share_of(&format!("{pod}/{container}"));
    let cpu = if cpu > 0.0 { cpu } else { 0.02 };
    let memory = if memory > 0.0 { memory } else { 33_554_432.0 };
    usage(cpu, memory, share)
}

fn sample(object: &Json, time: &str, field: &str, value: Json) -> Json {
    let mut metadata = Json::object();
    for name in ["name", "namespace"] {
        if let Some(value) = object.at(&["metadata", name]) {
            metadata.set(name, value.clone());
        }
    }
    metadata.set("creationTimestamp", time);
    if let Some(labels) = object.at(&["metadata", "labels"]) {
        metadata.set("labels", labels.clone());
    }
    let mut json = object! { "metadata" => metadata, "timestamp" => time, "window" => "15.012s" };
    json.set(field, value);
    json
}

fn usage(cpu_cores: f64, memory_bytes: f64, share: f64) -> Json {
    object! {
        "cpu" => format!("{:.0}n", cpu_cores * share * 1e9), "memory" => format!("{:.0}Ki", memory_bytes * share / 1024.0),
    }
}

/// Between 20 and 90 percent, the same for the same name.
fn share_of(name: &str) -> f64 {
    let hash = name
        .bytes()
        .fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    0.2 + 0.7 * f64::from(u32::try_from(hash >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}

/// The value of a quantity; 0 for what is none.
fn parse_quantity(text: &str) -> f64 {
    let split = text
        .find(|char: char| char.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "n" => 1e-9,
        "u" => 1e-6,
        "m" => 1e-3,
        "k" => 1e3,
        "M" => 1e6,
        "G" => 1e9,
        "T" => 1e12,
        "Ki" => 1024.0,
        "Mi" => 1_048_576.0,
        "Gi" => 1_073_741_824.0,
        "Ti" => 1_099_511_627_776.0,
        _ => 1.0,
    };
    number.parse::<f64>().unwrap_or(0.0) * factor
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for (text, value) in [
            ("2", 2.0),
            ("1930m", 1.93),
            ("7218Mi", 7_568_621_568.0),
            ("", 0.0),
            ("x", 0.0),
        ] {
            assert!((parse_quantity(text) - value).abs() < 1e-6, "{text}");
        }
    }
}
