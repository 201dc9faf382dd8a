//! Asking the server what one may do: `SelfSubjectAccessReview`.
//!
//! Kubernetes: [Checking API access](https://kubernetes.io/docs/reference/access-authn-authz/authorization/#checking-api-access).

use serde::{Deserialize, Serialize};

/// What to ask about. Empty strings mean: all namespaces, the core group, any name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ResourceAttributes<'a> {
    /// The namespace, empty for the cluster scope.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub namespace: &'a str,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    pub verb: &'a str,
    /// The API group, empty for core.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub group: &'a str,
    /// The plural name.
    pub resource: &'a str,
    /// The object's name, empty for any.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub name: &'a str,
}

/// The server's answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct AccessReview {
    /// Whether the caller may.
    pub allowed: bool,
    /// Why, when the server says.
    pub reason: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Review<'a> {
    api_version: &'static str,
    kind: &'static str,
    spec: Spec<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Spec<'a> {
    resource_attributes: &'a ResourceAttributes<'a>,
}

#[derive(Deserialize)]
pub(crate) struct ReviewAnswer {
    #[serde(default)]
    pub(crate) status: AccessReview,
}

impl<'a> Review<'a> {
    pub(crate) fn new(resource_attributes: &'a ResourceAttributes<'a>) -> Self {
        Self {
            api_version: "authorization.k8s.io/v1",
            kind: "SelfSubjectAccessReview",
            spec: Spec {
                resource_attributes,
            },
        }
    }
}
