//! What one pod adds to the figures: its containers, restarts, resources and signals.

use super::quantity;
use super::signal::{Signal, Signals};
use super::view;

/// What one pod adds to the figures of its namespace and its workload.
#[derive(Debug)]
pub(crate) struct PodFigures {
    pub(crate) phase: Phase,
    /// Containers that run side by side: `spec.containers` and sidecars, but no other init containers.
    pub(crate) containers: u32,
    /// `restartCount` of all containers and init containers.
    pub(crate) restarts: u32,
    /// Zero for a finished pod: the scheduler has given its resources back.
    pub(crate) requests: Amounts,
    /// As `requests`.
    pub(crate) limits: Amounts,
    /// What is shown by the pod itself. A finished pod shows nothing of its specification, unless it was
    /// made to end: a Deployment's evicted pod may be of a template long corrected, while a Job's pod, or
    /// a bare one, is all there is to judge.
    pub(crate) signals: Signals,
}

/// `status.phase`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Pending,
    Running,
    Succeeded,
    Failed,
    /// `Unknown`, absent, or a word that Kubernetes has not invented yet.
    Unknown,
}

/// Whose pod it is, as far as that matters to its signals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Belongs {
    /// To a workload that replaces it when it ends.
    Lasting,
    /// To a Job, to be run to its end.
    Job,
    /// To nobody the inventory knows.
    Nobody,
}

/// An amount of CPU and memory. All arithmetic stops at the largest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts {
    pub(crate) cpu_millicores: u64,
    pub(crate) memory_bytes: u64,
}

impl PodFigures {
    /// Judges a pod. Quantities that are none are taken as absent and counted in `illegal`.
    pub(crate) fn of(pod: &view::Pod<'_>, belongs: Belongs, illegal: &mut u64) -> Self {
        let spec = &pod.spec;
        let phase = Phase::parse(&pod.status.phase);
        let finished = matches!(phase, Phase::Succeeded | Phase::Failed);
        let mut signals = Signals::default();
        judge_states(&pod.status, finished, &mut signals);
        if !finished || belongs != Belongs::Lasting {
            judge_spec(spec, belongs == Belongs::Job, &mut signals);
        }
        let ready = condition(&pod.status, "Ready").is_some_and(|ready| &*ready.status == "True");
        let bare_unready = belongs == Belongs::Nobody && phase == Phase::Running && !ready;
        signals.set_if(Signal::NotReady, bare_unready);

        let (requests, limits) = if finished {
            (Amounts::default(), Amounts::default())
        } else {
            resources(spec, illegal)
        };
        let statuses = pod.status.container_statuses.iter();
        let restarts = statuses
            .chain(&pod.status.init_container_statuses)
            .fold(0_u32, |sum, status| {
                sum.saturating_add(count(status.restart_count))
            });
        Self {
            phase,
            containers: u32::try_from(side_by_side(spec).count()).unwrap_or(u32::MAX),
            restarts,
            requests,
            limits,
            signals,
        }
    }
}

impl Phase {
    fn parse(text: &str) -> Self {
        match text {
            "Pending" => Self::Pending,
            "Running" => Self::Running,
            "Succeeded" => Self::Succeeded,
            "Failed" => Self::Failed,
            _ => Self::Unknown,
        }
    }
}

impl Amounts {
    /// Reads a resource list. Negative amounts, which the API server refuses, are 0.
    pub(crate) fn of(list: &view::ResourceList<'_>, illegal: &mut u64) -> Self {
        Self {
            cpu_millicores: amount(&list.cpu, quantity::millicores, illegal),
            memory_bytes: amount(&list.memory, quantity::bytes, illegal),
        }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.merge(other, u64::saturating_add)
    }

    fn max(self, other: Self) -> Self {
        self.merge(other, u64::max)
    }

    /// The pod's own amounts where it has any.
    fn or_of_pod(self, pod: Self) -> Self {
        self.merge(pod, |sum, pod| if pod > 0 { pod } else { sum })
    }

    fn merge(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            cpu_millicores: with(self.cpu_millicores, other.cpu_millicores),
            memory_bytes: with(self.memory_bytes, other.memory_bytes),
        }
    }
}

/// Reads one quantity; absent and illegal are 0, the latter counted.
pub(crate) fn amount(text: &str, read: fn(&str) -> Option<i64>, illegal: &mut u64) -> u64 {
    if text.is_empty() {
        return 0;
    }
    let Some(value) = read(text) else {
        *illegal = illegal.saturating_add(1);
        return 0;
    };
    u64::try_from(value).unwrap_or(0)
}

/// An int32 of the API as a count: below zero is zero.
pub(crate) fn count(number: i64) -> u32 {
    u32::try_from(number.max(0)).unwrap_or(u32::MAX)
}

/// Requests and limits of a pod as the scheduler reckons them: its containers and sidecars together, or
/// more while an init container runs beside the sidecars started before it, if that takes more; what the
/// pod says of itself wins ([KEP-2837](https://github.com/kubernetes/enhancements/tree/master/keps/sig-node/2837-pod-level-resource-spec));
/// [overhead](https://kubernetes.io/docs/concepts/scheduling-eviction/pod-overhead/) on top, of limits
/// only where there is one.
fn resources(spec: &view::PodSpec<'_>, illegal: &mut u64) -> (Amounts, Amounts) {
    let mut read = |resources: &view::Resources<'_>| {
        [
            Amounts::of(&resources.requests, illegal),
            Amounts::of(&resources.limits, illegal),
        ]
    };
    let zero = [Amounts::default(); 2];
    let mut running = zero;
    for container in &spec.containers {
        running = plus(running, read(&container.resources));
    }
    let mut sidecars = zero;
    let mut starting = zero;
    for container in &spec.init_containers {
        let own = read(&container.resources);
        let during = plus(sidecars, own);
        if container.is_sidecar() {
            running = plus(running, own);
            sidecars = during;
        }
        starting = zip(starting, during, Amounts::max);
    }
    let containers = zip(running, starting, Amounts::max);
    let [requests, limits] = zip(containers, read(&spec.resources), Amounts::or_of_pod);
    let overhead = Amounts::of(&spec.overhead, illegal);
    let limits = limits.merge(overhead, |limit, overhead| match limit {
        0 => 0,
        limit => limit.saturating_add(overhead),
    });
    (requests.plus(overhead), limits)
}

fn plus(one: [Amounts; 2], other: [Amounts; 2]) -> [Amounts; 2] {
    zip(one, other, Amounts::plus)
}

fn zip(
    [requests, limits]: [Amounts; 2],
    [other_requests, other_limits]: [Amounts; 2],
    with: fn(Amounts, Amounts) -> Amounts,
) -> [Amounts; 2] {
    [with(requests, other_requests), with(limits, other_limits)]
}

/// The containers that run side by side.
fn side_by_side<'a, 'de>(
    spec: &'a view::PodSpec<'de>,
) -> impl Iterator<Item = &'a view::Container<'de>> {
    let sidecars = spec
        .init_containers
        .iter()
        .filter(|container| container.is_sidecar());
    spec.containers.iter().chain(sidecars)
}

fn judge_states(status: &view::PodStatus<'_>, finished: bool, signals: &mut Signals) {
    for container in status
        .container_statuses
        .iter()
        .chain(&status.init_container_statuses)
    {
        let ends = [
            &container.state.terminated,
            &container.last_state.terminated,
        ];
        let killed = ends.iter().any(|end| &*end.reason == "OOMKilled");
        signals.set_if(Signal::OomKilled, killed);
        if finished {
            continue;
        }
        match &*container.state.waiting.reason {
            "CrashLoopBackOff" => signals.set(Signal::CrashLooping),
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull" => {
                signals.set(Signal::ImagePullFailing);
            }
            _ => {}
        }
    }
    let unschedulable = condition(status, "PodScheduled")
        .is_some_and(|c| &*c.status == "False" && &*c.reason == "Unschedulable");
    signals.set_if(Signal::Unschedulable, unschedulable && !finished);
}

fn judge_spec(spec: &view::PodSpec<'_>, of_job: bool, signals: &mut Signals) {
    signals.set_if(Signal::HostNetwork, spec.host_network);
    signals.set_if(Signal::HostPid, spec.host_pid);
    signals.set_if(
        Signal::HostPath,
        spec.volumes.iter().any(|v| v.host_path.is_some()),
    );
    for container in side_by_side(spec) {
        let own = &container.security_context;
        let of_pod = &spec.security_context;
        let privileged = own.privileged == Some(true);
        let non_root = own.run_as_non_root.or(of_pod.run_as_non_root) == Some(true);
        let user = own.run_as_user.or(of_pod.run_as_user);
        let escalation = own.allow_privilege_escalation != Some(false);
        signals.set_if(Signal::Privileged, privileged);
        signals.set_if(
            Signal::RunAsRoot,
            !non_root && user.is_none_or(|user| user <= 0),
        );
        signals.set_if(Signal::PrivilegeEscalation, escalation || privileged);
        signals.set_if(Signal::MutableImageTag, is_mutable(&container.image));

        // What is no quantity is counted where the sums are made.
        let mut counted = 0;
        let mut amounts = |list| Amounts::of(list, &mut counted);
        let pod = &spec.resources;
        let requests = amounts(&container.resources.requests).or_of_pod(amounts(&pod.requests));
        let limits = amounts(&container.resources.limits).or_of_pod(amounts(&pod.limits));
        signals.set_if(Signal::NoCpuRequest, requests.cpu_millicores == 0);
        signals.set_if(Signal::NoMemoryRequest, requests.memory_bytes == 0);
        signals.set_if(Signal::NoCpuLimit, limits.cpu_millicores == 0);
        signals.set_if(Signal::NoMemoryLimit, limits.memory_bytes == 0);
    }
    if !of_job {
        let unwatched = |c: &view::Container<'_>| c.liveness_probe.is_none();
        let unasked = |c: &view::Container<'_>| c.readiness_probe.is_none();
        signals.set_if(
            Signal::NoLivenessProbe,
            spec.containers.iter().any(unwatched),
        );
        signals.set_if(
            Signal::NoReadinessProbe,
            spec.containers.iter().any(unasked),
        );
    }
}

/// Whether the same reference may be another image tomorrow: no digest, and no tag or `latest`.
///
/// A colon before the last slash is the registry's port. See
/// [image names](https://kubernetes.io/docs/concepts/containers/images/#image-names).
fn is_mutable(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let last = image.rsplit('/').next().unwrap_or(image);
    matches!(last.split_once(':'), None | Some((_, "" | "latest")))
}

fn condition<'a, 'de>(
    status: &'a view::PodStatus<'de>,
    kind: &str,
) -> Option<&'a view::Condition<'de>> {
    status
        .conditions
        .iter()
        .find(|condition| &*condition.kind == kind)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn figures(pod: &Value, belongs: Belongs) -> PodFigures {
        let pod = pod.to_string();
        PodFigures::of(&serde_json::from_str(&pod).unwrap(), belongs, &mut 0)
    }

    fn words(pod: &Value, belongs: Belongs) -> Vec<&'static str> {
        figures(pod, belongs)
            .signals
            .iter()
            .map(Signal::as_str)
            .collect()
    }

    /// Shows no signal at all, whoever it belongs to.
    fn faultless() -> Value {
        json!({
            "spec": {
                "securityContext": {"runAsNonRoot": true},
                "containers": [{
                    "image": "registry:5000/app:1.2",
                    "securityContext": {"allowPrivilegeEscalation": false},
                    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "2Gi"}},
                    "livenessProbe": {}, "readinessProbe": {"httpGet": {"port": 80}},
                }],
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        })
    }

    fn with(changes: &[(&str, Value)]) -> Value {
        let mut pod = faultless();
        for (pointer, value) in changes {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let parent = pod.pointer_mut(parent).unwrap();
            parent
                .as_object_mut()
                .unwrap()
                .insert(key.to_owned(), value.clone());
        }
        pod
    }

    #[test]
    #[allow(clippy::too_many_lines)]
    fn signals_of_the_specification() {
        const C: &str = "/spec/containers/0";
        let at = |field: &str| format!("{C}/{field}");
        for (changes, expected) in [
            (vec![], vec![]),
            (
                vec![(at("securityContext/privileged"), json!(true))],
                vec!["privileged", "privilege-escalation"],
            ),
            (
                vec![(at("securityContext"), json!(null))],
                vec!["privilege-escalation"],
            ),
            (
                vec![("/spec/securityContext".into(), json!({}))],
                vec!["run-as-root"],
            ),
            (
                vec![("/spec/securityContext".into(), json!({"runAsUser": 0}))],
                vec!["run-as-root"],
            ),
            (
                vec![("/spec/securityContext".into(), json!({"runAsUser": 1000}))],
                vec![],
            ),
            (
                vec![(at("securityContext/runAsNonRoot"), json!(false))],
                vec!["run-as-root"],
            ),
            (
                vec![
                    ("/spec/securityContext".into(), json!({"runAsUser": 1000})),
                    (at("securityContext/runAsUser"), json!(0)),
                ],
                vec!["run-as-root"],
            ),
            (
                vec![("/spec/hostNetwork".into(), json!(true))],
                vec!["host-network"],
            ),
            (
                vec![("/spec/hostPID".into(), json!(true))],
                vec!["host-pid"],
            ),
            (
                vec![("/spec/volumes".into(), json!([{"emptyDir": {}}]))],
                vec![],
            ),
            (
                vec![("/spec/volumes".into(), json!([{"hostPath": {"path": "/"}}]))],
                vec!["host-path"],
            ),
            (
                vec![(at("resources"), json!(null))],
                vec![
                    "no-cpu-request",
                    "no-memory-request",
                    "no-cpu-limit",
                    "no-memory-limit",
                ],
            ),
            (
                vec![(at("resources/requests/cpu"), json!("0"))],
                vec!["no-cpu-request"],
            ),
            (
                vec![
                    (at("resources"), json!(null)),
                    (
                        "/spec/resources".into(),
                        json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}}),
                    ),
                ],
                vec!["no-memory-request", "no-cpu-limit"],
            ),
            (
                vec![(at("livenessProbe"), json!(null))],
                vec!["no-liveness-probe"],
            ),
            (
                vec![(at("readinessProbe"), json!(null))],
                vec!["no-readiness-probe"],
            ),
            (
                vec![(at("image"), json!("registry:5000/app"))],
                vec!["mutable-image-tag"],
            ),
            // An ordinary init container is not judged, a sidecar is, but not for its probes.
            (
                vec![(
                    "/spec/initContainers".into(),
                    json!([{"image": "x", "securityContext": {"privileged": true}}]),
                )],
                vec![],
            ),
            (
                vec![(
                    "/spec/initContainers".into(),
                    json!([{"image": "x:1", "restartPolicy": "Always",
                    "securityContext": {"allowPrivilegeEscalation": false}}]),
                )],
                vec![
                    "no-cpu-request",
                    "no-memory-request",
                    "no-cpu-limit",
                    "no-memory-limit",
                ],
            ),
        ] {
            let changes: Vec<(&str, Value)> = changes
                .iter()
                .map(|(p, v)| (p.as_str(), v.clone()))
                .collect();
            assert_eq!(
                words(&with(&changes), Belongs::Nobody),
                expected,
                "{changes:?}"
            );
        }
    }

    #[test]
    fn signals_of_the_state() {
        let waiting = |reason: &str| json!([{"state": {"waiting": {"reason": reason}}}]);
        let pulls = [
            "ErrImagePull",
            "ImagePullBackOff",
            "InvalidImageName",
            "ErrImageNeverPull",
        ];
        for reason in pulls {
            let pod = with(&[("/status/containerStatuses", waiting(reason))]);
            assert_eq!(
                words(&pod, Belongs::Lasting),
                ["image-pull-failing"],
                "{reason}"
            );
        }
        for list in ["/status/containerStatuses", "/status/initContainerStatuses"] {
            let pod = with(&[(list, waiting("CrashLoopBackOff"))]);
            assert_eq!(words(&pod, Belongs::Lasting), ["crash-looping"]);
            for state in ["state", "lastState"] {
                let killed = json!([{state: {"terminated": {"reason": "OOMKilled"}}}]);
                assert_eq!(
                    words(&with(&[(list, killed)]), Belongs::Lasting),
                    ["oom-killed"]
                );
            }
        }
        let waits = |reason: &str| {
            with(&[(
                "/status/conditions",
                json!([{"type": "PodScheduled", "status": "False", "reason": reason}]),
            )])
        };
        assert_eq!(
            words(&waits("Unschedulable"), Belongs::Lasting),
            ["unschedulable"]
        );
        assert!(words(&waits("SchedulingGated"), Belongs::Lasting).is_empty());
        assert_eq!(
            words(&waits("SchedulingGated"), Belongs::Nobody),
            ["not-ready"]
        );
    }

    #[test]
    fn a_finished_pod_is_judged_only_where_nothing_replaced_it() {
        let evicted = with(&[
            ("/spec/hostNetwork", json!(true)),
            ("/spec/containers/0/livenessProbe", json!(null)),
            ("/status/phase", json!("Failed")),
            ("/status/conditions", json!([])),
            (
                "/status/containerStatuses",
                json!([{"restartCount": 3, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]),
            ),
        ]);
        assert!(words(&evicted, Belongs::Lasting).is_empty());
        assert_eq!(words(&evicted, Belongs::Job), ["host-network"]);
        assert_eq!(
            words(&evicted, Belongs::Nobody),
            ["host-network", "no-liveness-probe"]
        );
        let figures = figures(&evicted, Belongs::Lasting);
        assert_eq!(figures.requests, Amounts::default());
        assert_eq!((figures.containers, figures.restarts), (1, 3));
    }

    #[test]
    fn images() {
        let digest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
        for (image, mutable) in [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:", true),
            ("nginx:1.27", false),
            ("docker.io/library/nginx", true),
            ("registry:5000/name", true),
            ("registry:5000/name:latest", true),
            ("registry:5000/team/name:v2", false),
            ("", true),
            (&format!("nginx@sha256:{digest}"), false),
            (
                &format!("registry:5000/nginx:latest@sha256:{digest}"),
                false,
            ),
        ] {
            assert_eq!(is_mutable(image), mutable, "{image}");
        }
    }

    fn sums(spec: &Value) -> [u64; 4] {
        let figures = figures(
            &json!({"spec": spec, "status": {"phase": "Pending"}}),
            Belongs::Nobody,
        );
        let (requests, limits) = (figures.requests, figures.limits);
        [
            requests.cpu_millicores,
            requests.memory_bytes,
            limits.cpu_millicores,
            limits.memory_bytes,
        ]
    }

    fn container(cpu: &str) -> Value {
        json!({"resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> Value {
        let Value::Object(mut sidecar) = container(cpu) else {
            unreachable!()
        };
        sidecar.insert("restartPolicy".into(), json!("Always"));
        sidecar.into()
    }

    #[test]
    fn resources_as_the_scheduler_reckons() {
        let app = || json!([container("100m"), container("200m")]);
        // Sum of the containers; a smaller init container changes nothing, a larger one everything.
        assert_eq!(sums(&json!({"containers": app()})), [300, 0, 300, 0]);
        assert_eq!(
            sums(&json!({"containers": app(), "initContainers": [container("250m")]})),
            [300, 0, 300, 0]
        );
        assert_eq!(
            sums(&json!({"containers": app(), "initContainers": [container("1")]})),
            [1_000, 0, 1_000, 0]
        );
        // A sidecar counts beside the containers, and beside the init containers after it only.
        assert_eq!(
            sums(
                &json!({"containers": app(), "initContainers": [container("350m"), sidecar("100m")]})
            ),
            [400, 0, 400, 0]
        );
        assert_eq!(
            sums(
                &json!({"containers": app(), "initContainers": [sidecar("100m"), container("350m")]})
            ),
            [450, 0, 450, 0]
        );
        // The pod's own word wins; overhead comes on top, of limits only where there is one.
        assert_eq!(
            sums(
                &json!({"containers": app(), "overhead": {"cpu": "10m", "memory": "1Ki"},
                "resources": {"requests": {"cpu": "1", "memory": "1Mi"}}})
            ),
            [1_010, (1 << 20) + (1 << 10), 310, 0]
        );
        // Nothing overflows.
        assert_eq!(
            sums(&json!({"containers": [container("9E"), container("9E"), container("9E")]})),
            [u64::MAX, 0, u64::MAX, 0]
        );
    }

    #[test]
    fn an_illegal_quantity_is_absent_and_counted_once() {
        let pod = json!({"spec": {"containers": [{"resources": {"requests": {"cpu": "one", "memory": "1Gi"}}}]}});
        let pod = pod.to_string();
        let mut illegal = 0;
        let figures = PodFigures::of(
            &serde_json::from_str(&pod).unwrap(),
            Belongs::Nobody,
            &mut illegal,
        );
        assert_eq!(illegal, 1);
        assert_eq!(
            figures.requests,
            Amounts {
                cpu_millicores: 0,
                memory_bytes: 1 << 30
            }
        );
        assert!(figures.signals.contains(Signal::NoCpuRequest));
    }
}
