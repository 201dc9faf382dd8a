//! Writing a ConfigMap by server-side apply, so that the agent owns its fields and nothing else.

use std::collections::BTreeMap;
use std::fmt;

use base64::display::Base64Display;
use base64::engine::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube_client_lite::{ApplyMeta, ApplyParams, Client, Error, Resource};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(crate) const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

const FIELD_MANAGER: &str = "kube9-operator";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: ApplyMeta<'a>,
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "map")]
    data: &'a [(&'a str, &'a str)],
    #[serde(skip_serializing_if = "<[_]>::is_empty", serialize_with = "map")]
    binary_data: &'a [(&'a str, Base64<'a>)],
}

/// A ConfigMap as it is read back.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stored {
    #[serde(default)]
    pub(crate) data: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) binary_data: BTreeMap<String, Bytes>,
}

/// A value of `binaryData`.
pub(crate) struct Bytes(pub(crate) Vec<u8>);

/// Creates or updates one of the agent's ConfigMaps, whoever wrote its fields before.
pub(crate) fn apply(
    client: &Client,
    namespace: &str,
    name: &str,
    component: &str,
    data: &[(&str, &str)],
) -> Result<(), Error> {
    apply_content(client, namespace, name, component, data, &[])
}

/// The same for one that holds what is no text.
pub(crate) fn apply_binary(
    client: &Client,
    namespace: &str,
    name: &str,
    component: &str,
    (key, bytes): (&str, &[u8]),
) -> Result<(), Error> {
    let binary_data = [(key, Base64(bytes))];
    apply_content(client, namespace, name, component, &[], &binary_data)
}

fn apply_content(
    client: &Client,
    namespace: &str,
    name: &str,
    component: &str,
    data: &[(&str, &str)],
    binary_data: &[(&str, Base64<'_>)],
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
        data,
        binary_data,
    };
    let params = ApplyParams::new(FIELD_MANAGER).force();
    let config_maps = client.api(CONFIG_MAPS).namespace(namespace);
    // The answer of the usual kind would be as large as the ConfigMap.
    config_maps.apply_for_metadata(name, &params, &config_map)?;
    Ok(())
}

/// Reads one of the agent's ConfigMaps.
pub(crate) fn read(client: &Client, namespace: &str, name: &str) -> Result<Stored, Error> {
    client.api(CONFIG_MAPS).namespace(namespace).get(name)
}

/// Removes one of the agent's ConfigMaps, if it is there.
pub(crate) fn remove(client: &Client, namespace: &str, name: &str) -> Result<(), Error> {
    match client.api(CONFIG_MAPS).namespace(namespace).delete(name) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Bytes as the API server takes them. They are encoded on the way out, not beside the original.
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                STANDARD.decode(text).map(Bytes).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn map<S: Serializer, V: Serialize>(
    entries: &&[(&str, V)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(entries.iter().map(|(key, value)| (key, value)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
pub(super) mod tests {
    use kube_client_lite::KubeconfigOptions;
    use kube_client_lite::config::Timeouts;
    use kube_sim::{Options, Sim};

    use super::*;

    pub(crate) fn client(sim: &Sim) -> Client {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kubeconfig");
        std::fs::write(&path, sim.kubeconfig()).unwrap();
        let options = KubeconfigOptions {
            path: Some(path),
            context: None,
        };
        crate::agent::client(&options, Timeouts::default()).unwrap()
    }

    #[test]
    fn bytes_and_texts_replace_each_other() {
        let sim = Sim::start(Options::default()).unwrap();
        let client = client(&sim);
        let bytes: Vec<u8> = (0..=255).collect();
        apply_binary(&client, "default", "a", "x", ("k", &bytes)).unwrap();
        let stored = read(&client, "default", "a").unwrap();
        assert_eq!(stored.binary_data["k"].0, bytes);
        assert!(stored.data.is_empty());
        apply(&client, "default", "a", "x", &[("k", "v")]).unwrap();
        let stored = read(&client, "default", "a").unwrap();
        assert_eq!(stored.data["k"], "v");
        assert!(stored.binary_data.is_empty());
    }

    #[test]
    fn what_is_not_there_is_removed_already() {
        let sim = Sim::start(Options::default()).unwrap();
        let client = client(&sim);
        apply(&client, "default", "a", "x", &[("k", "v")]).unwrap();
        for _ in 0..2 {
            remove(&client, "default", "a").unwrap();
            assert!(read(&client, "default", "a").err().unwrap().is_not_found());
        }
        assert!(remove(&client, "default", "a/b").is_err());
    }
}
