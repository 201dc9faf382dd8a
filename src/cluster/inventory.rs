//! The figures of a cluster: of it as a whole, of each namespace, of each workload.
//!
//! Numbers and names only. A workload costs 48 bytes and its name (at most 72 while a list grows), a
//! namespace some 350 and its name; a pod, a `ReplicaSet` or a Job of a `CronJob` costs nothing.

use std::collections::BTreeMap;
use std::fmt;

use super::nodes::{Usage, Used};
use super::pod::{Amounts, Phase, PodFigures};
use super::signal::{Signal, SignalCounts, Signals};

/// Everything known of a cluster at one time.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) cluster: ClusterFigures,
    pub(super) namespaces: BTreeMap<Box<str>, Box<Namespace>>,
}

/// The cluster as a whole. Excluded namespaces are in the figures of its nodes, which are shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ClusterFigures {
    /// `None` when the server's answer is no version.
    pub(crate) kubernetes_version: Option<KubernetesVersion>,
    pub(crate) nodes: u32,
    pub(crate) nodes_ready: u32,
    pub(crate) cpu_capacity_millicores: u64,
    pub(crate) memory_capacity_bytes: u64,
    pub(crate) cpu_allocatable_millicores: u64,
    pub(crate) memory_allocatable_bytes: u64,
    /// Of the nodes that have metrics, in percent of what is allocatable on them.
    pub(crate) usage: Usage,
}

/// `MAJOR.MINOR.PATCH`, without what vendors put behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KubernetesVersion([u32; 3]);

/// The figures of one namespace.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Namespace {
    pub(crate) deployments: u32,
    pub(crate) stateful_sets: u32,
    pub(crate) daemon_sets: u32,
    pub(crate) cron_jobs: u32,
    /// All Jobs, those of `CronJob`s included.
    pub(crate) jobs: u32,
    pub(crate) replica_sets: u32,
    pub(crate) services: u32,
    pub(crate) persistent_volume_claims: u32,
    pub(crate) pods: PodTotals,
    pub(super) used: Option<Used>,
    /// Sorted by kind and name.
    pub(super) workloads: Vec<Workload>,
    /// Whether the list of namespaces had it; the others are known from what is in them.
    pub(super) listed: bool,
}

/// Sums over the pods of a namespace.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct PodTotals {
    pub(crate) by_phase: PodsByPhase,
    /// Containers and sidecars of all pods, but no other init containers.
    pub(crate) containers: u32,
    /// Of all containers and init containers.
    pub(crate) restarts: u32,
    /// Of the pods that are not finished.
    pub(crate) requests: Amounts,
    /// Of the pods that are not finished.
    pub(crate) limits: Amounts,
    /// Of the pods in phase Running.
    running_requests: Amounts,
    /// What the pods show that belong to no workload.
    bare: SignalCounts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodsByPhase {
    pub(crate) pending: u32,
    pub(crate) running: u32,
    pub(crate) succeeded: u32,
    pub(crate) failed: u32,
    pub(crate) unknown: u32,
}

/// The kinds a pod can count for, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WorkloadKind {
    Deployment,
    StatefulSet,
    DaemonSet,
    CronJob,
    /// One that no `CronJob` made.
    Job,
}

/// The figures of one workload.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    name: Box<str>,
    kind: WorkloadKind,
    /// How many pods it wants: `spec.replicas`, or `desiredNumberScheduled` of a `DaemonSet`; of a Job the
    /// pods it keeps now (`status.active`), of a `CronJob` those of its Jobs.
    pub(crate) replicas: u32,
    /// How many of them are ready.
    pub(crate) ready_replicas: u32,
    pub(super) template_containers: u32,
    pub(super) seen: Seen,
}

/// What a workload's pods add to it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    containers: u32,
    restarts: u32,
    signals: Signals,
}

impl Inventory {
    /// The namespaces by name, and their figures.
    pub(crate) fn namespaces(&self) -> impl ExactSizeIterator<Item = (&str, &Namespace)> {
        self.namespaces
            .iter()
            .map(|(name, namespace)| (&**name, &**namespace))
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name).map(|namespace| &**namespace)
    }
}

impl KubernetesVersion {
    /// Reads a `gitVersion` such as `v1.36.2`, `v1.33.4+k3s1` or `v1.32.5-eks-5d4a308`.
    pub(crate) fn parse(git_version: &str) -> Option<Self> {
        let mut rest = git_version.strip_prefix('v').unwrap_or(git_version);
        let mut numbers = [0; 3];
        for (at, number) in numbers.iter_mut().enumerate() {
            if at > 0 {
                rest = rest.strip_prefix('.')?;
            }
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            let (digits, behind) = rest.split_at_checked(end)?;
            *number = digits.parse().ok()?;
            rest = behind;
        }
        Some(Self(numbers))
    }
}

impl KubernetesVersion {
    pub(crate) const fn numbers(self) -> [u32; 3] {
        self.0
    }
}

impl fmt::Display for KubernetesVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl Namespace {
    /// Its workloads by kind and name.
    pub(crate) fn workloads(&self) -> &[Workload] {
        &self.workloads
    }

    pub(crate) fn workload(&self, kind: WorkloadKind, name: &str) -> Option<&Workload> {
        self.position(kind, name)
            .ok()
            .and_then(|at| self.workloads.get(at))
    }

    /// How many workloads and bare pods show each signal.
    pub(crate) fn signals(&self) -> SignalCounts {
        let mut counts = self.pods.bare.clone();
        for workload in &self.workloads {
            counts.add(workload.signals());
        }
        counts
    }

    /// Usage of its pods in percent of what its running pods request.
    pub(crate) fn usage(&self) -> Usage {
        self.used.map_or_else(Usage::default, |used| {
            used.of_amounts(self.pods.running_requests)
        })
    }

    /// Adds a workload; false if there is one of its kind and name already.
    pub(super) fn insert(&mut self, workload: Workload) -> bool {
        let Err(at) = self.position(workload.kind, &workload.name) else {
            return false;
        };
        // Doubling would leave up to half of the table unused; lists are sorted, so `at` is the end.
        if self.workloads.len() == self.workloads.capacity() {
            self.workloads.reserve_exact(self.workloads.len() / 2 + 1);
        }
        self.workloads.insert(at, workload);
        true
    }

    pub(super) fn workload_mut(&mut self, kind: WorkloadKind, name: &str) -> Option<&mut Workload> {
        let at = self.position(kind, name).ok()?;
        self.workloads.get_mut(at)
    }

    fn position(&self, kind: WorkloadKind, name: &str) -> Result<usize, usize> {
        self.workloads
            .binary_search_by(|other| (other.kind, &*other.name).cmp(&(kind, name)))
    }

    /// Whether it is known from the list of namespaces or has anything in it.
    pub(super) fn exists(&self) -> bool {
        self.listed || *self != Self::default()
    }
}

impl PodTotals {
    pub(super) fn add(&mut self, pod: &PodFigures) {
        let phases = &mut self.by_phase;
        let phase = match pod.phase {
            Phase::Pending => &mut phases.pending,
            Phase::Running => &mut phases.running,
            Phase::Succeeded => &mut phases.succeeded,
            Phase::Failed => &mut phases.failed,
            Phase::Unknown => &mut phases.unknown,
        };
        *phase = phase.saturating_add(1);
        self.containers = self.containers.saturating_add(pod.containers);
        self.restarts = self.restarts.saturating_add(pod.restarts);
        self.requests = self.requests.plus(pod.requests);
        self.limits = self.limits.plus(pod.limits);
        if pod.phase == Phase::Running {
            self.running_requests = self.running_requests.plus(pod.requests);
        }
    }

    pub(super) fn add_bare(&mut self, signals: Signals) {
        self.bare.add(signals);
    }
}

impl PodsByPhase {
    /// All pods of the namespace.
    pub(crate) fn total(&self) -> u32 {
        [self.running, self.succeeded, self.failed, self.unknown]
            .into_iter()
            .fold(self.pending, u32::saturating_add)
    }
}

impl WorkloadKind {
    /// The kind as it stands in an opaque id.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::DaemonSet => "daemonset",
            Self::CronJob => "cronjob",
            Self::Job => "job",
        }
    }

    /// The kind of that name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Deployment,
            Self::StatefulSet,
            Self::DaemonSet,
            Self::CronJob,
            Self::Job,
        ];
        all.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Workload {
    pub(super) fn new(kind: WorkloadKind, name: &str, template_containers: usize) -> Self {
        Self {
            name: name.into(),
            kind,
            replicas: 0,
            ready_replicas: 0,
            template_containers: u32::try_from(template_containers).unwrap_or(u32::MAX),
            seen: Seen::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn kind(&self) -> WorkloadKind {
        self.kind
    }

    /// Containers that run side by side in one pod: as its template says, or as its largest pod has,
    /// because a sidecar injected on admission is in no template.
    pub(crate) fn containers(&self) -> u32 {
        self.template_containers.max(self.seen.containers)
    }

    /// Restarts of all containers of all its pods.
    pub(crate) fn restarts(&self) -> u32 {
        self.seen.restarts
    }

    /// What its pods show, and what it shows itself.
    pub(crate) fn signals(&self) -> Signals {
        let mut signals = self.seen.signals;
        let scales = matches!(
            self.kind,
            WorkloadKind::Deployment | WorkloadKind::StatefulSet
        );
        signals.set_if(Signal::SingleReplica, scales && self.replicas == 1);
        signals.set_if(Signal::NotReady, self.replicas > self.ready_replicas);
        signals
    }
}

impl Seen {
    pub(super) fn add(&mut self, pod: &PodFigures) {
        self.containers = self.containers.max(pod.containers);
        self.restarts = self.restarts.saturating_add(pod.restarts);
        self.signals.add(pod.signals);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, version) in [
            ("v1.36.2", Some("1.36.2")),
            ("1.36.2", Some("1.36.2")),
            ("v1.33.4+k3s1", Some("1.33.4")),
            ("v1.32.5-eks-5d4a308", Some("1.32.5")),
            ("v1.31.0-gke.1577000", Some("1.31.0")),
            ("v1.36", None),
            ("v1.36.x", None),
            ("v1.36.99999999999", None),
            ("v1..2", None),
            ("internal build of Jane", None),
            ("", None),
        ] {
            let parsed = KubernetesVersion::parse(text).map(|version| version.to_string());
            assert_eq!(parsed.as_deref(), version, "{text}");
        }
    }

    #[test]
    fn a_workloads_own_signals() {
        use Signal::{NotReady, SingleReplica};
        let signals = |kind, replicas, ready_replicas| {
            let workload = Workload {
                replicas,
                ready_replicas,
                ..Workload::new(kind, "x", 1)
            };
            workload.signals().iter().collect::<Vec<_>>()
        };
        assert_eq!(signals(WorkloadKind::Deployment, 0, 0), []);
        assert_eq!(signals(WorkloadKind::Deployment, 1, 1), [SingleReplica]);
        assert_eq!(
            signals(WorkloadKind::StatefulSet, 1, 0),
            [SingleReplica, NotReady]
        );
        assert_eq!(signals(WorkloadKind::Deployment, 3, 2), [NotReady]);
        assert_eq!(signals(WorkloadKind::Deployment, 2, 3), []);
        assert_eq!(signals(WorkloadKind::DaemonSet, 1, 1), []);
        assert_eq!(signals(WorkloadKind::Job, 1, 0), [NotReady]);
    }

    #[test]
    fn kinds_are_read_back() {
        for word in ["deployment", "statefulset", "daemonset", "cronjob", "job"] {
            assert_eq!(
                WorkloadKind::parse(word).map(WorkloadKind::as_str),
                Some(word)
            );
        }
        assert_eq!(WorkloadKind::parse("pod"), None);
    }

    /// The budget is 200 bytes a workload, of which the name may take 40 and its allocation 16.
    #[test]
    fn a_workload_is_small() {
        assert!(size_of::<Workload>() <= 48);
        let mut namespace = Namespace::default();
        for number in 0..10_000 {
            let name = format!("{number:040}");
            assert!(namespace.insert(Workload::new(WorkloadKind::Deployment, &name, 1)));
            let (length, capacity) = (namespace.workloads.len(), namespace.workloads.capacity());
            assert!(capacity <= length + length / 2, "{capacity} for {length}");
            // At its worst: the old table, the new one, and the names.
            assert!(
                48 * (length + capacity) / length + 40 + 16 <= 200,
                "{length}"
            );
        }
        assert!(size_of::<Namespace>() <= 352, "{}", size_of::<Namespace>());
    }

    #[test]
    fn workloads_are_found_in_any_order_of_insertion() {
        let mut namespace = Namespace::default();
        for kind in [WorkloadKind::Job, WorkloadKind::Deployment] {
            for name in ["b", "a", "c"] {
                assert!(namespace.insert(Workload::new(kind, name, 1)));
            }
        }
        assert!(!namespace.insert(Workload::new(WorkloadKind::Job, "a", 1)));
        for name in ["a", "b", "c"] {
            assert_eq!(
                namespace
                    .workload_mut(WorkloadKind::Job, name)
                    .unwrap()
                    .name(),
                name
            );
        }
        assert!(namespace.workload(WorkloadKind::CronJob, "a").is_none());
    }
}
