//! The JSON of generated Pods.
//!
//! A template is a Pod whose varying parts are marked; it is built once, written as text and cut at the marks. A Pod is
//! then a matter of copying.

use std::sync::OnceLock;

use super::plan::{Plan, Sort, State, Workload, uid};
use crate::json::{Json, object};
use crate::metadata::mix;

const STYLES: usize = 12;
const SORTS: usize = 5;
const STATES: usize = 8;
/// A mark is a letter between two characters that occur nowhere else and need no escape in JSON.
const OPEN: char = '\u{e000}';
const CLOSE: char = '\u{e001}';

/// The templates, made when they are first needed.
#[derive(Debug)]
pub(super) struct Templates {
    pod_bytes: usize,
    made: Vec<OnceLock<Template>>,
}

#[derive(Debug)]
struct Template {
    /// Text, and the mark after it.
    parts: Vec<(Vec<u8>, char)>,
    tail: Vec<u8>,
}

impl Templates {
    pub(super) fn new(pod_bytes: usize) -> Self {
        Self {
            pod_bytes,
            made: (0..STYLES * SORTS * STATES)
                .map(|_| OnceLock::new())
                .collect(),
        }
    }

    /// Writes a Pod.
    pub(super) fn write(&self, plan: &Plan, workload: u32, ordinal: u32, out: &mut Vec<u8>) {
        let workload = &plan.workloads[workload as usize];
        let state = workload.state(ordinal);
        let sort = match workload.sort {
            Sort::Deployment => 0,
            Sort::StatefulSet => 1,
            Sort::DaemonSet => 2,
            Sort::Job | Sort::CronJob => 3,
            Sort::Bare => 4,
        };
        let slot = (workload.style() * SORTS + sort) * STATES + state as usize;
        let template = self.made[slot]
            .get_or_init(|| Template::new(workload.style(), workload.sort, state, self.pod_bytes));
        let values = Values::new(plan, workload, ordinal, state);
        for (text, mark) in &template.parts {
            out.extend_from_slice(text);
            out.extend_from_slice(values.of(*mark).as_bytes());
        }
        out.extend_from_slice(&template.tail);
    }
}

/// What stands at the marks.
struct Values {
    name: String,
    prefix: String,
    namespace: String,
    uid: String,
    revision: String,
    created: String,
    app: String,
    hash: String,
    owner: String,
    owner_uid: String,
    node: String,
    node_ip: String,
    ip: String,
    container: String,
    restarts: String,
    ordinal: String,
}

impl Values {
    fn new(plan: &Plan, workload: &Workload, ordinal: u32, state: State) -> Self {
        let seed = workload.pod_seed(ordinal);
        let node = match workload.sort {
            Sort::DaemonSet => ordinal % plan.nodes,
            _ => u32::try_from(mix(seed ^ 2) % u64::from(plan.nodes)).unwrap_or(0),
        };
        let restarts = match state {
            State::CrashLooping => 12 + seed % 300,
            State::OutOfMemory => 1 + seed % 9,
            State::Ready if seed.is_multiple_of(50) => 1 + seed % 3,
            _ => 0,
        };
        let day = seed % 300;
        Self {
            name: workload.pod_name(ordinal),
            prefix: workload.pod_prefix(ordinal),
            namespace: workload.namespace.clone(),
            uid: uid(seed, "pod", 0),
            revision: (1000 + seed % 900_000).to_string(),
            created: format!(
                "2026-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                1 + day / 30,
                1 + day % 28,
                seed % 24,
                (seed >> 8) % 60,
                (seed >> 16) % 60
            ),
            app: workload.name.clone(),
            hash: workload.hash(),
            owner: workload.owner(ordinal),
            owner_uid: workload.owner_uid(ordinal),
            node: Plan::node_name(node),
            node_ip: Plan::node_ip(node),
            ip: format!(
                "100.{}.{}.{}",
                64 + (node >> 8) % 64,
                node & 0xff,
                1 + ordinal % 250
            ),
            container: format!(
                "{:016x}{:016x}{:016x}",
                mix(seed ^ 3),
                mix(seed ^ 4),
                mix(seed ^ 5)
            ),
            restarts: restarts.to_string(),
            ordinal: ordinal.to_string(),
        }
    }

    fn of(&self, mark: char) -> &str {
        match mark {
            'N' => &self.name,
            'G' => &self.prefix,
            'S' => &self.namespace,
            'U' => &self.uid,
            'R' => &self.revision,
            'T' => &self.created,
            'A' => &self.app,
            'H' => &self.hash,
            'O' => &self.owner,
            'V' => &self.owner_uid,
            'D' => &self.node,
            'Q' => &self.node_ip,
            'P' => &self.ip,
            'C' => &self.container,
            'X' => &self.restarts,
            _ => &self.ordinal,
        }
    }
}

/// A mark in a string.
fn mark(letter: char) -> String {
    format!("{OPEN}{letter}{CLOSE}")
}

impl Template {
    fn new(style: usize, sort: Sort, state: State, bytes: usize) -> Self {
        // The marks are about as long as 20 bytes of values for their 13.
        let bare = pod(style, sort, state, 0, 0).to_bytes().len();
        let missing = bytes.saturating_sub(bare + 400);
        // A variable costs its text and its entry in managedFields.
        let variables = missing / 190;
        let padded = pod(style, sort, state, variables, 0).to_bytes().len();
        let rest = bytes.saturating_sub(padded + 400);
        let mut text = String::from_utf8(pod(style, sort, state, variables, rest).to_bytes())
            .expect("JSON is UTF-8");
        // Numbers are marked as strings.
        text = text.replace(&format!("\"{OPEN}X{CLOSE}\""), &format!("{OPEN}X{CLOSE}"));
        let mut parts = Vec::new();
        let mut pieces = text.split(OPEN);
        let mut before = pieces.next().unwrap_or_default();
        for piece in pieces {
            let (letter, after) = piece.split_once(CLOSE).expect("marks are closed");
            parts.push((
                before.as_bytes().to_vec(),
                letter.chars().next().unwrap_or('?'),
            ));
            before = after;
        }
        Self {
            parts,
            tail: before.as_bytes().to_vec(),
        }
    }
}

fn pod(style: usize, sort: Sort, state: State, variables: usize, padding: usize) -> Json {
    let spec = spec(style, sort, state, variables);
    let status = status(&spec, state, sort);
    let mut labels = object! { "app.kubernetes.io/instance" => mark('A'), "app.kubernetes.io/name" => mark('A') };
    let owner = match sort {
        Sort::Deployment => {
            labels.set("pod-template-hash", mark('H'));
            Some(("apps/v1", "ReplicaSet"))
        }
        Sort::StatefulSet => {
            labels.set("apps.kubernetes.io/pod-index", mark('I'));
            labels.set(
                "controller-revision-hash",
                format!("{}-{}", mark('A'), mark('H')),
            );
            labels.set("statefulset.kubernetes.io/pod-name", mark('N'));
            Some(("apps/v1", "StatefulSet"))
        }
        Sort::DaemonSet => {
            labels.set("controller-revision-hash", mark('H'));
            labels.set("pod-template-generation", "3");
            Some(("apps/v1", "DaemonSet"))
        }
        Sort::Job | Sort::CronJob => {
            labels.set("batch.kubernetes.io/controller-uid", mark('V'));
            labels.set("batch.kubernetes.io/job-name", mark('O'));
            Some(("batch/v1", "Job"))
        }
        Sort::Bare => None,
    };
    let mut annotations =
        object! { "prometheus.io/port" => "9090", "prometheus.io/scrape" => "true" };
    if padding > 40 {
        annotations.set("example.com/notes", "x".repeat(padding - 40));
    }
    let mut metadata = object! { "name" => mark('N') };
    if owner.is_some() {
        metadata.set("generateName", mark('G'));
    }
    for (name, value) in [
        ("namespace", mark('S')),
        ("uid", mark('U')),
        ("resourceVersion", mark('R')),
    ] {
        metadata.set(name, value);
    }
    metadata.set("generation", 1_i64);
    metadata.set("creationTimestamp", mark('T'));
    metadata.set("labels", labels);
    metadata.set("annotations", annotations);
    if let Some((api_version, kind)) = owner {
        let owner = object! {
            "apiVersion" => api_version, "kind" => kind, "name" => mark('O'), "uid" => mark('V'), "controller" => true,
            "blockOwnerDeletion" => true,
        };
        metadata.set("ownerReferences", vec![owner]);
    }
    let mut written = object! { "metadata" => metadata.clone(), "spec" => spec.clone() };
    if let Some(metadata) = written.get_mut("metadata") {
        for name in [
            "name",
            "namespace",
            "uid",
            "resourceVersion",
            "generation",
            "creationTimestamp",
        ] {
            metadata.remove(name);
        }
    }
    let controller = managed("kube-controller-manager", "v1", &mark('T'), &written);
    let mut kubelet = managed(
        "kubelet",
        "v1",
        &mark('T'),
        &object! { "status" => status.clone() },
    );
    kubelet.set("subresource", "status");
    metadata.set("managedFields", vec![controller, kubelet]);
    object! { "metadata" => metadata, "spec" => spec, "status" => status }
}

fn spec(style: usize, sort: Sort, state: State, variables: usize) -> Json {
    let containers = 1 + style % 3;
    let mut list = Vec::new();
    for number in 0..containers {
        let share = variables / containers + usize::from(number < variables % containers);
        list.push(container(style, number, share));
    }
    let token = "kube-api-access-x7k2p";
    let sources = vec![
        object! { "serviceAccountToken" => object! { "expirationSeconds" => 3607_i64, "path" => "token" } },
        object! { "configMap" => object! {
            "name" => "kube-root-ca.crt",
            "items" => vec![object! { "key" => "ca.crt", "path" => "ca.crt" }],
        } },
    ];
    let mut volumes = vec![
        object! { "name" => "config", "configMap" => object! { "name" => mark('A'), "defaultMode" => 420_i64 } },
        object! { "name" => "tmp", "emptyDir" => Json::object() },
    ];
    if sort == Sort::StatefulSet {
        let claim = object! { "claimName" => format!("data-{}", mark('N')) };
        volumes.push(object! { "name" => "data", "persistentVolumeClaim" => claim });
    }
    if sort == Sort::DaemonSet && style.is_multiple_of(2) {
        volumes.push(object! { "name" => "host", "hostPath" => object! { "path" => "/var/log", "type" => "" } });
    }
    volumes.push(object! { "name" => token, "projected" => object! { "sources" => sources, "defaultMode" => 420_i64 } });
    let mut spec = object! { "volumes" => volumes };
    if style.is_multiple_of(4) {
        let mut init = container(style, 9, 0);
        for name in ["livenessProbe", "readinessProbe", "ports"] {
            init.remove(name);
        }
        init.set("name", "init-schema");
        spec.set("initContainers", vec![init]);
    }
    spec.set("containers", list);
    spec.set(
        "restartPolicy",
        if matches!(sort, Sort::Job | Sort::CronJob) {
            "Never"
        } else {
            "Always"
        },
    );
    spec.set("terminationGracePeriodSeconds", 30_i64);
    spec.set("dnsPolicy", "ClusterFirst");
    spec.set("serviceAccountName", mark('A'));
    spec.set("serviceAccount", mark('A'));
    if state != State::Unschedulable {
        spec.set("nodeName", mark('D'));
    }
    if sort == Sort::DaemonSet && style.is_multiple_of(3) {
        spec.set("hostNetwork", true);
    }
    let security = match style % 5 {
        0 | 4 => object! {
            "runAsUser" => 10001_i64, "runAsNonRoot" => true, "fsGroup" => 10001_i64,
            "seccompProfile" => object! { "type" => "RuntimeDefault" },
        },
        1 => object! { "runAsUser" => 0_i64 },
        _ => Json::object(),
    };
    spec.set("securityContext", security);
    spec.set("schedulerName", "default-scheduler");
    let toleration = |key: &str| {
        object! { "key" => key, "operator" => "Exists", "effect" => "NoExecute", "tolerationSeconds" => 300_i64 }
    };
    let tolerations = vec![
        toleration("node.kubernetes.io/not-ready"),
        toleration("node.kubernetes.io/unreachable"),
    ];
    spec.set("tolerations", tolerations);
    spec.set("priority", 0_i64);
    spec.set("enableServiceLinks", true);
    spec.set("preemptionPolicy", "PreemptLowerPriority");
    spec
}

/// A container's name, and the CPU in cores and memory in bytes it requests.
pub(crate) type Request = (&'static str, f64, f64);

/// What the containers of a style request; 0 is nothing.
pub(super) fn requests(style: usize) -> Vec<Request> {
    let (cpu, memory) = if style % 4 == 3 {
        (0.0, 0.0)
    } else {
        (
            f64::from(cpu_millis(style)) / 1000.0,
            f64::from(memory_mebibytes(style)) * 1_048_576.0,
        )
    };
    NAMES[..=style % 3]
        .iter()
        .map(|name| (*name, cpu, memory))
        .collect()
}

/// The names of the containers.
const NAMES: [&str; 3] = ["app", "proxy", "metrics"];

fn cpu_millis(style: usize) -> u32 {
    u32::try_from(25 * (1 + style % 8)).unwrap_or(25)
}

fn memory_mebibytes(style: usize) -> u32 {
    u32::try_from(32 * (1 + style % 6)).unwrap_or(32)
}

fn container(style: usize, number: usize, variables: usize) -> Json {
    let name = NAMES.get(number).copied().unwrap_or("init");
    let tag = if style % 6 == 5 {
        "latest".to_owned()
    } else {
        format!("{}.{}.{number}", 1 + style % 4, style)
    };
    let mut container = object! {
        "name" => name, "image" => format!("registry.example.com/platform/{name}:{tag}"),
        "args" => vec![Json::from("--config=/etc/app/config.yaml"), Json::from("--log-format=json")],
        "ports" => vec![object! { "name" => "http", "containerPort" => i64::try_from(8080 + number).unwrap_or(8080), "protocol" => "TCP" }],
    };
    if variables > 0 {
        let env = (0..variables).map(|variable| {
            let value = format!(
                "{:016x}{:016x}",
                mix(variable as u64),
                mix(variable as u64 ^ 0xffff)
            );
            object! { "name" => format!("PLATFORM_SETTING_NUMBER_{variable:04}"), "value" => value }
        });
        container.set("env", env.collect::<Vec<_>>());
    }
    let cpu = format!("{}m", cpu_millis(style));
    let memory = format!("{}Mi", memory_mebibytes(style));
    let resources = match style % 4 {
        0 => object! {
            "limits" => object! { "cpu" => "1", "memory" => memory.as_str() },
            "requests" => object! { "cpu" => cpu.as_str(), "memory" => memory.as_str() },
        },
        1 => {
            object! { "requests" => object! { "cpu" => cpu.as_str(), "memory" => memory.as_str() } }
        }
        2 => object! {
            "limits" => object! { "memory" => memory.as_str() },
            "requests" => object! { "cpu" => cpu.as_str(), "memory" => memory.as_str() },
        },
        _ => Json::object(),
    };
    container.set("resources", resources);
    let mount = |name: &str, path: &str, read_only: bool| {
        let mut mount = object! { "name" => name };
        if read_only {
            mount.set("readOnly", true);
        }
        mount.set("mountPath", path);
        mount
    };
    let mounts = vec![
        mount("config", "/etc/app", true),
        mount("tmp", "/tmp", false),
        mount(
            "kube-api-access-x7k2p",
            "/var/run/secrets/kubernetes.io/serviceaccount",
            true,
        ),
    ];
    container.set("volumeMounts", mounts);
    let probe = |path: &str| {
        object! {
            "httpGet" => object! { "path" => path, "port" => "http", "scheme" => "HTTP" }, "timeoutSeconds" => 1_i64,
            "periodSeconds" => 10_i64, "successThreshold" => 1_i64, "failureThreshold" => 3_i64,
        }
    };
    if style.is_multiple_of(3) {
        container.set("livenessProbe", probe("/healthz"));
    }
    if style % 3 != 2 {
        container.set("readinessProbe", probe("/readyz"));
    }
    container.set("terminationMessagePath", "/dev/termination-log");
    container.set("terminationMessagePolicy", "File");
    container.set(
        "imagePullPolicy",
        if style % 6 == 5 {
            "Always"
        } else {
            "IfNotPresent"
        },
    );
    let security = match style % 5 {
        0 => Some(object! {
            "capabilities" => object! { "drop" => vec![Json::from("ALL")] }, "readOnlyRootFilesystem" => true,
            "allowPrivilegeEscalation" => false,
        }),
        2 => Some(object! { "privileged" => true }),
        4 => Some(object! { "allowPrivilegeEscalation" => false }),
        _ => None,
    };
    if let Some(security) = security {
        container.set("securityContext", security);
    }
    container
}

fn status(spec: &Json, state: State, sort: Sort) -> Json {
    let (phase, ready) = match state {
        State::Ready | State::OutOfMemory => ("Running", true),
        State::NotReady | State::CrashLooping => ("Running", false),
        State::ImagePullFailing | State::Unschedulable => ("Pending", false),
        State::Succeeded => ("Succeeded", false),
        State::Failed => ("Failed", false),
    };
    let condition = |kind: &str, holds: bool| {
        object! {
            "type" => kind, "observedGeneration" => 1_i64, "status" => if holds { "True" } else { "False" },
            "lastProbeTime" => Json::Null, "lastTransitionTime" => mark('T'),
        }
    };
    if state == State::Unschedulable {
        let mut scheduled = condition("PodScheduled", false);
        scheduled.set("reason", "Unschedulable");
        let why = "0/9 nodes are available: 9 Insufficient cpu. preemption: 0/9 nodes are available: 9 No preemption \
            victims found for incoming pod.";
        scheduled.set("message", why);
        return object! {
            "observedGeneration" => 1_i64, "phase" => phase, "conditions" => vec![scheduled], "qosClass" => "Burstable",
        };
    }
    let evicted = state == State::Failed && !matches!(sort, Sort::Job | Sort::CronJob);
    let mut status = object! {
        "observedGeneration" => 1_i64, "phase" => phase,
        "conditions" => vec![
            condition("PodReadyToStartContainers", state != State::Succeeded),
            condition("Initialized", true),
            condition("Ready", ready),
            condition("ContainersReady", ready),
            condition("PodScheduled", true),
        ],
    };
    if evicted {
        status.set(
            "message",
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: 91284Ki. ",
        );
        status.set("reason", "Evicted");
        status.set("startTime", mark('T'));
        status.set("qosClass", "Burstable");
        return status;
    }
    status.set("hostIP", mark('Q'));
    status.set("hostIPs", vec![object! { "ip" => mark('Q') }]);
    status.set("podIP", mark('P'));
    status.set("podIPs", vec![object! { "ip" => mark('P') }]);
    status.set("startTime", mark('T'));
    let all = |name: &str| spec.get(name).map(Json::items).unwrap_or_default();
    let init: Vec<Json> = all("initContainers")
        .iter()
        .map(|container| container_status(container, State::Succeeded, true))
        .collect();
    if !init.is_empty() {
        status.set("initContainerStatuses", init);
    }
    let statuses = all("containers")
        .iter()
        .map(|container| container_status(container, state, ready));
    status.set("containerStatuses", statuses.collect::<Vec<_>>());
    status.set("qosClass", "Burstable");
    status
}

fn container_status(container: &Json, state: State, ready: bool) -> Json {
    let name = container.text(&["name"]).unwrap_or_default();
    let image = container.text(&["image"]).unwrap_or_default();
    let id = format!("containerd://{}{:016x}", mark('C'), mix(name.len() as u64));
    let ended = |reason: &str, code: i64| {
        object! { "terminated" => object! {
            "exitCode" => code, "reason" => reason, "startedAt" => mark('T'), "finishedAt" => mark('T'),
            "containerID" => id.as_str(),
        } }
    };
    let waiting = |reason: &str, message: String| {
        object! { "waiting" => object! { "reason" => reason, "message" => message } }
    };
    let running = object! { "running" => object! { "startedAt" => mark('T') } };
    let pulling = state == State::ImagePullFailing;
    let (now, last) = match state {
        State::Ready | State::NotReady | State::Unschedulable => (running, Json::object()),
        State::OutOfMemory => (running, ended("OOMKilled", 137)),
        State::CrashLooping => {
            let message = format!(
                "back-off 5m0s restarting failed container={name} pod={}_{}({})",
                mark('N'),
                mark('S'),
                mark('U')
            );
            (waiting("CrashLoopBackOff", message), ended("Error", 1))
        }
        State::ImagePullFailing => {
            let message = format!("Back-off pulling image \"{image}\"");
            (waiting("ImagePullBackOff", message), Json::object())
        }
        State::Succeeded => (ended("Completed", 0), Json::object()),
        State::Failed => (ended("Error", 2), Json::object()),
    };
    let mut status = object! {
        "name" => name, "state" => now, "lastState" => last, "ready" => ready, "restartCount" => mark('X'),
        "image" => image,
        "imageID" => if pulling { String::new() } else { format!("{}@sha256:{}{:016x}", image, mark('C'), 7) },
    };
    if !pulling {
        status.set("containerID", id.as_str());
        status.set(
            "started",
            matches!(state, State::Ready | State::NotReady | State::OutOfMemory),
        );
    }
    status
}

/// An entry of `managedFields` that owns all of an object.
pub(super) fn managed(manager: &str, api_version: &str, time: &str, object: &Json) -> Json {
    object! {
        "manager" => manager, "operation" => "Update", "apiVersion" => api_version, "time" => time,
        "fieldsType" => "FieldsV1", "fieldsV1" => fields_v1(object),
    }
}

/// `FieldsV1` of everything in a value, with the keys of the lists that have some.
fn fields_v1(json: &Json) -> Json {
    let mut out = Json::object();
    for (name, value) in json.fields() {
        let keys: &[&str] = match name.as_str() {
            "containers" | "initContainers" | "env" | "volumes" => &["name"],
            "ports" => &["containerPort", "protocol"],
            "volumeMounts" => &["mountPath"],
            "conditions" => &["type"],
            "podIPs" => &["ip"],
            "ownerReferences" => &["uid"],
            _ => &[],
        };
        let child = match value {
            Json::Array(items) if !keys.is_empty() => {
                let mut list = object! { "." => Json::object() };
                for item in items {
                    let mut key = Json::object();
                    for name in keys {
                        key.set(name, item.get(name).cloned().unwrap_or(Json::Null));
                    }
                    let mut inner = if name == "ownerReferences" {
                        Json::object()
                    } else {
                        fields_v1(item)
                    };
                    if let (Json::Object(fields), true) = (&mut inner, name != "ownerReferences") {
                        fields.insert(0, (".".to_owned(), Json::object()));
                    }
                    list.set(
                        &format!("k:{}", String::from_utf8_lossy(&key.to_bytes())),
                        inner,
                    );
                }
                list
            }
            Json::Object(fields) if !fields.is_empty() => fields_v1(value),
            _ => Json::object(),
        };
        out.set(&format!("f:{name}"), child);
    }
    out
}
