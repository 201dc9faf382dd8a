//! Discovery: which groups, versions and resources there are.
//!
//! See <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>.

use crate::http::Head;
use crate::json::{Json, object};
use crate::metrics::{GROUP, Metrics, VERSION};
use crate::server::Shared;
use crate::status::{Answer, JSON};

const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const CORE: &[u8] = include_bytes!("../recorded/discovery-core.json");
const ALL: &[u8] = include_bytes!("../recorded/discovery-all.json");
const GROUPS: &[u8] = include_bytes!("../recorded/discovery-groups.json");
const CORE_V1: &[u8] = include_bytes!("../recorded/resources-v1.json");
const APPS_V1: &[u8] = include_bytes!("../recorded/resources-apps-v1.json");

/// `/api`.
pub(crate) fn core(shared: &Shared, head: &Head) -> Answer {
    if wants_aggregated(head) {
        return aggregated(CORE.to_vec());
    }
    let address =
        object! { "clientCIDR" => "0.0.0.0/0", "serverAddress" => shared.address.to_string() };
    let json = object! {
        "kind" => "APIVersions", "versions" => vec![Json::from("v1")], "serverAddressByClientCIDRs" => vec![address],
    };
    Answer::json(200, &json)
}

/// `/apis`.
pub(crate) fn groups(shared: &Shared, head: &Head) -> Answer {
    let metrics = shared.controls().metrics;
    if wants_aggregated(head) {
        let mut json = parse(ALL);
        if metrics != Metrics::Absent {
            push(&mut json, "items", aggregated_metrics(metrics));
        }
        let mut body = json.to_bytes();
        body.push(b'\n');
        return aggregated(body);
    }
    let mut json = parse(GROUPS);
    if metrics != Metrics::Absent {
        push(&mut json, "groups", group_json(GROUP, &[VERSION]));
    }
    Answer::json(200, &json)
}

/// `/apis/GROUP`.
pub(crate) fn group(shared: &Shared, group: &str) -> Answer {
    let known = parse(GROUPS);
    let found = known
        .get("groups")
        .map(Json::items)
        .unwrap_or_default()
        .iter()
        .find(|g| g.text(&["name"]) == Some(group));
    let found = match found {
        Some(found) => found.clone(),
        None if group == GROUP && shared.controls().metrics != Metrics::Absent => {
            group_json(GROUP, &[VERSION])
        }
        None => return Answer::no_such_path(),
    };
    let mut json = object! { "kind" => "APIGroup", "apiVersion" => "v1" };
    for (name, value) in found.fields() {
        json.set(name, value.clone());
    }
    Answer::json(200, &json)
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub(crate) fn resources(shared: &Shared, group: &str, version: &str) -> Answer {
    match (group, version) {
        ("", "v1") => return Answer::bytes(200, JSON, CORE_V1.to_vec()),
        ("apps", "v1") => return Answer::bytes(200, JSON, APPS_V1.to_vec()),
        _ if !shared.kinds.has_version(group, version) => return Answer::no_such_path(),
        _ => {}
    }
    let mut resources = Vec::new();
    for kind in shared
        .kinds
        .kinds
        .iter()
        .filter(|kind| kind.group == group && kind.version == version)
    {
        let entry = &kind.json;
        let mut json = object! {
            "name" => kind.plural.as_str(), "singularName" => entry.text(&["singularResource"]).unwrap_or_default(),
            "namespaced" => kind.namespaced, "kind" => kind.name.as_str(),
        };
        for name in ["verbs", "shortNames", "categories"] {
            if let Some(value) = entry.get(name) {
                json.set(name, value.clone());
            }
        }
        resources.push(json);
        for sub in entry
            .get("subresources")
            .map(Json::items)
            .unwrap_or_default()
        {
            let mut json = object! {
                "name" => format!("{}/{}", kind.plural, sub.text(&["subresource"]).unwrap_or_default()),
                "singularName" => "", "namespaced" => kind.namespaced,
            };
            for name in ["group", "version", "kind"] {
                let value = sub.text(&["responseKind", name]).unwrap_or_default();
                if !value.is_empty() {
                    json.set(name, value);
                }
            }
            json.set("verbs", sub.get("verbs").cloned().unwrap_or(Json::Null));
            resources.push(json);
        }
    }
    let json = object! {
        "kind" => "APIResourceList", "apiVersion" => "v1", "groupVersion" => format!("{group}/{version}"),
        "resources" => resources,
    };
    Answer::json(200, &json)
}

fn wants_aggregated(head: &Head) -> bool {
    head.header("accept").is_some_and(|accept| {
        accept.split(',').any(|range| {
            range.contains("as=APIGroupDiscoveryList")
                && range.contains("g=apidiscovery.k8s.io")
                && range.ends_with(";v=v2")
                || range.contains(";v=v2;") && range.contains("as=APIGroupDiscoveryList")
        })
    })
}

fn aggregated(body: Vec<u8>) -> Answer {
    let mut answer = Answer::bytes(200, AGGREGATED, body);
    answer.headers.push(("Vary", "Accept".to_owned()));
    answer.headers.push(("Cache-Control", "public".to_owned()));
    answer
}

fn aggregated_metrics(metrics: Metrics) -> Json {
    let mut version = object! { "version" => VERSION };
    if metrics == Metrics::Present {
        let resource = |plural: &str, kind: &str, scope: &str| {
            object! {
                "resource" => plural,
                "responseKind" => object! { "group" => "", "version" => "", "kind" => kind },
                "scope" => scope, "singularResource" => "",
                "verbs" => vec![Json::from("get"), Json::from("list")],
            }
        };
        let resources = vec![
            resource("nodes", "NodeMetrics", "Cluster"),
            resource("pods", "PodMetrics", "Namespaced"),
        ];
        version.set("resources", resources);
    }
    version.set(
        "freshness",
        if metrics == Metrics::Present {
            "Current"
        } else {
            "Stale"
        },
    );
    object! { "metadata" => object! { "name" => GROUP }, "versions" => vec![version] }
}

fn group_json(name: &str, versions: &[&str]) -> Json {
    let version = |version: &str| object! { "groupVersion" => format!("{name}/{version}"), "version" => version };
    let all: Vec<Json> = versions.iter().map(|v| version(v)).collect();
    object! { "name" => name, "versions" => all.clone(), "preferredVersion" => all.first().cloned().unwrap_or(Json::Null) }
}

fn push(json: &mut Json, name: &str, item: Json) {
    if let Some(Json::Array(items)) = json.get_mut(name) {
        items.push(item);
    }
}

fn parse(text: &[u8]) -> Json {
    Json::parse(text).expect("the recorded discovery is JSON")
}
