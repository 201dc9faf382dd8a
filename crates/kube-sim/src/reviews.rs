//! Access reviews: what may I do, and who am I.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access>.

use crate::apply::{Managers, Writer};
use crate::json::{Json, object};
use crate::kinds::Kind;
use crate::metadata;
use crate::rbac::{Attributes, Rbac};
use crate::request::Incoming;
use crate::server::Shared;
use crate::status::{Answer, Cause, Status};

/// Answers a create of one of the reviews, or `None` when it is not one.
pub(crate) fn review(
    shared: &Shared,
    request: &mut Incoming<'_>,
    kind: &Kind,
) -> Option<Result<Answer, Status>> {
    match kind.name.as_str() {
        "SelfSubjectAccessReview" => Some(access(shared, request, kind)),
        "SelfSubjectRulesReview" => Some(rules(shared, request, kind)),
        "SelfSubjectReview" => Some(Ok(who_am_i(request, kind))),
        _ => None,
    }
}

fn access(shared: &Shared, request: &mut Incoming<'_>, kind: &Kind) -> Result<Answer, Status> {
    let body = read(request)?;
    let empty = Json::object();
    let spec = body.get("spec").unwrap_or(&empty);
    let (resource, path) = (
        spec.get("resourceAttributes"),
        spec.get("nonResourceAttributes"),
    );
    let text = |json: &Json, name: &str| json.text(&[name]).unwrap_or_default().to_owned();
    // The fields in the order of their Go type.
    let (field, names, wanted) = match (resource, path) {
        (Some(json), None) => {
            let star = |value: String| if value == "*" { "*".to_owned() } else { value };
            let wanted = Attributes {
                verb: text(json, "verb"),
                group: star(text(json, "group")),
                resource: text(json, "resource"),
                subresource: text(json, "subresource"),
                namespace: text(json, "namespace"),
                name: text(json, "name"),
                path: None,
            };
            (
                ("resourceAttributes", json),
                &[
                    "namespace",
                    "verb",
                    "group",
                    "version",
                    "resource",
                    "subresource",
                    "name",
                ][..],
                wanted,
            )
        }
        (None, Some(json)) => {
            let wanted = Attributes {
                verb: text(json, "verb"),
                path: Some(text(json, "path")),
                ..Attributes::default()
            };
            (
                ("nonResourceAttributes", json),
                &["path", "verb"][..],
                wanted,
            )
        }
        _ => {
            let why = "Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let cause = Cause::new("FieldValueInvalid", why, "spec.resourceAttributes");
            return Err(Status::invalid("authorization.k8s.io", "", "", &[cause]));
        }
    };
    let mut attributes = Json::object();
    for name in names {
        if let Some(value) = field.1.get(name).filter(|value| value.as_str() != Some("")) {
            attributes.set(name, value.clone());
        }
    }
    let allowed = shared.allows(&request.user, &wanted);
    let mut status = object! { "allowed" => allowed };
    if allowed {
        let why = format!(
            "RBAC: allowed by ClusterRoleBinding \"kube-sim\" of ClusterRole \"kube-sim\" to User \"{}\"",
            request.user
        );
        status.set("reason", why);
    }
    let spec = object! { field.0 => attributes };
    let mut json = object! { "metadata" => Json::object(), "spec" => spec };
    let time = metadata::now();
    let mut managers = Managers::default();
    let manager = request.manager();
    let writer = Writer {
        manager: &manager,
        api_version: &kind.api_version,
        subresource: "",
        time: &time,
    };
    managers.update_attributes(&json, field.0, &writer);
    managers.store(&mut json);
    json.set("status", status);
    Ok(created(kind, &json))
}

fn rules(shared: &Shared, request: &mut Incoming<'_>, kind: &Kind) -> Result<Answer, Status> {
    let body = read(request)?;
    let namespace = body.text(&["spec", "namespace"]).unwrap_or_default();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let strings = |words: &[String]| {
        words
            .iter()
            .map(|word| Json::from(word.as_str()))
            .collect::<Vec<_>>()
    };
    let (mut resource_rules, mut path_rules) = (Vec::new(), Vec::new());
    match shared.rbac(&request.user) {
        Rbac::AllowAll => {
            let all = vec![Json::from("*")];
            resource_rules.push(object! { "verbs" => all.clone(), "apiGroups" => all.clone(), "resources" => all.clone() });
            path_rules.push(object! { "verbs" => all.clone(), "nonResourceURLs" => all });
        }
        Rbac::Rules(rules) => {
            for rule in rules
                .iter()
                .filter(|rule| rule.namespace.as_deref().is_none_or(|n| n == namespace))
            {
                if rule.non_resource_urls.is_empty() {
                    let mut json = object! {
                        "verbs" => strings(&rule.verbs), "apiGroups" => strings(&rule.api_groups),
                        "resources" => strings(&rule.resources),
                    };
                    if !rule.resource_names.is_empty() {
                        json.set("resourceNames", strings(&rule.resource_names));
                    }
                    resource_rules.push(json);
                } else {
                    let urls = strings(&rule.non_resource_urls);
                    path_rules.push(
                        object! { "verbs" => strings(&rule.verbs), "nonResourceURLs" => urls },
                    );
                }
            }
        }
    }
    let status = object! {
        "resourceRules" => resource_rules, "nonResourceRules" => path_rules, "incomplete" => false,
    };
    let json =
        object! { "metadata" => Json::object(), "spec" => Json::object(), "status" => status };
    Ok(created(kind, &json))
}

fn who_am_i(request: &Incoming<'_>, kind: &Kind) -> Answer {
    let mut groups = Vec::new();
    if let Some(rest) = request.user.strip_prefix("system:serviceaccount:") {
        let namespace = rest.split(':').next().unwrap_or_default();
        groups.push(Json::from("system:serviceaccounts"));
        groups.push(Json::from(format!("system:serviceaccounts:{namespace}")));
    }
    groups.push(Json::from("system:authenticated"));
    let user = object! { "username" => request.user.as_str(), "groups" => groups };
    let json = object! {
        "metadata" => object! { "creationTimestamp" => metadata::now() }, "status" => object! { "userInfo" => user },
    };
    created(kind, &json)
}

fn created(kind: &Kind, json: &Json) -> Answer {
    let mut out =
        object! { "kind" => kind.name.as_str(), "apiVersion" => kind.api_version.as_str() };
    for (name, value) in json.fields() {
        out.set(name, value.clone());
    }
    Answer::json(201, &out)
}

fn read(request: &mut Incoming<'_>) -> Result<Json, Status> {
    let body = request.read_body()?;
    Json::parse(&body).map_err(|error| Status::bad_request(crate::patch::parse_error(&error)))
}
