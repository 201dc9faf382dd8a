//! The body of a metrics push: an allow-list in types.
//!
//! Numbers, fixed words and opaque ids. There is no field here that could hold a name, a label,
//! an annotation, an image, an address or any other text of the cluster, and this is the only
//! place that writes such a body. It is written piece by piece: a cluster of thousands of workloads
//! costs no memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::id::{ClusterId, Epoch, OpaqueId};
use crate::cluster::{ClusterFigures, Namespace, Signal, Workload};
use crate::time::Time;

/// The version of this form.
const VERSION: u32 = 1;

/// What comes before the resources.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Head {
    payload_version: u32,
    cluster_id: ClusterId,
    timestamp: Time,
    operator_version: &'static str,
    map_epoch: Epoch,
    cluster: ClusterNumbers,
}

/// The cluster as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct ClusterNumbers {
    kubernetes_version: Option<Version>,
    nodes: u32,
    nodes_ready: u32,
    cpu_capacity_millicores: u64,
    memory_capacity_bytes: u64,
    avg_cpu_usage: Option<f64>,
    avg_memory_usage: Option<f64>,
}

/// MAJOR.MINOR.PATCH: three numbers, so that nothing a vendor appends can pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version([u32; 3]);

/// One namespace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct NamespaceNumbers {
    deployments: u32,
    pods: u32,
    avg_cpu_usage: Option<f64>,
    avg_memory_usage: Option<f64>,
    stateful_sets: u32,
    daemon_sets: u32,
    replica_sets: u32,
    jobs: u32,
    cron_jobs: u32,
    services: u32,
    persistent_volume_claims: u32,
    pods_by_phase: PodsByPhase,
    containers: u32,
    container_restarts: u32,
    cpu_requests_millicores: u64,
    cpu_limits_millicores: u64,
    memory_requests_bytes: u64,
    memory_limits_bytes: u64,
    signals: BTreeMap<Word, u32>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct PodsByPhase {
    pending: u32,
    running: u32,
    succeeded: u32,
    failed: u32,
    unknown: u32,
}

/// One workload.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkloadNumbers {
    pub(crate) replicas: u32,
    pub(crate) ready_replicas: u32,
    pub(crate) containers: u32,
    pub(crate) restarts: u32,
    pub(crate) signals: Vec<Word>,
}

/// A signal's word: one of a fixed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub(crate) struct Word(&'static str);

impl Head {
    pub(crate) const fn new(
        cluster_id: ClusterId,
        map_epoch: Epoch,
        timestamp: Time,
        cluster: ClusterNumbers,
    ) -> Self {
        Self {
            payload_version: VERSION,
            cluster_id,
            timestamp,
            operator_version: env!("CARGO_PKG_VERSION"),
            map_epoch,
            cluster,
        }
    }
}

impl ClusterNumbers {
    pub(crate) fn new(cluster: &ClusterFigures) -> Self {
        Self {
            kubernetes_version: cluster
                .kubernetes_version
                .map(|version| Version(version.numbers())),
            nodes: cluster.nodes,
            nodes_ready: cluster.nodes_ready,
            cpu_capacity_millicores: cluster.cpu_capacity_millicores,
            memory_capacity_bytes: cluster.memory_capacity_bytes,
            avg_cpu_usage: cluster.usage.cpu_percent,
            avg_memory_usage: cluster.usage.memory_percent,
        }
    }
}

impl ClusterNumbers {
    pub(crate) const fn kubernetes_version(&self) -> Option<Version> {
        self.kubernetes_version
    }

    pub(crate) const fn nodes(&self) -> u32 {
        self.nodes
    }
}

impl NamespaceNumbers {
    pub(crate) fn new(namespace: &Namespace) -> Self {
        let pods = &namespace.pods;
        let usage = namespace.usage();
        Self {
            deployments: namespace.deployments,
            pods: pods.by_phase.total(),
            avg_cpu_usage: usage.cpu_percent,
            avg_memory_usage: usage.memory_percent,
            stateful_sets: namespace.stateful_sets,
            daemon_sets: namespace.daemon_sets,
            replica_sets: namespace.replica_sets,
            jobs: namespace.jobs,
            cron_jobs: namespace.cron_jobs,
            services: namespace.services,
            persistent_volume_claims: namespace.persistent_volume_claims,
            pods_by_phase: PodsByPhase {
                pending: pods.by_phase.pending,
                running: pods.by_phase.running,
                succeeded: pods.by_phase.succeeded,
                failed: pods.by_phase.failed,
                unknown: pods.by_phase.unknown,
            },
            containers: pods.containers,
            container_restarts: pods.restarts,
            cpu_requests_millicores: pods.requests.cpu_millicores,
            cpu_limits_millicores: pods.limits.cpu_millicores,
            memory_requests_bytes: pods.requests.memory_bytes,
            memory_limits_bytes: pods.limits.memory_bytes,
            signals: namespace
                .signals()
                .iter()
                .map(|(signal, count)| (Word(signal.as_str()), count))
                .collect(),
        }
    }
}

impl WorkloadNumbers {
    pub(crate) fn new(workload: &Workload) -> Self {
        Self {
            replicas: workload.replicas,
            ready_replicas: workload.ready_replicas,
            containers: workload.containers(),
            restarts: workload.restarts(),
            signals: workload
                .signals()
                .iter()
                .map(|signal| Word(signal.as_str()))
                .collect(),
        }
    }
}

impl Word {
    /// The word, if it is one of the fixed list.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Signal::ALL
            .into_iter()
            .map(Signal::as_str)
            .find(|word| *word == text)
            .map(Self)
    }

    pub(crate) const fn as_str(self) -> &'static str {
        self.0
    }
}

/// Read back from the database: a word this build does not know is an error, not a text.
impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a signal"))
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self([major, minor, patch]) = self;
        serializer.collect_str(&format_args!("{major}.{minor}.{patch}"))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let mut numbers = text.split('.').map(str::parse);
        match [
            numbers.next(),
            numbers.next(),
            numbers.next(),
            numbers.next(),
        ] {
            [Some(Ok(major)), Some(Ok(minor)), Some(Ok(patch)), None] => {
                Ok(Self([major, minor, patch]))
            }
            _ => Err(serde::de::Error::custom("not MAJOR.MINOR.PATCH")),
        }
    }
}

/// A body in the making: the head, then each namespace followed by its workloads. What was made
/// so far can be taken away at any moment.
#[derive(Debug, Default)]
pub(crate) struct Body {
    made: Vec<u8>,
    /// A namespace was written.
    begun: bool,
    /// Of the present namespace's workloads; `None` outside of a namespace.
    workloads: Option<Workloads>,
}

#[derive(Debug)]
enum Workloads {
    /// None written yet.
    None,
    Some,
}

impl Body {
    /// Starts over with the head.
    pub(crate) fn begin(&mut self, head: &Head) -> serde_json::Result<()> {
        self.clear();
        self.begun = false;
        self.workloads = None;
        self.open(head)?;
        self.text(",\"resources\":{");
        Ok(())
    }

    pub(crate) fn namespace(
        &mut self,
        id: OpaqueId,
        numbers: &NamespaceNumbers,
    ) -> serde_json::Result<()> {
        self.end_namespace();
        if self.begun {
            self.text(",");
        }
        self.begun = true;
        self.key(id)?;
        self.open(numbers)?;
        self.workloads = Some(Workloads::None);
        Ok(())
    }

    /// One workload of the namespace before.
    pub(crate) fn workload(
        &mut self,
        id: OpaqueId,
        numbers: &WorkloadNumbers,
    ) -> serde_json::Result<()> {
        self.text(match self.workloads {
            Some(Workloads::Some) => ",",
            _ => ",\"workloads\":{",
        });
        self.workloads = Some(Workloads::Some);
        self.key(id)?;
        serde_json::to_writer(&mut self.made, numbers)
    }

    pub(crate) fn end(&mut self) {
        self.end_namespace();
        self.text("}}");
    }

    /// What was made since it was cleared.
    pub(crate) fn made(&self) -> &[u8] {
        &self.made
    }

    pub(crate) fn clear(&mut self) {
        self.made.clear();
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.made.capacity()
    }

    fn end_namespace(&mut self) {
        let end = match self.workloads.take() {
            None => "",
            Some(Workloads::None) => "}",
            Some(Workloads::Some) => "}}",
        };
        self.text(end);
    }

    fn key(&mut self, id: OpaqueId) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.made, &id)?;
        self.text(":");
        Ok(())
    }

    /// Writes an object without the brace that closes it.
    fn open(&mut self, object: &impl Serialize) -> serde_json::Result<()> {
        serde_json::to_writer(&mut self.made, object)?;
        self.made.pop_if(|last| *last == b'}');
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.made.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::cluster::WorkloadKind;
    use crate::privacy::id::{Kind, Uuid};

    fn body(resources: &[usize]) -> Value {
        let head = Head::new(
            ClusterId::Own(Uuid([1; 16])),
            Epoch([2; 16]),
            Time::from_millis(0),
            ClusterNumbers::default(),
        );
        let mut body = Body::default();
        body.begin(&head).unwrap();
        for (number, workloads) in (1..).zip(resources) {
            let id = |kind, number| OpaqueId { kind, number };
            let mut numbers = NamespaceNumbers::default();
            numbers.signals.insert(Word("run-as-root"), 1);
            body.namespace(id(Kind::Namespace, number), &numbers)
                .unwrap();
            for workload in 1..=*workloads {
                let kind = Kind::Workload(WorkloadKind::Deployment);
                let number = number * 100 + u32::try_from(workload).unwrap();
                let numbers = WorkloadNumbers {
                    signals: vec![Word("host-path")],
                    ..WorkloadNumbers::default()
                };
                body.workload(id(kind, number), &numbers).unwrap();
            }
        }
        body.end();
        serde_json::from_slice(body.made()).unwrap()
    }

    #[test]
    fn a_streamed_body_is_whole_json() {
        assert_eq!(body(&[])["resources"], serde_json::json!({}));
        let body = body(&[0, 2, 1, 0]);
        let resources = body["resources"].as_object().unwrap();
        assert_eq!(resources.len(), 4);
        assert!(resources["namespace_001"].get("workloads").is_none());
        let workloads = resources["namespace_002"]["workloads"].as_object().unwrap();
        assert_eq!(workloads.len(), 2);
        assert_eq!(workloads["deployment_202"]["signals"][0], "host-path");
        assert_eq!(resources["namespace_003"]["signals"]["run-as-root"], 1);
    }

    /// The page for security officers lists every field; a new one fails here until it does.
    #[test]
    fn every_field_is_in_the_readme() {
        fn keys(value: &Value, found: &mut Vec<String>) {
            let Value::Object(fields) = value else { return };
            for (key, value) in fields {
                let id = key
                    .rsplit_once('_')
                    .is_some_and(|(kind, _)| Kind::parse(kind).is_some());
                if !id && Word::parse(key).is_none() {
                    found.push(key.clone());
                }
                keys(value, found);
            }
        }

        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let section = readme.split("### What is sent").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let mut found = Vec::new();
        keys(&body(&[1]), &mut found);
        assert!(found.len() > 30, "{found:?}");
        for key in found {
            assert!(
                section.contains(&format!("`{key}`")),
                "README.md does not list `{key}`"
            );
        }
        for signal in Signal::ALL {
            let word = signal.as_str();
            assert!(
                section.contains(&format!("`{word}`")),
                "README.md does not list `{word}`"
            );
        }
    }

    #[test]
    fn nothing_but_a_fixed_word_is_read_back_as_one() {
        assert!(serde_json::from_str::<Word>("\"run-as-root\"").is_ok());
        assert!(serde_json::from_str::<Word>("\"payments-api\"").is_err());
        assert!(serde_json::from_str::<Version>("\"1.36.2\"").is_ok());
        for other in ["\"1.36\"", "\"1.36.2-acme\"", "\"1.36.2.3\"", "\"v1.36.2\""] {
            assert!(serde_json::from_str::<Version>(other).is_err(), "{other}");
        }
    }
}
