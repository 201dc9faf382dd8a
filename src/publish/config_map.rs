//! Writing a ConfigMap by server-side apply, so that the agent owns its fields and nothing else.

use std::collections::BTreeMap;

use kube_client_lite::{ApplyMeta, ApplyParams, Client, Error, Resource};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

pub(crate) const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

const FIELD_MANAGER: &str = "kube9-operator";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ApplyMeta<'a>,
    data: BTreeMap<&'a str, &'a str>,
}

/// A ConfigMap as it is read back.
#[derive(Deserialize)]
pub(crate) struct Stored {
    #[serde(default)]
    pub(crate) data: BTreeMap<String, String>,
}

/// Creates or updates one of the agent's ConfigMaps, whoever wrote its fields before.
pub(crate) fn apply<const N: usize>(
    client: &Client,
    namespace: &str,
    name: &str,
    component: &str,
    data: [(&str, &str); N],
) -> Result<(), Error> {
    let labels = BTreeMap::from([
        ("app.kubernetes.io/component", component),
        ("app.kubernetes.io/managed-by", "kube9-operator"),
        ("app.kubernetes.io/name", "kube9-operator"),
    ]);
    let config_map = ConfigMap {
        api_version: "v1",
        kind: "ConfigMap",
        metadata: ApplyMeta {
            name,
            namespace: Some(namespace),
            labels,
        },
        data: BTreeMap::from(data),
    };
    let params = ApplyParams::new(FIELD_MANAGER).force();
    client
        .api(CONFIG_MAPS)
        .namespace(namespace)
        .apply::<IgnoredAny>(name, &params, &config_map)?;
    Ok(())
}

/// Reads one of the agent's ConfigMaps.
pub(crate) fn read(client: &Client, namespace: &str, name: &str) -> Result<Stored, Error> {
    client.api(CONFIG_MAPS).namespace(namespace).get(name)
}
