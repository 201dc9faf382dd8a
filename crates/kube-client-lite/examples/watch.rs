//! Prints the cluster's events as they happen, until it is stopped.
//!
//!     cargo run --example watch [KUBECONFIG]

use kube_client_lite::{
    Client, Config, Error, KubeconfigOptions, ListParams, Resource, Visitor, WatchEvent,
    WatchParams,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

const EVENTS: Resource = Resource::new("", "v1", "events");

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Event {
    involved_object: Object,
    reason: String,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Object {
    kind: String,
    namespace: String,
    name: String,
}

/// Of the list only its resourceVersion is wanted: the place to watch from.
struct Nothing;

impl Visitor for Nothing {
    type Item<'de> = IgnoredAny;
    fn item(&mut self, _: IgnoredAny) {}
    fn restart(&mut self) {}
    fn malformed(&mut self, _: &serde_json::Error) {}
}

fn main() -> Result<(), Error> {
    let options = KubeconfigOptions {
        path: std::env::args_os().nth(1).map(Into::into),
        context: None,
    };
    let client = Client::new(Config::infer(&options)?)?;
    let events = client.api(EVENTS);
    let now = || -> Result<String, Error> {
        let meta = events.list(&ListParams::default().metadata_only(), &mut Nothing)?;
        Ok(meta.resource_version)
    };
    let mut watch = events.watch(WatchParams::default().from(&now()?))?;
    loop {
        match watch.next::<Event>() {
            Ok(WatchEvent::Added(event) | WatchEvent::Modified(event)) => {
                let Object {
                    kind,
                    namespace,
                    name,
                } = event.involved_object;
                println!(
                    "{kind} {namespace}/{name}: {}: {}",
                    event.reason, event.message
                );
            }
            // Changes were lost: go on from now.
            Ok(WatchEvent::Expired) => watch.resume_from(&now()?),
            Ok(_) => {}
            Err(error) if error.is_forbidden() || error.is_unauthorized() => return Err(error),
            // The next call waits a while and connects again.
            Err(error) => eprintln!("{error}"),
        }
    }
}
