//! The handful of metadata types every caller needs. Views of whole kinds are the caller's to write.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The commonly needed part of an object's metadata.
///
/// Kubernetes: [ObjectMeta](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/object-meta/).
/// `managedFields` is left out on purpose: it is often the larger half of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ObjectMeta {
    /// The object's name, unique among its kind in its namespace.
    pub name: String,
    /// The namespace, absent for cluster-scoped objects.
    pub namespace: Option<String>,
    /// Set by the server, unique in space and time.
    pub uid: String,
    /// Opaque; changes with every change of the object.
    pub resource_version: String,
    /// RFC 3339, seconds, as the server wrote it.
    pub creation_timestamp: Option<String>,
    /// Set while the object is being deleted.
    pub deletion_timestamp: Option<String>,
    /// Labels; `null` is read as none.
    #[serde(deserialize_with = "null_as_default")]
    pub labels: BTreeMap<String, String>,
    /// Annotations; `null` is read as none.
    #[serde(deserialize_with = "null_as_default")]
    pub annotations: BTreeMap<String, String>,
    /// What this object belongs to; `null` is read as nothing.
    #[serde(deserialize_with = "null_as_default")]
    pub owner_references: Vec<OwnerReference>,
}

/// An owner of an object, in the same namespace or without one.
///
/// Kubernetes: [Owners and Dependents](https://kubernetes.io/docs/concepts/overview/working-with-objects/owners-dependents/).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct OwnerReference {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// The owner's name.
    pub name: String,
    /// The owner's UID: another object of the same name is not the owner.
    pub uid: String,
    /// Whether it manages the object; of one owner at most.
    pub controller: bool,
}

impl ObjectMeta {
    /// The one owner that manages this object, if there is one.
    #[must_use]
    pub fn controller(&self) -> Option<&OwnerReference> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

impl OwnerReference {
    /// Whether the owner is of this API group and kind, in whatever version.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        let group_of = self
            .api_version
            .split_once('/')
            .map_or("", |(group, _)| group);
        self.kind == kind && group_of == group
    }
}

/// An object of which only the metadata is wanted: one item of a `PartialObjectMetadataList`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PartialObjectMetadata {
    /// The object's metadata.
    pub metadata: ObjectMeta,
}

/// The metadata of a list.
///
/// Kubernetes: [API concepts, retrieving large results sets in chunks](https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ListMeta {
    /// The snapshot the list shows, the place to start a watch from.
    pub resource_version: String,
    /// Token for the next page, absent or empty on the last.
    #[serde(rename = "continue")]
    pub continue_token: Option<String>,
    /// How many objects follow this page; absent on the last page and with a selector.
    pub remaining_item_count: Option<u64>,
}

/// The body of most error answers.
///
/// Kubernetes: [Status](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/).
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Status {
    /// The HTTP status once more.
    pub code: u16,
    /// A sentence for people.
    pub message: String,
    /// A word for programs, such as `NotFound`; may be empty.
    pub reason: String,
    /// What the error is about.
    #[serde(deserialize_with = "null_as_default")]
    pub details: StatusDetails,
}

/// What a [`Status`] is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct StatusDetails {
    /// The object's name.
    pub name: String,
    /// The API group.
    pub group: String,
    /// The resource's plural name (or, in rare answers, the kind).
    pub kind: String,
    /// One entry a cause: conflicting fields, invalid values.
    #[serde(deserialize_with = "null_as_default")]
    pub causes: Vec<StatusCause>,
    /// When to try again, in seconds.
    pub retry_after_seconds: Option<u32>,
}

/// One cause in [`StatusDetails`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct StatusCause {
    /// A word for programs, such as `FieldManagerConflict`.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// The path of the field in question.
    pub field: String,
}

/// The answer of `GET /version`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct Version {
    /// Such as `v1.36.2`, with vendor suffixes where there are any.
    pub git_version: String,
    /// Major number as text.
    pub major: String,
    /// Minor number as text; some vendors append `+`.
    pub minor: String,
    /// Such as `linux/amd64`.
    pub platform: String,
}

/// What one group-version serves: the answer of `GET /apis/GROUP/VERSION`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[non_exhaustive]
pub struct ApiResourceList {
    /// Such as `apps/v1`.
    pub group_version: String,
    /// Resources and subresources (`pods/log`).
    #[serde(deserialize_with = "null_as_default")]
    pub resources: Vec<ApiResource>,
}

/// One resource of an [`ApiResourceList`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ApiResource {
    /// Plural name; subresources have a slash in it.
    pub name: String,
    /// Such as `Pod`.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// What can be done with it: `get`, `list`, `watch`, ...
    #[serde(deserialize_with = "null_as_default")]
    pub verbs: Vec<String>,
}

/// The metadata to send when applying or creating an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ApplyMeta<'a> {
    /// The object's name.
    pub name: &'a str,
    /// The namespace, for namespaced objects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<&'a str>,
    /// Labels this field manager owns.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<&'a str, &'a str>,
}

/// Go writes an empty map or slice as `null` in places; both mean empty.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_empty() {
        let meta: ObjectMeta =
            serde_json::from_str(r#"{"name":"a","labels":null,"annotations":null}"#).unwrap();
        assert!(meta.labels.is_empty() && meta.controller().is_none());
        let status: Status = serde_json::from_str(r#"{"code":403,"details":null}"#).unwrap();
        assert_eq!(status.details, StatusDetails::default());
    }

    #[test]
    fn the_controller_is_the_owner_that_manages() {
        let meta: ObjectMeta = serde_json::from_str(
            r#"{"ownerReferences":[
                {"apiVersion":"v1","kind":"ConfigMap","name":"a","uid":"1"},
                {"apiVersion":"batch/v1","kind":"Job","name":"b","uid":"2","controller":true}]}"#,
        )
        .unwrap();
        let controller = meta.controller().unwrap();
        assert_eq!(controller.name, "b");
        assert!(controller.is("batch", "Job") && !controller.is("", "Job"));
        assert!(!controller.is("batch.volcano.sh", "Job"));
    }
}
