//! Keeps a ConfigMap by server-side apply; a second run changes nothing.
//!
//!     cargo run --example apply [KUBECONFIG]

use std::collections::BTreeMap;

use kube_client_lite::{
    ApplyMeta, ApplyParams, Client, Config, Error, KubeconfigOptions, PartialObjectMetadata,
    Resource,
};
use serde::Serialize;

const CONFIG_MAPS: Resource = Resource::new("", "v1", "configmaps");

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ConfigMap<'a> {
    api_version: &'a str,
    kind: &'a str,
    metadata: ApplyMeta<'a>,
    data: BTreeMap<&'a str, &'a str>,
}

fn main() -> Result<(), Error> {
    let options = KubeconfigOptions {
        path: std::env::args_os().nth(1).map(Into::into),
        context: None,
    };
    let config = Config::infer(&options)?;
    let namespace = config.namespace.clone().unwrap_or("default".to_owned());
    let client = Client::new(config)?;

    let settings = ConfigMap {
        api_version: "v1",
        kind: "ConfigMap",
        metadata: ApplyMeta {
            name: "example-settings",
            labels: BTreeMap::from([("app.kubernetes.io/managed-by", "example")]),
            ..ApplyMeta::default()
        },
        data: BTreeMap::from([("colour", "green")]),
    };
    let applied: PartialObjectMetadata = client.api(CONFIG_MAPS).namespace(&namespace).apply(
        "example-settings",
        &ApplyParams::new("example"),
        &settings,
    )?;
    println!(
        "{namespace}/{} is at {}",
        applied.metadata.name, applied.metadata.resource_version
    );
    Ok(())
}
