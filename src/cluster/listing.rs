//! Lists one kind into a [`Fold`]: which view it has, what it adds, what is said of objects that fail.

use kube_client_lite::{Resource, Visitor};
use serde::Deserialize;

use super::fold::{Counted, Fold, Refused};
use super::inventory::WorkloadKind;
use super::kinds;
use super::view::{self, Object as _};

/// Objects of one kind beyond this many are not counted: no cluster can hold them, so the server, or
/// what claims to be it, is at fault.
const MAX_OBJECTS: u64 = 1_000_000;

/// The longest excerpt of an error or a name that is logged, in characters.
const MAX_LOGGED: usize = 200;

/// One kind of object, as it is listed.
pub(crate) trait Kind {
    type View<'de>: Deserialize<'de> + view::Object;

    fn resource(&self) -> Resource;

    /// Adds one object; quantities that are none go into `illegal`.
    fn add(&self, fold: &mut Fold, view: &Self::View<'_>, illegal: &mut u64)
    -> Result<(), Refused>;

    /// Takes back whatever this kind has added.
    fn forget(&self, fold: &mut Fold);
}

/// The visitor of one list.
pub(crate) struct Listing<'a, K> {
    kind: K,
    fold: &'a mut Fold,
    seen: u64,
    faults: Faults,
}

/// What could not be counted, and the first reason.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) objects: u64,
    pub(crate) quantities: u64,
    pub(crate) first: Option<String>,
}

impl<'a, K: Kind> Listing<'a, K> {
    pub(crate) fn new(kind: K, fold: &'a mut Fold) -> Self {
        Self {
            kind,
            fold,
            seen: 0,
            faults: Faults::default(),
        }
    }

    /// Takes back what the list has added, because it failed half-way.
    pub(crate) fn forget(&mut self) {
        self.kind.forget(self.fold);
    }

    /// Ends the list, and says once what was wrong with it.
    pub(crate) fn finish(self) -> Faults {
        self.faults.log(self.kind.resource());
        self.faults
    }
}

impl<K: Kind> Visitor for Listing<'_, K> {
    type Item<'de> = K::View<'de>;

    fn item(&mut self, item: K::View<'_>) {
        self.seen = self.seen.saturating_add(1);
        let mut illegal = 0;
        let added = if self.seen > MAX_OBJECTS {
            Err(Refused("there are more than can be counted"))
        } else {
            self.kind.add(self.fold, &item, &mut illegal)
        };
        if added.is_ok() && illegal == 0 {
            return;
        }
        let why = added.map_or_else(|refused| refused.0, |()| "a quantity in it is not one");
        self.faults.objects = self
            .faults
            .objects
            .saturating_add(u64::from(added.is_err()));
        self.faults.quantities = self.faults.quantities.saturating_add(illegal);
        self.faults.first.get_or_insert_with(|| {
            let view::ObjectMeta {
                name, namespace, ..
            } = item.metadata();
            format!("{}/{}: {why}", cleaned(namespace), cleaned(name))
        });
    }

    fn restart(&mut self) {
        self.seen = 0;
        self.faults = Faults::default();
        self.forget();
    }

    fn malformed(&mut self, error: &serde_json::Error) {
        self.faults.objects = self.faults.objects.saturating_add(1);
        self.faults
            .first
            .get_or_insert_with(|| cleaned(&error.to_string()));
    }
}

impl Faults {
    fn log(&self, resource: Resource) {
        let Self {
            objects,
            quantities,
            first,
        } = self;
        if let Some(first) = first {
            log::warn!(
                "{resource}: {objects} objects not counted, {quantities} quantities taken as absent; the first: {first}"
            );
        }
    }
}

/// Cut, and without anything that could act on a terminal or break a line.
fn cleaned(text: &str) -> String {
    let mut clean = String::new();
    for char in text.chars().take(MAX_LOGGED) {
        match char {
            '"' | '\'' => clean.push(char),
            _ => clean.extend(char.escape_debug()),
        }
    }
    clean
}

pub(crate) struct Nodes;
pub(crate) struct Namespaces;
pub(crate) struct Names(pub(crate) Counted);
/// Deployments, `StatefulSet`s and `DaemonSet`s.
pub(crate) struct Workloads(pub(crate) WorkloadKind);
pub(crate) struct CronJobs;
pub(crate) struct Jobs;
pub(crate) struct Pods;
pub(crate) struct NodeUsage;
pub(crate) struct PodUsage;

impl Kind for Nodes {
    type View<'de> = view::Node<'de>;

    fn resource(&self) -> Resource {
        kinds::NODES
    }

    fn add(
        &self,
        fold: &mut Fold,
        node: &view::Node<'_>,
        illegal: &mut u64,
    ) -> Result<(), Refused> {
        fold.add_node(node, illegal)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_nodes();
    }
}

impl Kind for Namespaces {
    type View<'de> = view::Named<'de>;

    fn resource(&self) -> Resource {
        kinds::NAMESPACES
    }

    fn add(&self, fold: &mut Fold, view: &view::Named<'_>, _: &mut u64) -> Result<(), Refused> {
        fold.add_namespace(view)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_namespaces();
    }
}

impl Kind for Names {
    type View<'de> = view::Named<'de>;

    fn resource(&self) -> Resource {
        self.0.resource()
    }

    fn add(&self, fold: &mut Fold, view: &view::Named<'_>, _: &mut u64) -> Result<(), Refused> {
        fold.add_counted(self.0, &view.metadata.namespace, 1)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_counted(self.0);
    }
}

impl Kind for Workloads {
    type View<'de> = view::Workload<'de>;

    fn resource(&self) -> Resource {
        self.0.resource()
    }

    fn add(&self, fold: &mut Fold, view: &view::Workload<'_>, _: &mut u64) -> Result<(), Refused> {
        fold.add_workload(self.0, view)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_workloads(self.0);
    }
}

impl Kind for CronJobs {
    type View<'de> = view::CronJob<'de>;

    fn resource(&self) -> Resource {
        kinds::CRON_JOBS
    }

    fn add(&self, fold: &mut Fold, view: &view::CronJob<'_>, _: &mut u64) -> Result<(), Refused> {
        fold.add_cron_job(view)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_workloads(WorkloadKind::CronJob);
    }
}

impl Kind for Jobs {
    type View<'de> = view::Workload<'de>;

    fn resource(&self) -> Resource {
        kinds::JOBS
    }

    fn add(&self, fold: &mut Fold, view: &view::Workload<'_>, _: &mut u64) -> Result<(), Refused> {
        fold.add_job(view)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_workloads(WorkloadKind::Job);
    }
}

impl Kind for Pods {
    type View<'de> = view::Pod<'de>;

    fn resource(&self) -> Resource {
        kinds::PODS
    }

    fn add(&self, fold: &mut Fold, pod: &view::Pod<'_>, illegal: &mut u64) -> Result<(), Refused> {
        fold.add_pod(pod, illegal)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_pods();
    }
}

impl Kind for NodeUsage {
    type View<'de> = view::NodeMetrics<'de>;

    fn resource(&self) -> Resource {
        kinds::NODE_METRICS
    }

    fn add(
        &self,
        fold: &mut Fold,
        metrics: &view::NodeMetrics<'_>,
        illegal: &mut u64,
    ) -> Result<(), Refused> {
        fold.nodes.add_metrics(metrics, illegal);
        Ok(())
    }

    fn forget(&self, fold: &mut Fold) {
        fold.nodes.forget_metrics();
    }
}

impl Kind for PodUsage {
    type View<'de> = view::PodMetrics<'de>;

    fn resource(&self) -> Resource {
        kinds::POD_METRICS
    }

    fn add(
        &self,
        fold: &mut Fold,
        metrics: &view::PodMetrics<'_>,
        illegal: &mut u64,
    ) -> Result<(), Refused> {
        fold.add_pod_metrics(metrics, illegal)
    }

    fn forget(&self, fold: &mut Fold) {
        fold.forget_pod_metrics();
    }
}

impl Counted {
    pub(crate) const fn resource(self) -> Resource {
        match self {
            Self::ReplicaSets => kinds::REPLICA_SETS,
            Self::Services => kinds::SERVICES,
            Self::VolumeClaims => kinds::VOLUME_CLAIMS,
        }
    }
}

impl WorkloadKind {
    const fn resource(self) -> Resource {
        match self {
            Self::Deployment => kinds::DEPLOYMENTS,
            Self::StatefulSet => kinds::STATEFUL_SETS,
            Self::DaemonSet => kinds::DAEMON_SETS,
            Self::CronJob => kinds::CRON_JOBS,
            Self::Job => kinds::JOBS,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Hands `items` to the listing of a kind, as a page would.
    pub(crate) fn feed<K: Kind>(fold: &mut Fold, kind: K, items: &[Value]) -> Faults {
        let mut listing = Listing::new(kind, fold);
        for item in items {
            let item = item.to_string();
            match serde_json::from_str(&item) {
                Ok(view) => listing.item(view),
                Err(error) => listing.malformed(&error),
            }
        }
        listing.finish()
    }

    #[test]
    fn what_fails_is_counted_and_the_first_is_told() {
        let mut fold = Fold::default();
        let requests = |cpu: &str| json!({"containers": [{"resources": {"requests": {"cpu": cpu, "memory": cpu}}}]});
        let faults = feed(
            &mut fold,
            Pods,
            &[
                json!({"metadata": {"name": "fine", "namespace": "a"}}),
                json!({"metadata": {"name": "bad\n\u{1b}[2J", "namespace": "a"}, "spec": requests("much")}),
                json!({"metadata": {"name": "x".repeat(254), "namespace": "a"}}),
                json!({"metadata": {"name": "no-namespace"}}),
                json!({"metadata": {"name": 7, "namespace": "a"}}),
                json!(["nonsense"]),
                json!(null),
            ],
        );
        assert_eq!((faults.objects, faults.quantities), (5, 2));
        assert_eq!(
            faults.first.as_deref(),
            Some("a/bad\\n\\u{1b}[2J: a quantity in it is not one")
        );
        assert_eq!(
            fold.finish(None)
                .namespace("a")
                .map(|a| a.pods.by_phase.total()),
            Some(2)
        );
    }

    #[test]
    fn what_is_logged_is_short_and_of_one_line() {
        let long = "\u{1b}\n".repeat(5_000);
        let wrong = json!({"metadata": {"name": "x"}, "spec": {"hostNetwork": long}});
        let nameless = json!({"metadata": {"name": long}});
        for pod in [wrong, nameless] {
            let faults = feed(&mut Fold::default(), Pods, &[pod]);
            let first = faults.first.unwrap_or_default();
            assert!(!first.contains(['\n', '\u{1b}']), "{first}");
            assert!(!first.is_empty() && first.len() <= 2_000, "{}", first.len());
        }
    }

    #[test]
    fn a_list_that_starts_over_counts_once() {
        let mut fold = Fold::default();
        let pod = |name: &str| json!({"metadata": {"name": name, "namespace": "a"}});
        let pods = [pod("one").to_string(), pod("two").to_string()];
        let mut listing = Listing::new(Pods, &mut fold);
        for _ in 0..3 {
            listing.restart();
            for pod in &pods {
                listing.item(serde_json::from_str(pod).unwrap_or_default());
            }
        }
        assert_eq!(listing.finish(), Faults::default());
        assert_eq!(
            fold.finish(None)
                .namespace("a")
                .map(|a| a.pods.by_phase.total()),
            Some(2)
        );
    }

    #[test]
    fn no_more_objects_are_counted_than_any_cluster_has() {
        let mut fold = Fold::default();
        let mut listing = Listing::new(Namespaces, &mut fold);
        listing.seen = MAX_OBJECTS;
        let mut namespace = view::Named::default();
        listing.item(std::mem::take(&mut namespace));
        let faults = listing.finish();
        assert_eq!(faults.objects, 1);
        assert!(
            faults
                .first
                .is_some_and(|first| first.ends_with("more than can be counted"))
        );
    }
}
