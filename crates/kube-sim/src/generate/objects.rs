//! The objects of a generated cluster that are not Pods. There are few enough of them to be held in memory, as text.

use super::plan::{Plan, Sort, State, Workload, uid};
use super::pod::managed;
use crate::json::{Json, object};
use crate::metadata::mix;
use crate::recorded;
use crate::store::{Object, Store};

const CREATED: &str = "2026-01-12T09:30:00Z";

/// Puts them into a store.
pub(super) fn load(store: &mut Store, plan: &Plan) {
    for (number, namespace) in (100_u64..).zip(&plan.namespaces) {
        put(
            store,
            "namespaces",
            recorded::namespace(namespace, mix(plan.seed ^ number)),
        );
        put(
            store,
            "serviceaccounts",
            metadata_only(namespace, "default", plan.seed ^ number),
        );
        let data = object! { "ca.crt" => "-----BEGIN CERTIFICATE-----\n(generated)\n-----END CERTIFICATE-----\n" };
        let mut ca = metadata_only(namespace, "kube-root-ca.crt", plan.seed ^ number);
        ca.set("data", data);
        put(store, "configmaps", ca);
    }
    for number in 0..plan.nodes {
        put(store, "nodes", node(plan, number));
    }
    for workload in &plan.workloads {
        match workload.sort {
            Sort::Deployment => {
                put(store, "deployments.apps", deployment(workload));
                put(store, "replicasets.apps", replica_set(workload, true));
                put(store, "replicasets.apps", replica_set(workload, false));
            }
            Sort::StatefulSet => {
                put(store, "statefulsets.apps", stateful_set(workload));
                for ordinal in 0..workload.pods {
                    put(store, "persistentvolumeclaims", claim(workload, ordinal));
                }
            }
            Sort::DaemonSet => put(store, "daemonsets.apps", daemon_set(workload)),
            Sort::Job => put(store, "jobs.batch", job(workload, None)),
            Sort::CronJob => {
                put(store, "cronjobs.batch", cron_job(workload));
                for number in 0..workload.pods {
                    put(store, "jobs.batch", job(workload, Some(number)));
                }
            }
            Sort::Bare => {}
        }
        if matches!(workload.sort, Sort::Deployment | Sort::StatefulSet) {
            put(store, "services", service(workload));
        }
    }
    events(store, plan);
}

fn put(store: &mut Store, collection: &str, mut json: Json) {
    // What owns the fields: all of it belongs to whoever made it.
    let mut written = json.clone();
    let status = written.remove("status");
    if let Some(metadata) = written.get_mut("metadata") {
        for name in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "creationTimestamp",
            "generation",
        ] {
            metadata.remove(name);
        }
    }
    let version = match collection.split_once('.').map_or("", |(_, group)| group) {
        "" => "v1".to_owned(),
        group => format!("{group}/v1"),
    };
    let mut managers = vec![managed("helm", &version, CREATED, &written)];
    if let Some(status) = status {
        let mut entry = managed(
            "kube-controller-manager",
            &version,
            CREATED,
            &object! { "status" => status },
        );
        entry.set("subresource", "status");
        managers.push(entry);
    }
    if let Some(metadata) = json.get_mut("metadata") {
        metadata.set("managedFields", managers);
    }
    store.load(collection, Object::from_text(json.to_bytes()));
}

fn metadata(namespace: &str, name: &str, uid: String, labels: Option<&Workload>) -> Json {
    let mut metadata = object! { "name" => name };
    if !namespace.is_empty() {
        metadata.set("namespace", namespace);
    }
    metadata.set("uid", uid);
    metadata.set(
        "resourceVersion",
        (500 + mix(name.len() as u64) % 400).to_string(),
    );
    metadata.set("creationTimestamp", CREATED);
    if let Some(workload) = labels {
        metadata.set("labels", labels_of(workload));
        metadata.set(
            "annotations",
            object! { "meta.helm.sh/release-name" => workload.name.as_str() },
        );
    }
    metadata
}

fn metadata_only(namespace: &str, name: &str, seed: u64) -> Json {
    object! { "metadata" => metadata(namespace, name, uid(mix(seed), name, 0), None) }
}

fn labels_of(workload: &Workload) -> Json {
    let name = workload.name.as_str();
    object! { "app.kubernetes.io/instance" => name, "app.kubernetes.io/managed-by" => "Helm", "app.kubernetes.io/name" => name }
}

fn owned(mut json: Json, api_version: &str, kind: &str, name: &str, uid: &str) -> Json {
    let owner = object! {
        "apiVersion" => api_version, "kind" => kind, "name" => name, "uid" => uid, "controller" => true,
        "blockOwnerDeletion" => true,
    };
    if let Some(metadata) = json.get_mut("metadata") {
        metadata.set("ownerReferences", vec![owner]);
    }
    json
}

fn selector(workload: &Workload) -> Json {
    object! { "matchLabels" => object! { "app.kubernetes.io/name" => workload.name.as_str() } }
}

/// A short Pod template: the whole one is in the Pods.
fn template(workload: &Workload) -> Json {
    let style = workload.style();
    let containers: Vec<Json> = (0..=style % 3)
        .map(|number| {
            let name = ["app", "proxy", "metrics"][number];
            object! {
                "name" => name,
                "image" => format!("registry.example.com/platform/{name}:{}.{style}.{number}", 1 + style % 4),
                "resources" => object! { "requests" => object! { "cpu" => format!("{}m", 25 * (1 + style % 8)) } },
                "terminationMessagePath" => "/dev/termination-log", "terminationMessagePolicy" => "File",
                "imagePullPolicy" => "IfNotPresent",
            }
        })
        .collect();
    object! {
        "metadata" => object! { "labels" => labels_of(workload) },
        "spec" => object! {
            "containers" => containers, "restartPolicy" => "Always", "terminationGracePeriodSeconds" => 30_i64,
            "dnsPolicy" => "ClusterFirst", "serviceAccountName" => workload.name.as_str(),
            "securityContext" => Json::object(), "schedulerName" => "default-scheduler",
        },
    }
}

/// Counters as a server writes them: those that are 0 are left out.
fn counters(pairs: &[(&str, u32)]) -> Json {
    let mut json = Json::object();
    for (name, value) in pairs.iter().filter(|(_, value)| *value > 0) {
        json.set(name, i64::from(*value));
    }
    json
}

fn deployment(workload: &Workload) -> Json {
    let (pods, ready) = (workload.pods, workload.ready());
    let mut status = object! { "observedGeneration" => 4_i64 };
    let counted = counters(&[
        ("replicas", pods),
        ("updatedReplicas", pods),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", pods - ready),
    ]);
    for (name, value) in counted.fields() {
        status.set(name, value.clone());
    }
    let condition = |kind: &str, holds: bool, reason: &str| {
        object! {
            "type" => kind, "status" => if holds { "True" } else { "False" }, "lastUpdateTime" => CREATED,
            "lastTransitionTime" => CREATED, "reason" => reason, "message" => format!("{kind} is {holds}."),
        }
    };
    let available = condition("Available", ready == pods, "MinimumReplicasAvailable");
    status.set(
        "conditions",
        vec![
            available,
            condition("Progressing", true, "NewReplicaSetAvailable"),
        ],
    );
    object! {
        "metadata" => metadata(&workload.namespace, &workload.name, workload.uid(), Some(workload)),
        "spec" => object! {
            "replicas" => i64::from(pods), "selector" => selector(workload), "template" => template(workload),
            "strategy" => object! {
                "type" => "RollingUpdate",
                "rollingUpdate" => object! { "maxUnavailable" => "25%", "maxSurge" => "25%" },
            },
            "revisionHistoryLimit" => 10_i64, "progressDeadlineSeconds" => 600_i64,
        },
        "status" => status,
    }
}

/// The present ReplicaSet of a Deployment, or the one before it.
fn replica_set(workload: &Workload, present: bool) -> Json {
    let name = if present {
        workload.owner(0)
    } else {
        format!("{}-5d9c8b7f6", workload.name)
    };
    let id = if present {
        workload.owner_uid(0)
    } else {
        uid(workload.seed, "old-replicaset", 0)
    };
    let pods = if present { workload.pods } else { 0 };
    let ready = if present { workload.ready() } else { 0 };
    let mut status = object! { "replicas" => i64::from(pods) };
    let counted = counters(&[
        ("fullyLabeledReplicas", pods),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
    ]);
    for (name, value) in counted.fields() {
        status.set(name, value.clone());
    }
    status.set("observedGeneration", 1_i64);
    let json = object! {
        "metadata" => metadata(&workload.namespace, &name, id, Some(workload)),
        "spec" => object! {
            "replicas" => i64::from(pods), "selector" => selector(workload), "template" => template(workload),
        },
        "status" => status,
    };
    owned(
        json,
        "apps/v1",
        "Deployment",
        &workload.name,
        &workload.uid(),
    )
}

fn stateful_set(workload: &Workload) -> Json {
    let (pods, ready) = (workload.pods, workload.ready());
    let mut status = object! { "observedGeneration" => 1_i64, "replicas" => i64::from(pods) };
    for (name, value) in counters(&[
        ("readyReplicas", ready),
        ("currentReplicas", pods),
        ("updatedReplicas", pods),
    ])
    .fields()
    {
        status.set(name, value.clone());
    }
    status.set("availableReplicas", i64::from(ready));
    object! {
        "metadata" => metadata(&workload.namespace, &workload.name, workload.uid(), Some(workload)),
        "spec" => object! {
            "replicas" => i64::from(pods), "selector" => selector(workload), "template" => template(workload),
            "serviceName" => workload.name.as_str(), "podManagementPolicy" => "OrderedReady",
            "updateStrategy" => object! { "type" => "RollingUpdate" }, "revisionHistoryLimit" => 10_i64,
        },
        "status" => status,
    }
}

fn daemon_set(workload: &Workload) -> Json {
    let (pods, ready) = (i64::from(workload.pods), i64::from(workload.ready()));
    object! {
        "metadata" => metadata(&workload.namespace, &workload.name, workload.uid(), Some(workload)),
        "spec" => object! {
            "selector" => selector(workload), "template" => template(workload),
            "updateStrategy" => object! { "type" => "RollingUpdate" }, "revisionHistoryLimit" => 10_i64,
        },
        "status" => object! {
            "currentNumberScheduled" => pods, "numberMisscheduled" => 0_i64, "desiredNumberScheduled" => pods,
            "numberReady" => ready, "observedGeneration" => 3_i64, "updatedNumberScheduled" => pods,
            "numberAvailable" => ready,
        },
    }
}

/// A Job, by itself or one of a `CronJob`.
fn job(workload: &Workload, number: Option<u32>) -> Json {
    let pods: Vec<u32> = number.map_or_else(|| (0..workload.pods).collect(), |number| vec![number]);
    let count = |wanted: State| {
        u32::try_from(
            pods.iter()
                .filter(|&&pod| workload.state(pod) == wanted)
                .count(),
        )
        .unwrap_or(0)
    };
    let (succeeded, failed) = (count(State::Succeeded), count(State::Failed));
    let active = u32::try_from(pods.len()).unwrap_or(0) - succeeded - failed;
    let mut status = Json::object();
    if active == 0 && !pods.is_empty() {
        let kind = if failed == 0 { "Complete" } else { "Failed" };
        let condition = object! {
            "type" => kind, "status" => "True", "lastProbeTime" => CREATED, "lastTransitionTime" => CREATED,
        };
        status.set("conditions", vec![condition]);
    }
    status.set("startTime", CREATED);
    for (name, value) in counters(&[
        ("active", active),
        ("succeeded", succeeded),
        ("failed", failed),
    ])
    .fields()
    {
        status.set(name, value.clone());
    }
    let (name, id) = match number {
        Some(number) => (workload.job_name(number), workload.owner_uid(number)),
        None => (workload.name.clone(), workload.uid()),
    };
    let mut template = template(workload);
    if let Some(spec) = template.get_mut("spec") {
        spec.set("restartPolicy", "Never");
    }
    let json = object! {
        "metadata" => metadata(&workload.namespace, &name, id, Some(workload)),
        "spec" => object! {
            "parallelism" => i64::from(workload.pods.max(1)), "completions" => 1_i64, "backoffLimit" => 6_i64,
            "template" => template, "completionMode" => "NonIndexed", "suspend" => false,
        },
        "status" => status,
    };
    if number.is_none() {
        json
    } else {
        owned(json, "batch/v1", "CronJob", &workload.name, &workload.uid())
    }
}

fn cron_job(workload: &Workload) -> Json {
    object! {
        "metadata" => metadata(&workload.namespace, &workload.name, workload.uid(), Some(workload)),
        "spec" => object! {
            "schedule" => "0 * * * *", "concurrencyPolicy" => "Forbid", "suspend" => workload.seed.is_multiple_of(5),
            "jobTemplate" => object! { "spec" => object! { "template" => template(workload) } },
            "successfulJobsHistoryLimit" => 3_i64, "failedJobsHistoryLimit" => 1_i64,
        },
        "status" => object! { "lastScheduleTime" => CREATED, "lastSuccessfulTime" => CREATED },
    }
}

fn service(workload: &Workload) -> Json {
    let headless = workload.sort == Sort::StatefulSet;
    let address = if headless {
        "None".to_owned()
    } else {
        format!(
            "172.20.{}.{}",
            workload.seed % 256,
            (workload.seed >> 8) % 250 + 1
        )
    };
    object! {
        "metadata" => metadata(&workload.namespace, &workload.name, uid(workload.seed, "service", 0), Some(workload)),
        "spec" => object! {
            "ports" => vec![object! { "name" => "http", "protocol" => "TCP", "port" => 80_i64, "targetPort" => "http" }],
            "selector" => object! { "app.kubernetes.io/name" => workload.name.as_str() },
            "clusterIP" => address.as_str(), "clusterIPs" => vec![Json::from(address.as_str())], "type" => "ClusterIP",
            "sessionAffinity" => "None", "ipFamilies" => vec![Json::from("IPv4")], "ipFamilyPolicy" => "SingleStack",
            "internalTrafficPolicy" => "Cluster",
        },
        "status" => object! { "loadBalancer" => Json::object() },
    }
}

fn claim(workload: &Workload, ordinal: u32) -> Json {
    let name = format!("data-{}", workload.pod_name(ordinal));
    let storage = object! { "storage" => "20Gi" };
    object! {
        "metadata" => metadata(&workload.namespace, &name, uid(workload.seed, "claim", ordinal.into()), Some(workload)),
        "spec" => object! {
            "accessModes" => vec![Json::from("ReadWriteOnce")], "resources" => object! { "requests" => storage.clone() },
            "volumeName" => format!("pvc-{}", uid(workload.seed, "volume", ordinal.into())),
            "storageClassName" => "gp3", "volumeMode" => "Filesystem",
        },
        "status" => object! {
            "phase" => "Bound", "accessModes" => vec![Json::from("ReadWriteOnce")], "capacity" => storage,
        },
    }
}

fn node(plan: &Plan, number: u32) -> Json {
    let name = Plan::node_name(number);
    let seed = mix(plan.seed ^ (u64::from(number) << 8));
    // One in a hundred is not ready.
    let ready = seed % 100 != 7;
    let cores = [4_i64, 8, 16, 32][usize::try_from(seed % 4).unwrap_or(0)];
    let resources = |cpu: String, memory: String| {
        object! { "cpu" => cpu, "ephemeral-storage" => "83873772Ki", "memory" => memory, "pods" => "110" }
    };
    let condition = |kind: &str, status: &str, reason: &str| {
        object! {
            "type" => kind, "status" => status, "lastHeartbeatTime" => CREATED, "lastTransitionTime" => CREATED,
            "reason" => reason, "message" => format!("kubelet: {reason}"),
        }
    };
    let mut metadata = metadata("", &name, uid(seed, "node", 0), None);
    let zone = ["a", "b", "c"][usize::try_from(seed % 3).unwrap_or(0)];
    metadata.set(
        "labels",
        object! {
            "kubernetes.io/arch" => "amd64", "kubernetes.io/hostname" => name.as_str(), "kubernetes.io/os" => "linux",
            "node.kubernetes.io/instance-type" => "m7i.2xlarge", "topology.kubernetes.io/region" => "eu-central-1",
            "topology.kubernetes.io/zone" => format!("eu-central-1{zone}"),
        },
    );
    let images: Vec<Json> = (0..20_u64)
        .map(|image| {
            let digest = format!("{:016x}{:016x}{:016x}{:016x}", mix(image), mix(image + 1), mix(image + 2), mix(image + 3));
            let name = format!("registry.example.com/platform/image-{image}");
            object! {
                "names" => vec![Json::from(format!("{name}@sha256:{digest}")), Json::from(format!("{name}:1.{image}.0"))],
                "sizeBytes" => 40_000_000 + i64::try_from(image).unwrap_or(0) * 1_000_003,
            }
        })
        .collect();
    object! {
        "metadata" => metadata,
        "spec" => object! { "podCIDR" => format!("100.64.{}.0/24", number % 256), "providerID" => format!("aws:///{name}") },
        "status" => object! {
            "capacity" => resources(cores.to_string(), format!("{}Ki", cores * 4 * 1024 * 1024)),
            "allocatable" => resources(format!("{}m", cores * 1000 - 80), format!("{}Ki", cores * 4 * 1024 * 1024 - 700_000)),
            "conditions" => vec![
                condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
                condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
                condition("PIDPressure", "False", "KubeletHasSufficientPID"),
                if ready { condition("Ready", "True", "KubeletReady") } else { condition("Ready", "Unknown", "NodeStatusUnknown") },
            ],
            "addresses" => vec![
                object! { "type" => "InternalIP", "address" => Plan::node_ip(number) },
                object! { "type" => "Hostname", "address" => name.as_str() },
            ],
            "daemonEndpoints" => object! { "kubeletEndpoint" => object! { "Port" => 10250_i64 } },
            "nodeInfo" => object! {
                "machineID" => format!("{seed:032x}"), "systemUUID" => uid(seed, "system", 0), "bootID" => uid(seed, "boot", 0),
                "kernelVersion" => "6.12.48", "osImage" => "Amazon Linux 2023", "containerRuntimeVersion" => "containerd://2.1.4",
                "kubeletVersion" => "v1.36.2", "kubeProxyVersion" => "", "operatingSystem" => "linux", "architecture" => "amd64",
            },
            "images" => images,
        },
    }
}

/// Warnings about the Pods that are in trouble, at most a thousand.
fn events(store: &mut Store, plan: &Plan) {
    let mut left = 1000;
    for workload in &plan.workloads {
        for ordinal in 0..workload.pods {
            let (reason, message) = match workload.state(ordinal) {
                State::CrashLooping => ("BackOff", "Back-off restarting failed container app"),
                State::ImagePullFailing => ("Failed", "Failed to pull image"),
                State::Unschedulable => (
                    "FailedScheduling",
                    "0/9 nodes are available: 9 Insufficient cpu.",
                ),
                State::NotReady => (
                    "Unhealthy",
                    "Readiness probe failed: HTTP probe failed with statuscode: 503",
                ),
                _ => continue,
            };
            if left == 0 {
                return;
            }
            left -= 1;
            let pod = workload.pod_name(ordinal);
            let seed = workload.pod_seed(ordinal);
            let name = format!("{pod}.{:016x}", mix(seed ^ 9));
            let json = object! {
                "metadata" => metadata(&workload.namespace, &name, uid(seed, "event", 0), None),
                "involvedObject" => object! {
                    "kind" => "Pod", "namespace" => workload.namespace.as_str(), "name" => pod, "uid" => uid(seed, "pod", 0),
                    "apiVersion" => "v1",
                },
                "reason" => reason, "message" => message, "source" => object! { "component" => "kubelet" },
                "firstTimestamp" => CREATED, "lastTimestamp" => "2026-11-20T10:00:00Z", "count" => 1 + i64::from(ordinal % 90),
                "type" => "Warning",
            };
            put(store, "events", crate::events::normalise(&json));
        }
    }
}
