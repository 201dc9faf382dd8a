//! The recorded cluster: the answers of a real server, taken apart into objects.

use crate::json::{Json, object};
use crate::kinds;
use crate::metadata::{mix, uuid_of};
use crate::store::{Object, Store};

/// The resourceVersion of the recorded lists.
const REVISION: u64 = 3398;

macro_rules! recorded {
    ($($group:literal $plural:literal $file:literal,)*) => {
        [$(($group, $plural, &include_bytes!(concat!("../recorded/", $file, ".json"))[..])),*]
    };
}

/// Fills a store with the recorded cluster.
pub(crate) fn store() -> Store {
    let lists = recorded![
        "" "nodes" "nodes",
        "" "namespaces" "namespaces",
        "" "pods" "pods",
        "apps" "deployments" "deployments",
        "apps" "statefulsets" "statefulsets",
        "apps" "daemonsets" "daemonsets",
        "apps" "replicasets" "replicasets",
        "batch" "jobs" "jobs",
        "batch" "cronjobs" "cronjobs",
        "" "services" "services",
        "" "persistentvolumeclaims" "persistentvolumeclaims",
        "" "persistentvolumes" "persistentvolumes",
        "networking.k8s.io" "ingresses" "ingresses",
        "networking.k8s.io" "networkpolicies" "networkpolicies",
        "autoscaling" "horizontalpodautoscalers" "horizontalpodautoscalers",
        "policy" "poddisruptionbudgets" "poddisruptionbudgets",
        "" "resourcequotas" "resourcequotas",
        "" "limitranges" "limitranges",
        "" "events" "events",
        "storage.k8s.io" "storageclasses" "storageclasses",
        "rbac.authorization.k8s.io" "rolebindings" "rolebindings",
        "rbac.authorization.k8s.io" "clusterroles" "clusterroles",
        "" "serviceaccounts" "serviceaccounts",
        "" "configmaps" "configmaps-metadata",
        "" "configmaps" "configmaps-with-data",
        "metrics.k8s.io" "nodes" "node-metrics",
        "metrics.k8s.io" "pods" "pod-metrics",
    ];
    let mut store = Store::new(REVISION);
    for (group, plural, text) in lists {
        let list = Json::parse(text).expect("the recorded lists are JSON");
        for item in list.get("items").map(Json::items).unwrap_or_default() {
            store.load(&kinds::collection(group, plural), Object::new(item.clone()));
        }
    }
    store
}

/// A store with nothing but the namespaces of a new cluster.
pub(crate) fn empty(seed: u64) -> Store {
    let mut store = Store::new(1000);
    for (number, name) in (1_u64..).zip([
        "default",
        "kube-node-lease",
        "kube-public",
        "kube-system",
        "kube9-system",
    ]) {
        store.load(
            "namespaces",
            Object::new(namespace(name, mix(seed ^ mix(number)))),
        );
    }
    store
}

/// A namespace that is in use.
pub(crate) fn namespace(name: &str, seed: u64) -> Json {
    object! {
        "metadata" => object! {
            "name" => name, "uid" => uuid_of(mix(seed), mix(seed ^ 1)), "resourceVersion" => "9",
            "creationTimestamp" => "2026-01-05T08:00:00Z",
            "labels" => object! { "kubernetes.io/metadata.name" => name },
        },
        "spec" => object! { "finalizers" => vec![Json::from("kubernetes")] },
        "status" => object! { "phase" => "Active" },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_byte_for_byte_those_of_the_server() {
        for text in [
            &include_bytes!("../recorded/pods.json")[..],
            include_bytes!("../recorded/deployments.json"),
            include_bytes!("../recorded/events.json"),
            include_bytes!("../recorded/nodes.json"),
            include_bytes!("../recorded/services.json"),
        ] {
            let json = Json::parse(text).unwrap();
            let mut written = json.to_bytes();
            written.push(b'\n');
            assert!(
                written == text,
                "{}",
                String::from_utf8_lossy(&written[..200])
            );
        }
    }

    #[test]
    fn events_have_their_newer_form() {
        let old = Json::parse(include_bytes!("../recorded/events.json")).unwrap();
        let new = Json::parse(include_bytes!("../recorded/events-events-k8s-io.json")).unwrap();
        let items = |json: &Json| json.get("items").unwrap().items().to_vec();
        for (old, new) in items(&old).iter().zip(items(&new)) {
            let made = crate::events::to_new(&old.to_bytes());
            assert_eq!(
                String::from_utf8(made).unwrap(),
                String::from_utf8(new.to_bytes()).unwrap()
            );
            assert_eq!(crate::events::normalise(&new), *old);
        }
    }
}
