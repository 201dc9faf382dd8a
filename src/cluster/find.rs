//! Whether what somebody names is there, and which namespace or workload it counts for.

use kube_client_lite::{Api, Client, Error, ObjectMeta, OwnerReference, Resource};

use super::WorkloadKind;
use super::kinds;

/// What kind of object somebody names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Namespace,
    Pod,
    Workload(WorkloadKind),
}

/// What the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A pod that counts for its namespace alone: it has no controller, or one of a kind that has
    /// no ids (`ReplicaSet web-5d9`).
    Bare {
        controller: Option<String>,
    },
    Missing,
    Namespace,
    /// The workload, or the one that the pod or the Job counts for.
    Workload(WorkloadKind, String),
}

/// Looks it up, with one request, or one for each step from a pod to its workload.
pub(crate) fn find(
    client: &Client,
    named: Named,
    namespace: &str,
    name: &str,
) -> Result<Found, Error> {
    match named {
        Named::Namespace => Ok(match metadata(&client.api(kinds::NAMESPACES), name)? {
            Some(_) => Found::Namespace,
            None => Found::Missing,
        }),
        Named::Pod => find_pod(client, namespace, name),
        Named::Workload(WorkloadKind::Job) => find_job(client, namespace, name),
        Named::Workload(kind) => {
            let there = metadata(&client.api(resource_of(kind)).namespace(namespace), name)?;
            Ok(there.map_or(Found::Missing, |_| Found::Workload(kind, name.to_owned())))
        }
    }
}

/// Pods never appear individually: one stands for what controls it.
fn find_pod(client: &Client, namespace: &str, name: &str) -> Result<Found, Error> {
    let Some(pod) = metadata(&client.api(kinds::PODS).namespace(namespace), name)? else {
        return Ok(Found::Missing);
    };
    let Some(owner) = pod.controller() else {
        return Ok(Found::Bare { controller: None });
    };
    let workload = |kind| Found::Workload(kind, owner.name.clone());
    if owner.is("apps", "ReplicaSet") {
        find_deployment(client, namespace, owner)
    } else if owner.is("apps", "StatefulSet") {
        Ok(workload(WorkloadKind::StatefulSet))
    } else if owner.is("apps", "DaemonSet") {
        Ok(workload(WorkloadKind::DaemonSet))
    } else if owner.is("batch", "Job") {
        find_job(client, namespace, &owner.name)
    } else {
        Ok(bare(owner))
    }
}

/// The Deployment of a pod's `ReplicaSet`.
fn find_deployment(
    client: &Client,
    namespace: &str,
    replica_set: &OwnerReference,
) -> Result<Found, Error> {
    let replica_sets = client.api(kinds::REPLICA_SETS).namespace(namespace);
    let found = metadata(&replica_sets, &replica_set.name)?;
    let deployment = found.as_ref().and_then(ObjectMeta::controller);
    Ok(match deployment {
        Some(owner) if owner.is("apps", "Deployment") => {
            Found::Workload(WorkloadKind::Deployment, owner.name.clone())
        }
        _ => bare(replica_set),
    })
}

/// A Job counts for its `CronJob`, if it is one's: its name lasts no longer than itself.
fn find_job(client: &Client, namespace: &str, name: &str) -> Result<Found, Error> {
    let Some(job) = metadata(&client.api(kinds::JOBS).namespace(namespace), name)? else {
        return Ok(Found::Missing);
    };
    Ok(match job.controller() {
        Some(owner) if owner.is("batch", "CronJob") => {
            Found::Workload(WorkloadKind::CronJob, owner.name.clone())
        }
        _ => Found::Workload(WorkloadKind::Job, name.to_owned()),
    })
}

fn bare(owner: &OwnerReference) -> Found {
    Found::Bare {
        controller: Some(format!("{} {}", owner.kind, owner.name)),
    }
}

fn metadata(api: &Api, name: &str) -> Result<Option<ObjectMeta>, Error> {
    match api.get_metadata(name) {
        Ok(object) => Ok(Some(object.metadata)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

const fn resource_of(kind: WorkloadKind) -> Resource {
    match kind {
        WorkloadKind::Deployment => kinds::DEPLOYMENTS,
        WorkloadKind::StatefulSet => kinds::STATEFUL_SETS,
        WorkloadKind::DaemonSet => kinds::DAEMON_SETS,
        WorkloadKind::CronJob => kinds::CRON_JOBS,
        WorkloadKind::Job => kinds::JOBS,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use kube_client_lite::{Config, KubeconfigOptions};
    use kube_sim::{Options, Sim};
    use serde_json::json;

    use super::*;

    /// The recorded cluster, and the directory its client came from.
    fn cluster() -> (Sim, Client) {
        let sim = Sim::start(Options::default()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        std::fs::write(&path, sim.kubeconfig()).unwrap();
        let options = KubeconfigOptions {
            path: Some(path),
            context: None,
        };
        let client = Client::new(Config::kubeconfig(&options).unwrap()).unwrap();
        (sim, client)
    }

    #[test]
    fn what_is_named_counts_for_itself_or_for_what_controls_it() {
        use WorkloadKind::{CronJob, DaemonSet, Deployment, Job, StatefulSet};
        let (_sim, client) = cluster();
        let workload = |kind, name: &str| Found::Workload(kind, name.to_owned());
        let bare = Found::Bare { controller: None };
        for (named, namespace, name, found) in [
            (Named::Namespace, "", "production", Found::Namespace),
            (Named::Namespace, "", "elsewhere", Found::Missing),
            (
                Named::Workload(Deployment),
                "production",
                "web",
                workload(Deployment, "web"),
            ),
            (
                Named::Workload(Deployment),
                "production",
                "cache",
                Found::Missing,
            ),
            (
                Named::Workload(Deployment),
                "elsewhere",
                "web",
                Found::Missing,
            ),
            (
                Named::Workload(StatefulSet),
                "production",
                "cache",
                workload(StatefulSet, "cache"),
            ),
            (
                Named::Workload(DaemonSet),
                "kube-system",
                "kube-proxy",
                workload(DaemonSet, "kube-proxy"),
            ),
            (
                Named::Workload(CronJob),
                "monitoring",
                "heartbeat",
                workload(CronJob, "heartbeat"),
            ),
            (
                Named::Workload(Job),
                "monitoring",
                "heartbeat-29922851",
                workload(CronJob, "heartbeat"),
            ),
            (
                Named::Workload(Job),
                "staging",
                "load-test",
                workload(Job, "load-test"),
            ),
            (
                Named::Pod,
                "production",
                "web-64dd7d4859-gcmd2",
                workload(Deployment, "web"),
            ),
            (
                Named::Pod,
                "production",
                "cache-0",
                workload(StatefulSet, "cache"),
            ),
            (
                Named::Pod,
                "kube-system",
                "kube-proxy-hc6t7",
                workload(DaemonSet, "kube-proxy"),
            ),
            (
                Named::Pod,
                "monitoring",
                "heartbeat-29922851-cnpsj",
                workload(CronJob, "heartbeat"),
            ),
            (
                Named::Pod,
                "staging",
                "load-test-kkl8w",
                workload(Job, "load-test"),
            ),
            (Named::Pod, "production", "debug-shell", bare),
            (Named::Pod, "production", "web", Found::Missing),
        ] {
            let result = find(&client, named, namespace, name).unwrap();
            assert_eq!(result, found, "{named:?} {namespace} {name}");
        }
    }

    #[test]
    fn a_controller_without_an_id_is_named() {
        let (sim, client) = cluster();
        let pod = |name: &str, owner: serde_json::Value| {
            let path = format!("/api/v1/namespaces/default/pods/{name}");
            let metadata =
                json!({"name": name, "namespace": "default", "ownerReferences": [owner]});
            sim.insert(
                &path,
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata}),
            );
        };
        pod(
            "mirror",
            json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "1", "controller": true}),
        );
        pod(
            "loose",
            json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "1", "controller": true}),
        );
        pod(
            "kept",
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "c", "uid": "1"}),
        );
        for (name, controller) in [
            ("mirror", Some("Node n1")),
            ("loose", Some("ReplicaSet rs")),
            ("kept", None),
        ] {
            let controller = controller.map(str::to_owned);
            let found = find(&client, Named::Pod, "default", name).unwrap();
            assert_eq!(found, Found::Bare { controller });
        }
    }

    #[test]
    fn a_name_that_changes_the_request_is_an_error() {
        let (sim, client) = cluster();
        let deployment = Named::Workload(WorkloadKind::Deployment);
        for (namespace, name) in [("production", "a/b"), ("..", "a"), ("production", "")] {
            assert!(find(&client, deployment, namespace, name).is_err());
        }
        assert!(sim.requests().is_empty());
    }
}
