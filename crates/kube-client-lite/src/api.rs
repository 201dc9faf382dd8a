//! The verbs on one kind of object.

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::client::{Accept, Call, Client, Content};
use crate::list::{ListParams, Visitor};
use crate::meta::{ListMeta, PartialObjectMetadata, null_as_default};
use crate::resource::{Query, Resource};
use crate::watch::{Watch, WatchParams};
use crate::{Error, list};

/// The largest answer read for one object: etcd refuses objects over 1.5 MiB, the API server
/// requests over 3 MiB.
const MAX_OBJECT: u64 = 4 << 20;

/// The verbs on one [`Resource`], in one namespace or in all.
///
/// ```no_run
/// use kube_client_lite::{ApplyParams, Client, Config, KubeconfigOptions, Resource};
/// use serde::Deserialize;
///
/// const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");
///
/// #[derive(Deserialize)]
/// struct ConfigMap {
///     #[serde(default)]
///     data: std::collections::BTreeMap<String, String>,
/// }
///
/// let client = Client::new(Config::infer(&KubeconfigOptions::default())?)?;
/// let maps = client.api(CONFIG_MAPS).namespace("default");
/// let map: ConfigMap = maps.get("settings")?;
/// println!("{} keys", map.data.len());
///
/// let _: serde_json::Value = maps.apply(
///     "settings",
///     &ApplyParams::new("my-tool").force(),
///     &serde_json::json!({
///         "apiVersion": "v1", "kind": "ConfigMap",
///         "metadata": {"name": "settings"},
///         "data": {"colour": "green"},
///     }),
/// )?;
/// # Ok::<(), kube_client_lite::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    resource: Resource,
    namespace: Option<String>,
}

/// How to apply. Kubernetes: [Server-Side Apply](https://kubernetes.io/docs/reference/using-api/server-side-apply/).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApplyParams<'a> {
    field_manager: &'a str,
    force: bool,
}

/// A change to an object, in one of the three forms the API server takes.
///
/// Kubernetes: [patch types](https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply).
#[derive(Debug)]
#[non_exhaustive]
pub enum Patch<'a, B> {
    /// A list of operations, RFC 6902.
    Json(&'a B),
    /// RFC 7386: `null` removes a field.
    Merge(&'a B),
    /// Merges lists by their keys; built-in kinds only.
    StrategicMerge(&'a B),
}

impl<'a> ApplyParams<'a> {
    /// Applies as `field_manager` (1 to 128 characters), giving way to other managers' fields.
    #[must_use]
    pub const fn new(field_manager: &'a str) -> Self {
        Self {
            field_manager,
            force: false,
        }
    }

    /// Takes over fields that other managers own.
    #[must_use]
    pub const fn force(mut self) -> Self {
        self.force = true;
        self
    }
}

impl Api {
    pub(crate) fn new(client: Client, resource: Resource) -> Self {
        Self {
            client,
            resource,
            namespace: None,
        }
    }

    /// Narrows to one namespace.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// The resource this works on.
    #[must_use]
    pub fn resource(&self) -> Resource {
        self.resource
    }

    /// Reads one object.
    ///
    /// # Errors
    /// 404 when there is none; see [`Error`].
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<T, Error> {
        let path = self.object_path(name)?;
        self.client.fetch(&Call::read("get", path), MAX_OBJECT)
    }

    /// Reads only the metadata of one object.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn get_metadata(&self, name: &str) -> Result<PartialObjectMetadata, Error> {
        let mut call = Call::read("get", self.object_path(name)?);
        call.accept = Accept::Metadata;
        self.client.fetch(&call, MAX_OBJECT)
    }

    /// Hands every object of a list to `visitor`, page by page, with memory for one page only.
    ///
    /// The pages are of one snapshot. When it expires in the middle (410) the list starts over,
    /// at most three times, after [`Visitor::restart`].
    ///
    /// # Errors
    /// See [`Error`]; a 410 only after the third restart.
    pub fn list<V: Visitor>(
        &self,
        params: &ListParams,
        visitor: &mut V,
    ) -> Result<ListMeta, Error> {
        list::run(&self.client, &self.collection_path()?, params, visitor)
    }

    /// Collects a list. For lists known to be small; [`list`](Self::list) has no such limit.
    ///
    /// # Errors
    /// As [`list`](Self::list); an object that does not parse is [`Error::Decode`].
    pub fn list_all<T: DeserializeOwned>(&self, params: &ListParams) -> Result<Vec<T>, Error> {
        list::collect(&self.client, &self.collection_path()?, params)
    }

    /// Counts the objects of the collection with one request for one object's metadata.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn count(&self) -> Result<u64, Error> {
        #[derive(serde::Deserialize)]
        struct Page {
            #[serde(default)]
            metadata: ListMeta,
            // Not optional: what is no list must not count as an empty one.
            #[serde(deserialize_with = "null_as_default")]
            items: Vec<IgnoredAny>,
        }

        let mut query = Query::new(self.collection_path()?);
        query.add("limit", "1");
        let mut call = Call::read("list", query.finish());
        call.accept = Accept::MetadataList;
        let page: Page = self.client.fetch(&call, MAX_OBJECT)?;
        let listed = page.items.len() as u64;
        match (
            page.metadata.remaining_item_count,
            page.metadata.continue_token,
        ) {
            (Some(remaining), _) => Ok(listed.saturating_add(remaining)),
            (None, Some(token)) if !token.is_empty() => self.count_by_walking(),
            (None, _) => Ok(listed),
        }
    }

    /// For servers that do not say how many remain.
    fn count_by_walking(&self) -> Result<u64, Error> {
        struct Counter(u64);
        impl Visitor for Counter {
            type Item<'de> = IgnoredAny;
            fn item(&mut self, _: IgnoredAny) {
                self.0 = self.0.saturating_add(1);
            }
            fn restart(&mut self) {
                self.0 = 0;
            }
            fn malformed(&mut self, _: &serde_json::Error) {}
        }

        let mut counter = Counter(0);
        self.list(&ListParams::default().metadata_only(), &mut counter)?;
        Ok(counter.0)
    }

    /// Creates an object.
    ///
    /// # Errors
    /// 409 with reason `AlreadyExists` when there is one of that name; see [`Error`].
    pub fn create<T: DeserializeOwned>(
        &self,
        field_manager: &str,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        let mut query = Query::new(self.collection_path()?);
        query.add("fieldManager", field_manager);
        let call = Call::write("create", "POST", query.finish(), Content::Json);
        self.client.send_object(call, object, MAX_OBJECT)
    }

    /// Creates or updates an object by server-side apply: afterwards exactly the fields in
    /// `object` are owned by the field manager, and those it left out this time are removed.
    ///
    /// `object` needs `apiVersion` and `kind`, and must not have `managedFields`. Applying the
    /// same twice changes nothing. Creating needs the RBAC verbs `patch` and `create`.
    ///
    /// # Errors
    /// 409 with a `FieldManagerConflict` cause per field, unless forced; see [`Error`].
    pub fn apply<T: DeserializeOwned>(
        &self,
        name: &str,
        params: &ApplyParams<'_>,
        object: &impl Serialize,
    ) -> Result<T, Error> {
        let call = self.apply_call(name, params)?;
        self.client.send_object(call, object, MAX_OBJECT)
    }

    /// As [`apply`](Self::apply), answered by the metadata alone: a large object does not come
    /// back whole.
    ///
    /// # Errors
    /// As [`apply`](Self::apply).
    pub fn apply_for_metadata(
        &self,
        name: &str,
        params: &ApplyParams<'_>,
        object: &impl Serialize,
    ) -> Result<PartialObjectMetadata, Error> {
        let mut call = self.apply_call(name, params)?;
        call.accept = Accept::Metadata;
        self.client.send_object(call, object, MAX_OBJECT)
    }

    fn apply_call(&self, name: &str, params: &ApplyParams<'_>) -> Result<Call, Error> {
        let mut query = Query::new(self.object_path(name)?);
        query.add("fieldManager", params.field_manager);
        if params.force {
            query.add("force", "true");
        }
        let mut call = Call::write("apply", "PATCH", query.finish(), Content::ApplyPatch);
        call.repeatable = true;
        Ok(call)
    }

    /// Changes an object.
    ///
    /// # Errors
    /// 404 when there is none; see [`Error`].
    pub fn patch<T: DeserializeOwned, B: Serialize>(
        &self,
        name: &str,
        field_manager: &str,
        patch: &Patch<'_, B>,
    ) -> Result<T, Error> {
        let mut query = Query::new(self.object_path(name)?);
        query.add("fieldManager", field_manager);
        let (content, body) = match *patch {
            Patch::Json(body) => (Content::JsonPatch, body),
            Patch::Merge(body) => (Content::MergePatch, body),
            Patch::StrategicMerge(body) => (Content::StrategicMergePatch, body),
        };
        let call = Call::write("patch", "PATCH", query.finish(), content);
        self.client.send_object(call, body, MAX_OBJECT)
    }

    /// Deletes an object. With finalizers it is gone only some time later.
    ///
    /// # Errors
    /// 404 when there is none; see [`Error`].
    pub fn delete(&self, name: &str) -> Result<(), Error> {
        let mut call = Call::read("delete", self.object_path(name)?);
        call.method = "DELETE";
        // A second one might hit an object that was made again, or hide the first by a 404.
        call.repeatable = false;
        // The answer is the object, a Status, or nothing.
        self.client.fetch_into(&call, MAX_OBJECT, &mut Vec::new())
    }

    /// Watches the collection. No request is made before the first [`Watch::next`].
    ///
    /// # Errors
    /// [`Error::InvalidName`] for an impossible namespace.
    pub fn watch(&self, params: WatchParams) -> Result<Watch, Error> {
        Ok(Watch::new(
            self.client.clone(),
            self.collection_path()?,
            params,
        ))
    }

    fn collection_path(&self) -> Result<String, Error> {
        self.resource.collection_path(self.namespace.as_deref())
    }

    fn object_path(&self, name: &str) -> Result<String, Error> {
        self.resource.object_path(self.namespace.as_deref(), name)
    }
}
