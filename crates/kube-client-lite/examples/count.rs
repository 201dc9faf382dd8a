//! Counts the pods of each namespace, in the memory of one page of the list.
//!
//!     cargo run --example count [KUBECONFIG]

use std::borrow::Cow;
use std::collections::BTreeMap;

use kube_client_lite::{Client, Config, Error, KubeconfigOptions, ListParams, Resource, Visitor};
use serde::Deserialize;

const PODS: Resource = Resource::new("", "v1", "pods");

/// Of a pod only this is parsed, and borrowed from the page.
#[derive(Deserialize)]
struct Pod<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    namespace: Cow<'a, str>,
}

#[derive(Default)]
struct Namespaces(BTreeMap<String, u64>);

impl Visitor for Namespaces {
    type Item<'de> = Pod<'de>;

    fn item(&mut self, pod: Pod<'_>) {
        match self.0.get_mut(pod.metadata.namespace.as_ref()) {
            Some(count) => *count += 1,
            None => drop(self.0.insert(pod.metadata.namespace.into_owned(), 1)),
        }
    }

    fn restart(&mut self) {
        self.0.clear();
    }

    fn malformed(&mut self, error: &serde_json::Error) {
        eprintln!("passed over a pod: {error}");
    }
}

fn main() -> Result<(), Error> {
    let options = KubeconfigOptions {
        path: std::env::args_os().nth(1).map(Into::into),
        context: None,
    };
    let client = Client::new(Config::infer(&options)?)?;
    let mut namespaces = Namespaces::default();
    client
        .api(PODS)
        .list(&ListParams::default(), &mut namespaces)?;
    for (namespace, count) in namespaces.0 {
        println!("{count:8} {namespace}");
    }
    Ok(())
}
