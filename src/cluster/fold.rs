//! Folds one object after another into an [`Inventory`].
//!
//! The order of the lists matters: workloads before the Jobs and pods that count for them, pods before
//! their metrics. A list can start over, so what each kind has added can be forgotten alone.

use std::collections::{BTreeMap, BTreeSet};

use super::inventory::{
    ClusterFigures, Inventory, KubernetesVersion, Namespace, PodTotals, Seen, Workload,
    WorkloadKind,
};
use super::nodes::{NodeTally, Used};
use super::pod::{Belongs, PodFigures, count};
use super::view;

/// The longest name that any object may have (a DNS subdomain, RFC 1123).
const MAX_NAME: usize = 253;

/// An inventory in the making.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) nodes: NodeTally,
    namespaces: BTreeMap<Box<str>, Box<Namespace>>,
    exclude: BTreeSet<String>,
    /// By namespace, the Jobs whose names do not tell their `CronJob`: `kubectl create job --from` names
    /// them freely, while the controller's are the `CronJob`'s name and a number.
    adopted: BTreeMap<Box<str>, BTreeMap<Box<str>, Box<str>>>,
}

/// The kinds that are only counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counted {
    ReplicaSets,
    Services,
    VolumeClaims,
}

/// Why an object cannot be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) &'static str);

impl Fold {
    /// Leaves out the namespaces in `exclude` altogether.
    pub(crate) fn new(exclude: BTreeSet<String>) -> Self {
        Self {
            exclude,
            ..Self::default()
        }
    }

    pub(crate) fn finish(self, version: Option<KubernetesVersion>) -> Inventory {
        let Self {
            nodes,
            mut namespaces,
            ..
        } = self;
        // A namespace of a list that started over may have been deleted since.
        namespaces.retain(|_, namespace| namespace.exists());
        let cluster = ClusterFigures {
            kubernetes_version: version,
            nodes: nodes.nodes,
            nodes_ready: nodes.ready,
            cpu_capacity_millicores: nodes.capacity.cpu_millicores,
            memory_capacity_bytes: nodes.capacity.memory_bytes,
            cpu_allocatable_millicores: nodes.allocatable.cpu_millicores,
            memory_allocatable_bytes: nodes.allocatable.memory_bytes,
            usage: nodes.usage(),
        };
        Inventory {
            cluster,
            namespaces,
        }
    }

    /// How many namespaces are known so far.
    pub(crate) fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// The names of the namespaces known so far.
    pub(crate) fn namespace_names(&self) -> Vec<Box<str>> {
        self.namespaces.keys().cloned().collect()
    }

    pub(crate) fn add_node(
        &mut self,
        node: &view::Node<'_>,
        illegal: &mut u64,
    ) -> Result<(), Refused> {
        name(&node.metadata)?;
        self.nodes.add(node, illegal);
        Ok(())
    }

    pub(crate) fn forget_nodes(&mut self) {
        self.nodes = NodeTally::default();
    }

    pub(crate) fn add_namespace(&mut self, namespace: &view::Named<'_>) -> Result<(), Refused> {
        if let Some(namespace) = self.namespace(&namespace.metadata.name)? {
            namespace.listed = true;
        }
        Ok(())
    }

    /// Adds `number` objects of a kind that is only counted.
    pub(crate) fn add_counted(
        &mut self,
        kind: Counted,
        namespace: &str,
        number: u32,
    ) -> Result<(), Refused> {
        if let Some(namespace) = self.namespace(namespace)? {
            let count = kind.of(namespace);
            *count = count.saturating_add(number);
        }
        Ok(())
    }

    /// Adds a Deployment, `StatefulSet` or `DaemonSet`.
    pub(crate) fn add_workload(
        &mut self,
        kind: WorkloadKind,
        object: &view::Workload<'_>,
    ) -> Result<(), Refused> {
        let view::Workload {
            metadata,
            spec,
            status,
        } = object;
        let mut workload = Workload::new(kind, name(metadata)?, spec.template.running_containers());
        (workload.replicas, workload.ready_replicas) = match kind {
            WorkloadKind::DaemonSet => (
                count(status.desired_number_scheduled),
                count(status.number_ready),
            ),
            // The API server writes the default of 1 into every object.
            _ => (
                count(spec.replicas.unwrap_or(1)),
                count(status.ready_replicas),
            ),
        };
        self.insert(&metadata.namespace, workload)
    }

    pub(crate) fn add_cron_job(&mut self, cron_job: &view::CronJob<'_>) -> Result<(), Refused> {
        let template = &cron_job.spec.job_template.spec.template;
        let metadata = &cron_job.metadata;
        let workload = Workload::new(
            WorkloadKind::CronJob,
            name(metadata)?,
            template.running_containers(),
        );
        self.insert(&metadata.namespace, workload)
    }

    /// Adds a Job: a workload of its own, or else part of its `CronJob`, for its name lasts no longer
    /// than itself.
    pub(crate) fn add_job(&mut self, job: &view::Workload<'_>) -> Result<(), Refused> {
        let view::Workload {
            metadata,
            spec,
            status,
        } = job;
        let (active, ready) = (count(status.active), count(status.ready));
        let job_name = name(metadata)?;
        let owner = metadata
            .controller()
            .filter(|owner| owner.is("batch", "CronJob"));
        let Some(owner) = owner else {
            let containers = spec.template.running_containers();
            let mut workload = Workload::new(WorkloadKind::Job, job_name, containers);
            (workload.replicas, workload.ready_replicas) = (active, ready);
            return self.insert(&metadata.namespace, workload);
        };
        let cron_job_name = checked(&owner.name)?;
        let Some(namespace) = self.namespace(&metadata.namespace)? else {
            return Ok(());
        };
        namespace.jobs = namespace.jobs.saturating_add(1);
        if let Some(cron_job) = namespace.workload_mut(WorkloadKind::CronJob, cron_job_name) {
            cron_job.replicas = cron_job.replicas.saturating_add(active);
            cron_job.ready_replicas = cron_job.ready_replicas.saturating_add(ready);
        }
        if cron_job_by_name(job_name) != Some(cron_job_name) {
            let jobs = self
                .adopted
                .entry((&*metadata.namespace).into())
                .or_default();
            jobs.insert(job_name.into(), cron_job_name.into());
        }
        Ok(())
    }

    /// Adds a pod to its namespace, and to the workload that controls it.
    ///
    /// A `ReplicaSet`'s pod counts for the Deployment whose name is the `ReplicaSet`'s less the hash in the
    /// pod's label; a Job's for its `CronJob` or the Job itself. What has no controller, or one that is
    /// not in the inventory, is bare.
    pub(crate) fn add_pod(
        &mut self,
        pod: &view::Pod<'_>,
        illegal: &mut u64,
    ) -> Result<(), Refused> {
        name(&pod.metadata)?;
        let adopted = self.adopted.get(&*pod.metadata.namespace);
        let owner = Owner::of(&pod.metadata, adopted);
        let Some(namespace) = entry(&mut self.namespaces, &self.exclude, &pod.metadata.namespace)?
        else {
            return Ok(());
        };
        let workload = match owner {
            Owner::Workload(kind, name) => namespace.workload_mut(kind, name),
            // The Job itself comes first: any Job may be called like one of a CronJob.
            Owner::Job { name, cron_job } => {
                let kind = match namespace.workload(WorkloadKind::Job, name) {
                    Some(_) => Some((WorkloadKind::Job, name)),
                    None => cron_job.map(|cron_job| (WorkloadKind::CronJob, cron_job)),
                };
                kind.and_then(|(kind, name)| namespace.workload_mut(kind, name))
            }
            Owner::Nobody => None,
        };
        let belongs = match (&owner, &workload) {
            (Owner::Job { .. }, _) => Belongs::Job,
            (_, Some(_)) => Belongs::Lasting,
            (_, None) => Belongs::Nobody,
        };
        let figures = PodFigures::of(pod, belongs, illegal);
        match workload {
            Some(workload) => workload.seen.add(&figures),
            None => namespace.pods.add_bare(figures.signals),
        }
        namespace.pods.add(&figures);
        Ok(())
    }

    /// Adds the usage of one pod to its namespace.
    pub(crate) fn add_pod_metrics(
        &mut self,
        metrics: &view::PodMetrics<'_>,
        illegal: &mut u64,
    ) -> Result<(), Refused> {
        let Some(namespace) = self.namespace(&metrics.metadata.namespace)? else {
            return Ok(());
        };
        let used = namespace.used.get_or_insert_default();
        for container in &metrics.containers {
            *used = used.plus(Used::of(&container.usage, illegal));
        }
        Ok(())
    }

    pub(crate) fn forget_namespaces(&mut self) {
        self.each(|namespace| namespace.listed = false);
    }

    pub(crate) fn forget_counted(&mut self, kind: Counted) {
        self.each(|namespace| *kind.of(namespace) = 0);
    }

    pub(crate) fn forget_workloads(&mut self, kind: WorkloadKind) {
        self.each(|namespace| {
            namespace
                .workloads
                .retain(|workload| workload.kind() != kind);
            *kind.of(namespace) = 0;
        });
        if kind == WorkloadKind::Job {
            self.adopted.clear();
            self.each(|namespace| {
                let cron_jobs = namespace.workloads.iter_mut();
                for cron_job in cron_jobs.filter(|w| w.kind() == WorkloadKind::CronJob) {
                    (cron_job.replicas, cron_job.ready_replicas) = (0, 0);
                }
            });
        }
    }

    pub(crate) fn forget_pods(&mut self) {
        self.each(|namespace| {
            namespace.pods = PodTotals::default();
            for workload in &mut namespace.workloads {
                workload.seen = Seen::default();
            }
        });
    }

    pub(crate) fn forget_pod_metrics(&mut self) {
        self.each(|namespace| namespace.used = None);
    }

    fn insert(&mut self, namespace: &str, workload: Workload) -> Result<(), Refused> {
        if let Some(namespace) = self.namespace(namespace)? {
            let count = workload.kind().of(namespace);
            *count = count.saturating_add(1);
            namespace.insert(workload);
        }
        Ok(())
    }

    fn namespace(&mut self, name: &str) -> Result<Option<&mut Namespace>, Refused> {
        entry(&mut self.namespaces, &self.exclude, name)
    }

    fn each(&mut self, change: impl FnMut(&mut Namespace)) {
        self.namespaces
            .values_mut()
            .map(|namespace| &mut **namespace)
            .for_each(change);
    }
}

impl Counted {
    fn of(self, namespace: &mut Namespace) -> &mut u32 {
        match self {
            Self::ReplicaSets => &mut namespace.replica_sets,
            Self::Services => &mut namespace.services,
            Self::VolumeClaims => &mut namespace.persistent_volume_claims,
        }
    }
}

impl WorkloadKind {
    /// The namespace's count of this kind.
    fn of(self, namespace: &mut Namespace) -> &mut u32 {
        match self {
            Self::Deployment => &mut namespace.deployments,
            Self::StatefulSet => &mut namespace.stateful_sets,
            Self::DaemonSet => &mut namespace.daemon_sets,
            Self::CronJob => &mut namespace.cron_jobs,
            Self::Job => &mut namespace.jobs,
        }
    }
}

/// What the metadata of a pod says about its workload.
enum Owner<'a> {
    Workload(WorkloadKind, &'a str),
    Job {
        name: &'a str,
        cron_job: Option<&'a str>,
    },
    Nobody,
}

impl<'a> Owner<'a> {
    fn of(
        metadata: &'a view::ObjectMeta<'_>,
        adopted: Option<&'a BTreeMap<Box<str>, Box<str>>>,
    ) -> Self {
        let Some(owner) = metadata.controller() else {
            return Self::Nobody;
        };
        let name = &*owner.name;
        if owner.is("apps", "ReplicaSet") {
            let hash = &*metadata.labels.pod_template_hash;
            let deployment = name
                .strip_suffix(hash)
                .and_then(|name| name.strip_suffix('-'));
            deployment.map_or(Self::Nobody, |name| {
                Self::Workload(WorkloadKind::Deployment, name)
            })
        } else if owner.is("apps", "StatefulSet") {
            Self::Workload(WorkloadKind::StatefulSet, name)
        } else if owner.is("apps", "DaemonSet") {
            Self::Workload(WorkloadKind::DaemonSet, name)
        } else if owner.is("batch", "Job") {
            let adopted = adopted
                .and_then(|jobs| jobs.get(name))
                .map(|cron_job| &**cron_job);
            Self::Job {
                name,
                cron_job: adopted.or_else(|| cron_job_by_name(name)),
            }
        } else {
            Self::Nobody
        }
    }
}

/// The `CronJob` whose controller names its Jobs like this: `<cronjob>-<minutes since 1970>`.
fn cron_job_by_name(job: &str) -> Option<&str> {
    let (cron_job, minutes) = job.rsplit_once('-')?;
    let number = !minutes.is_empty() && minutes.bytes().all(|byte| byte.is_ascii_digit());
    number.then_some(cron_job)
}

/// The figures of a namespace, unless it is excluded.
///
/// A namespace is counted as soon as anything is found in it, also when the list of namespaces did not
/// have it (it is newer than that list, or that list is forbidden).
fn entry<'a>(
    namespaces: &'a mut BTreeMap<Box<str>, Box<Namespace>>,
    exclude: &BTreeSet<String>,
    name: &str,
) -> Result<Option<&'a mut Namespace>, Refused> {
    let name = checked(name)?;
    if exclude.contains(name) {
        return Ok(None);
    }
    // One look-up more than `entry`, but no copy of the name for each object.
    if !namespaces.contains_key(name) {
        namespaces.insert(name.into(), Box::default());
    }
    Ok(namespaces.get_mut(name).map(|namespace| &mut **namespace))
}

fn name<'a>(metadata: &'a view::ObjectMeta<'_>) -> Result<&'a str, Refused> {
    checked(&metadata.name)
}

fn checked(name: &str) -> Result<&str, Refused> {
    match name.len() {
        0 => Err(Refused("it has no name or no namespace")),
        1..=MAX_NAME => Ok(name),
        _ => Err(Refused("a name in it is longer than 253 bytes")),
    }
}

/// An inventory of namespaces and the names of their Deployments, for tests elsewhere.
#[cfg(test)]
pub(crate) fn inventory_of(namespaces: &[(&str, &[&str])]) -> Inventory {
    use serde_json::json;

    use super::listing::tests::feed;
    use super::listing::{Namespaces, Workloads};

    let mut fold = Fold::default();
    for (namespace, deployments) in namespaces {
        let named = json!({"metadata": {"name": namespace}});
        feed(&mut fold, Namespaces, &[named]);
        for name in *deployments {
            let deployment = json!({"metadata": {"name": name, "namespace": namespace}});
            let kind = WorkloadKind::Deployment;
            feed(&mut fold, Workloads(kind), &[deployment]);
        }
    }
    fold.finish(None)
}

/// An inventory of Jobs that belong to nothing, for tests elsewhere.
#[cfg(test)]
pub(crate) fn inventory_of_jobs(namespace: &str, jobs: &[&str]) -> Inventory {
    use serde_json::json;

    use super::listing::tests::feed;
    use super::listing::{Jobs, Namespaces};

    let mut fold = Fold::default();
    feed(
        &mut fold,
        Namespaces,
        &[json!({"metadata": {"name": namespace}})],
    );
    for name in jobs {
        let job = json!({"metadata": {"name": name, "namespace": namespace}});
        feed(&mut fold, Jobs, &[job]);
    }
    fold.finish(None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::super::listing::tests::feed;
    use super::super::listing::{
        CronJobs, Jobs, Kind as _, Names, Namespaces, PodUsage, Pods, Workloads,
    };
    use super::super::nodes::Usage;
    use super::super::signal::Signal;
    use super::*;

    fn owner(version: &str, kind: &str, name: &str) -> Value {
        json!([{"apiVersion": version, "kind": kind, "name": name, "controller": true}])
    }

    /// A pod in namespace `a` that restarted once, so that it is seen where it counts.
    fn pod(name: &str, owner: &Value, hash: &str) -> Value {
        json!({
            "metadata": {"name": name, "namespace": "a", "ownerReferences": owner, "labels": {"pod-template-hash": hash}},
            "spec": {"containers": [{}, {}]},
            "status": {"phase": "Running", "containerStatuses": [{"restartCount": 1}]},
        })
    }

    fn object(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "a"}, "spec": {"template": {"spec": {"containers": [{}]}}}})
    }

    fn restarts(inventory: &Inventory, kind: WorkloadKind, name: &str) -> Option<u32> {
        inventory
            .namespace("a")
            .unwrap()
            .workload(kind, name)
            .map(Workload::restarts)
    }

    #[test]
    fn a_pod_counts_for_its_controller() {
        let mut fold = Fold::default();
        feed(
            &mut fold,
            Workloads(WorkloadKind::Deployment),
            &[object("web"), object("web-5d8")],
        );
        feed(
            &mut fold,
            Workloads(WorkloadKind::StatefulSet),
            &[object("web")],
        );
        feed(
            &mut fold,
            Workloads(WorkloadKind::DaemonSet),
            &[object("web")],
        );
        let pods = [
            pod("1", &owner("apps/v1", "ReplicaSet", "web-5d8"), "5d8"),
            pod("2", &owner("apps/v1", "ReplicaSet", "web-5d8-77f"), "77f"),
            pod("3", &owner("apps/v1", "StatefulSet", "web"), ""),
            pod("4", &owner("apps/v1", "DaemonSet", "web"), ""),
            // Bare: no such Deployment, no hash, someone else's kind, an owner that is no controller.
            pod("5", &owner("apps/v1", "ReplicaSet", "gone-5d8"), "5d8"),
            pod("6", &owner("apps/v1", "ReplicaSet", "web"), ""),
            pod(
                "7",
                &owner("argoproj.io/v1", "ReplicaSet", "web-5d8"),
                "5d8",
            ),
            pod(
                "8",
                &json!([{"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "web"}]),
                "",
            ),
            pod("9", &owner("v1", "Node", "edge-1"), ""),
            pod("10", &json!(null), ""),
        ];
        feed(&mut fold, Pods, &pods);
        let inventory = fold.finish(None);
        for (kind, name) in [
            (WorkloadKind::Deployment, "web"),
            (WorkloadKind::Deployment, "web-5d8"),
            (WorkloadKind::StatefulSet, "web"),
            (WorkloadKind::DaemonSet, "web"),
        ] {
            assert_eq!(restarts(&inventory, kind, name), Some(1), "{kind:?} {name}");
        }
        let a = inventory.namespace("a").unwrap();
        assert_eq!(
            (a.pods.by_phase.running, a.pods.containers, a.pods.restarts),
            (10, 20, 10)
        );
        // Four workloads and six bare pods.
        let counts = a.signals();
        let of = |signal| {
            counts
                .iter()
                .find(|(s, _)| *s == signal)
                .map(|(_, count)| count)
        };
        assert_eq!(of(Signal::RunAsRoot), Some(10));
        // None of the bare pods is Ready; of the workloads three want one replica and have none.
        assert_eq!(of(Signal::NotReady), Some(9));
        assert_eq!(
            a.workloads().iter().map(Workload::containers).max(),
            Some(2)
        );
    }

    #[test]
    fn a_jobs_pod_counts_for_the_cron_job() {
        let mut fold = Fold::default();
        feed(&mut fold, CronJobs, &[object("tick")]);
        let job = |name: &str, owner: Value| json!({"metadata": {"name": name, "namespace": "a", "ownerReferences": owner}, "status": {"active": 2, "ready": 1}});
        let of_tick = || owner("batch/v1", "CronJob", "tick");
        let jobs = [
            job("by-hand", of_tick()),
            job("once", json!(null)),
            job("tick-100", of_tick()),
            job("tick-7", json!([])),
        ];
        feed(&mut fold, Jobs, &jobs);
        let pods: Vec<Value> = [
            "by-hand", "once", "tick-100", "tick-101", "tick-7", "tick-x", "other-1",
        ]
        .map(|job| pod(job, &owner("batch/v1", "Job", job), ""))
        .into();
        feed(&mut fold, Pods, &pods);
        let inventory = fold.finish(None);
        let a = inventory.namespace("a").unwrap();
        assert_eq!((a.jobs, a.cron_jobs), (4, 1));
        // by-hand, tick-100 and tick-101, a Job newer than the list; tick-7 only looks like one.
        assert_eq!(restarts(&inventory, WorkloadKind::CronJob, "tick"), Some(3));
        assert_eq!(restarts(&inventory, WorkloadKind::Job, "once"), Some(1));
        assert_eq!(restarts(&inventory, WorkloadKind::Job, "tick-7"), Some(1));
        assert_eq!(a.workloads().len(), 3);
        let tick = a.workload(WorkloadKind::CronJob, "tick").unwrap();
        assert_eq!((tick.replicas, tick.ready_replicas), (4, 2));
        assert!(!tick.signals().contains(Signal::NoReadinessProbe));
    }

    #[test]
    fn excluded_namespaces_leave_no_trace() {
        let mut fold = Fold::new(BTreeSet::from(["a".to_owned()]));
        feed(
            &mut fold,
            Namespaces,
            &[
                json!({"metadata": {"name": "a"}}),
                json!({"metadata": {"name": "b"}}),
            ],
        );
        feed(
            &mut fold,
            Workloads(WorkloadKind::Deployment),
            &[object("web")],
        );
        feed(&mut fold, CronJobs, &[object("tick")]);
        feed(&mut fold, Jobs, &[object("once")]);
        feed(&mut fold, Names(Counted::Services), &[object("web")]);
        feed(&mut fold, Pods, &[pod("1", &json!(null), "")]);
        feed(&mut fold, PodUsage, &[object("1")]);
        let inventory = fold.finish(None);
        let names: Vec<&str> = inventory.namespaces().map(|(name, _)| name).collect();
        assert_eq!(names, ["b"]);
        assert_eq!(
            inventory.namespace("b"),
            Some(&Namespace {
                listed: true,
                ..Namespace::default()
            })
        );
    }

    #[test]
    fn a_namespace_is_counted_when_anything_is_in_it() {
        let mut fold = Fold::default();
        feed(
            &mut fold,
            Namespaces,
            &[json!({"metadata": {"name": "listed"}})],
        );
        feed(&mut fold, Pods, &[pod("1", &json!(null), "")]);
        let inventory = fold.finish(None);
        assert!(
            inventory
                .namespaces()
                .map(|(name, _)| name)
                .eq(["a", "listed"])
        );
    }

    #[test]
    fn what_a_list_added_can_be_forgotten() {
        let mut fold = Fold::default();
        let deployments = Workloads(WorkloadKind::Deployment);
        let job = json!({"metadata": {"name": "j", "namespace": "a", "ownerReferences": owner("batch/v1", "CronJob", "tick")},
            "status": {"active": 1}});
        let usage = json!({"metadata": {"name": "1", "namespace": "a"}, "containers": [{"usage": {"cpu": "1"}}]});
        feed(&mut fold, Namespaces, &[json!({"metadata": {"name": "a"}})]);
        feed(&mut fold, deployments, &[object("web")]);
        feed(&mut fold, CronJobs, &[object("tick")]);
        feed(&mut fold, Jobs, &[job]);
        feed(&mut fold, Names(Counted::ReplicaSets), &[object("web-5d8")]);
        feed(
            &mut fold,
            Pods,
            &[
                pod("1", &owner("apps/v1", "ReplicaSet", "web-5d8"), "5d8"),
                pod("2", &json!(null), ""),
            ],
        );
        feed(&mut fold, PodUsage, &[usage]);

        fold.forget_pod_metrics();
        fold.forget_pods();
        fold.forget_workloads(WorkloadKind::Job);
        Names(Counted::ReplicaSets).forget(&mut fold);
        let a = fold.namespace("a").unwrap().unwrap();
        let mut web = Workload::new(WorkloadKind::Deployment, "web", 1);
        web.replicas = 1;
        let tick = Workload::new(WorkloadKind::CronJob, "tick", 0);
        let left = Namespace {
            listed: true,
            deployments: 1,
            cron_jobs: 1,
            workloads: vec![web, tick],
            ..Namespace::default()
        };
        assert_eq!(*a, left);
        fold.forget_workloads(WorkloadKind::CronJob);
        fold.forget_workloads(WorkloadKind::Deployment);
        fold.forget_namespaces();
        assert_eq!(fold.finish(None).namespaces().len(), 0);
    }

    #[test]
    fn usage_is_of_what_the_running_pods_request() {
        let mut fold = Fold::default();
        let mut running = pod("1", &json!(null), "");
        *running.pointer_mut("/spec/containers/0").unwrap() =
            json!({"resources": {"requests": {"cpu": "200m"}}});
        let mut pending = running.clone();
        *pending.pointer_mut("/status/phase").unwrap() = json!("Pending");
        feed(&mut fold, Pods, &[running, pending]);
        let usage = |cpu: &str| json!({"usage": {"cpu": cpu, "memory": "10Mi"}});
        let metrics = json!({"metadata": {"name": "1", "namespace": "a"}, "containers": [usage("33333333n"), usage("1n")]});
        feed(&mut fold, PodUsage, &[metrics]);
        let inventory = fold.finish(None);
        let a = inventory.namespace("a").unwrap();
        assert_eq!(a.pods.requests.cpu_millicores, 400);
        // Nothing requests memory.
        assert_eq!(
            a.usage(),
            Usage {
                cpu_percent: Some(16.7),
                memory_percent: None
            }
        );
    }
}
