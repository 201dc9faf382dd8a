//! Role-based access control: who may do what, and how a refusal is worded.
//!
//! See <https://kubernetes.io/docs/reference/access-authn-authz/rbac/>. Rules belong to a user directly; roles and
//! bindings as objects have no effect here.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::request::Info;
use crate::status::{Status, qualified, quote};

/// What a user may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rbac {
    /// Everything, as `cluster-admin`.
    #[default]
    AllowAll,
    /// What the rules say, and what everybody may: `/version`, the health paths, discovery, access reviews.
    Rules(Vec<PolicyRule>),
}

/// A rule of a `ClusterRole`, or, with a namespace, of a `Role` there. The fields are those of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRule {
    /// The namespace of the Role; `None` is a `ClusterRole`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// `*` is all.
    pub verbs: Vec<String>,
    /// The core group is the empty string; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub api_groups: Vec<String>,
    /// Plurals, `pods/log` for a subresource; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Empty is all names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource_names: Vec<String>,
    /// Paths, perhaps with `*` at the end.
    #[serde(skip_serializing_if = "Vec::is_empty", rename = "nonResourceURLs")]
    pub non_resource_urls: Vec<String>,
}

/// What somebody wants to do: the attributes of an access review.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Set for a path that is no resource.
    pub(crate) path: Option<String>,
}

/// The user of a request without credentials.
pub(crate) const ANONYMOUS: &str = "system:anonymous";

impl PolicyRule {
    /// A rule for resources of one group.
    #[must_use]
    pub fn new(group: &str, resources: &[&str], verbs: &[&str]) -> Self {
        let owned = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
        Self {
            verbs: owned(verbs),
            api_groups: vec![group.to_owned()],
            resources: owned(resources),
            ..Self::default()
        }
    }

    /// The rule in one namespace only.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Reads rules: a list of rules, or of `ClusterRole` and Role objects, or one such object, or a List of them.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(json: &Value) -> Result<Vec<Self>, serde_json::Error> {
        if let Some(items) = json
            .as_array()
            .or_else(|| json.get("items").and_then(Value::as_array))
        {
            let mut rules = Vec::new();
            for item in items {
                rules.extend(Self::parse(item)?);
            }
            return Ok(rules);
        }
        let Some(list) = json.get("rules") else {
            return Ok(vec![serde_json::from_value(json.clone())?]);
        };
        let mut rules: Vec<Self> = serde_json::from_value(list.clone())?;
        if json.get("kind").and_then(Value::as_str) == Some("Role") {
            let namespace = json
                .pointer("/metadata/namespace")
                .and_then(Value::as_str)
                .unwrap_or("default");
            for rule in &mut rules {
                rule.namespace = Some(namespace.to_owned());
            }
        }
        Ok(rules)
    }

    fn allows(&self, wanted: &Attributes) -> bool {
        let has =
            |list: &[String], word: &str| list.iter().any(|entry| entry == "*" || entry == word);
        if !has(&self.verbs, &wanted.verb) {
            return false;
        }
        if let Some(path) = &wanted.path {
            return self.namespace.is_none()
                && self
                    .non_resource_urls
                    .iter()
                    .any(|url| match url.strip_suffix('*') {
                        Some(prefix) => path.starts_with(prefix),
                        None => url == path,
                    });
        }
        let resource = match wanted.subresource.as_str() {
            "" => wanted.resource.clone(),
            subresource => format!("{}/{subresource}", wanted.resource),
        };
        let any_of_subresource = format!("*/{}", wanted.subresource);
        self.namespace
            .as_ref()
            .is_none_or(|namespace| *namespace == wanted.namespace)
            && has(&self.api_groups, &wanted.group)
            && (has(&self.resources, &resource)
                || (!wanted.subresource.is_empty() && self.resources.contains(&any_of_subresource)))
            && (self.resource_names.is_empty() || self.resource_names.contains(&wanted.name))
    }
}

impl Rbac {
    /// Whether the user may do it. `AllowAll` does not make HEAD possible, nor does it make anybody anonymous known.
    pub(crate) fn allows(&self, user: &str, wanted: &Attributes) -> bool {
        if may_everybody(user, wanted) {
            return true;
        }
        match self {
            _ if user == ANONYMOUS => false,
            Rbac::AllowAll => wanted.verb != "head",
            Rbac::Rules(rules) => rules.iter().any(|rule| rule.allows(wanted)),
        }
    }
}

impl Attributes {
    /// What a request wants.
    pub(crate) fn of(info: &Info) -> Self {
        match &info.target {
            Some(target) => Self {
                verb: info.verb.clone(),
                group: target.group.clone(),
                resource: target.resource.clone(),
                subresource: target.subresource.clone(),
                namespace: target.namespace.clone(),
                name: target.name.clone(),
                path: None,
            },
            None => Self {
                verb: info.verb.clone(),
                path: Some(info.path.clone()),
                ..Self::default()
            },
        }
    }

    /// The refusal.
    pub(crate) fn forbidden(&self, user: &str) -> Status {
        let user = quote(user);
        if let Some(path) = &self.path {
            let why = format!("User {user} cannot {} path {}", self.verb, quote(path));
            return Status::new(403, "Forbidden", format!("forbidden: {why}"))
                .with_details(crate::json::Json::object())
                .unauthorized_user();
        }
        let resource = match self.subresource.as_str() {
            "" => self.resource.clone(),
            subresource => format!("{}/{subresource}", self.resource),
        };
        let place = match self.namespace.as_str() {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {}", quote(namespace)),
        };
        let why = format!(
            "User {user} cannot {} resource {} in API group {} {place}",
            self.verb,
            quote(&resource),
            quote(&self.group)
        );
        Status::forbidden(&self.group, &self.resource, &self.name, &why).unauthorized_user()
    }

    /// The name of the resource with its group.
    pub(crate) fn qualified(&self) -> String {
        qualified(&self.group, &self.resource)
    }
}

/// What `system:public-info-viewer`, `system:discovery` and `system:basic-user` give to everybody.
fn may_everybody(user: &str, wanted: &Attributes) -> bool {
    if let Some(path) = &wanted.path {
        let public =
            ["/healthz", "/livez", "/readyz", "/version", "/version/"].contains(&path.as_str());
        let known = user != ANONYMOUS
            && (["/api", "/apis", "/openapi"].contains(&path.as_str())
                || ["/api/", "/apis/", "/openapi/"]
                    .iter()
                    .any(|prefix| path.starts_with(prefix)));
        return wanted.verb == "get" && (public || known);
    }
    user != ANONYMOUS
        && wanted.verb == "create"
        && matches!(
            wanted.qualified().as_str(),
            "selfsubjectaccessreviews.authorization.k8s.io"
                | "selfsubjectrulesreviews.authorization.k8s.io"
                | "selfsubjectreviews.authentication.k8s.io"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(verb: &str, resource: &str, namespace: &str) -> Attributes {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        Attributes {
            verb: verb.to_owned(),
            resource: resource.to_owned(),
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            ..Attributes::default()
        }
    }

    #[test]
    fn rules_allow_what_they_say_and_nothing_more() {
        let rbac = Rbac::Rules(vec![
            PolicyRule::new("", &["pods", "pods/log"], &["get", "list"]),
            PolicyRule::new("", &["configmaps"], &["*"]).in_namespace("here"),
        ]);
        let allows = |verb: &str, resource: &str, namespace: &str| {
            rbac.allows("u", &wanted(verb, resource, namespace))
        };
        assert!(
            allows("list", "pods", "")
                && allows("get", "pods/log", "x")
                && allows("patch", "configmaps", "here")
        );
        assert!(!allows("watch", "pods", "") && !allows("get", "pods/exec", "x"));
        assert!(!allows("get", "configmaps", "there") && !allows("list", "configmaps", ""));
    }

    #[test]
    fn reads_roles() {
        let json = serde_json::json!([
            {"kind": "ClusterRole", "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]},
            {"kind": "Role", "metadata": {"namespace": "x"},
             "rules": [{"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["get"]}]},
            {"nonResourceURLs": ["/metrics"], "verbs": ["get"]}
        ]);
        let rules = PolicyRule::parse(&json).unwrap();
        assert_eq!(rules.len(), 3);
        assert_eq!(rules[1].namespace.as_deref(), Some("x"));
        assert_eq!(rules[2].non_resource_urls, ["/metrics"]);
    }
}
