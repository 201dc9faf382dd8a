//! Generated clusters: of any size, like a real one in shape and order, and the same for the same measures.
//!
//! Pods are not held in memory. What is held is eight bytes for each, in the order of their names; the JSON is written
//! when a page needs it, from templates that are made once for each sort of Pod.

mod objects;
mod plan;
mod pod;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::options::Generate;
use crate::store::Store;
use plan::{Plan, State};
pub(crate) use pod::Request;
use pod::Templates;

/// All Pods of a generated cluster, by their place in the order of names.
#[derive(Debug)]
pub(crate) struct Pods {
    plan: Plan,
    templates: Templates,
}

/// Fills a store with a generated cluster.
pub(crate) fn store(measures: &Generate) -> Store {
    let plan = Plan::new(measures);
    let mut store = crate::recorded::empty(measures.seed);
    objects::load(&mut store, &plan);
    let templates = Templates::new(measures.pod_bytes as usize);
    store.load_pods(Arc::new(Pods { plan, templates }));
    store
}

impl Pods {
    pub(crate) fn len(&self) -> usize {
        self.plan.order.len()
    }

    /// `namespace/name`.
    pub(crate) fn key(&self, index: usize) -> String {
        let (workload, ordinal) = self.plan.order[index];
        self.plan.key(workload, ordinal)
    }

    /// Where a key is, or where it would be.
    pub(crate) fn position(&self, key: &str) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.key(middle).as_str().cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// Namespace, name and containers of a Pod that runs, with the CPU (cores) and memory (bytes) each requests: what
    /// metrics are made of, without the JSON.
    pub(crate) fn running(&self, index: usize) -> Option<(&str, String, Vec<Request>)> {
        let (workload, ordinal) = self.plan.order[index];
        let workload = &self.plan.workloads[workload as usize];
        let runs = matches!(
            workload.state(ordinal),
            State::Ready | State::NotReady | State::CrashLooping | State::OutOfMemory
        );
        let requests = || pod::requests(workload.style());
        runs.then(|| {
            (
                workload.namespace.as_str(),
                workload.pod_name(ordinal),
                requests(),
            )
        })
    }

    /// Writes a Pod as an item of a list.
    pub(crate) fn write(&self, index: usize, out: &mut Vec<u8>) {
        let (workload, ordinal) = self.plan.order[index];
        self.templates.write(&self.plan, workload, ordinal, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Json;

    fn pods(measures: &Generate) -> Pods {
        Pods {
            plan: Plan::new(measures),
            templates: Templates::new(measures.pod_bytes as usize),
        }
    }

    #[test]
    fn there_are_as_many_pods_as_asked_for_in_the_order_of_their_names() {
        for count in [1, 2, 57, 1000] {
            let measures = Generate {
                pods: count,
                workloads: count.div_ceil(20),
                ..Generate::default()
            };
            let pods = pods(&measures);
            assert_eq!(pods.len(), count as usize);
            let keys: Vec<String> = (0..pods.len()).map(|index| pods.key(index)).collect();
            assert!(keys.is_sorted_by(|a, b| a < b), "{count}");
            assert_eq!(pods.position(&keys[keys.len() / 2]), Ok(keys.len() / 2));
            assert_eq!(pods.position("zzz"), Err(keys.len()));
        }
    }

    #[test]
    fn pods_are_whole_and_of_the_size_asked_for() {
        let pods = pods(&Generate {
            pods: 500,
            workloads: 40,
            ..Generate::default()
        });
        let mut bytes = 0;
        for index in 0..pods.len() {
            let mut text = Vec::new();
            pods.write(index, &mut text);
            bytes += text.len();
            let json = Json::parse(&text).unwrap();
            let place = (
                json.text(&["metadata", "namespace"]).unwrap(),
                json.text(&["metadata", "name"]).unwrap(),
            );
            assert_eq!(format!("{}/{}", place.0, place.1), pods.key(index));
            assert!(!String::from_utf8(text).unwrap().contains('\u{e000}'));
            assert!(json.at(&["status", "phase"]).is_some());
        }
        let mean = bytes / pods.len();
        assert!((16_000..19_000).contains(&mean), "{mean} bytes");
    }

    #[test]
    fn pods_belong_to_what_is_listed() {
        let measures = Generate {
            pods: 300,
            workloads: 60,
            ..Generate::default()
        };
        let (pods, store) = (pods(&measures), store(&measures));
        let mut bare = 0;
        for index in 0..pods.len() {
            let mut text = Vec::new();
            pods.write(index, &mut text);
            let json = Json::parse(&text).unwrap();
            let Some(owner) = json
                .at(&["metadata", "ownerReferences"])
                .map(|owners| &owners.items()[0])
            else {
                bare += 1;
                continue;
            };
            let collection = match owner.text(&["kind"]).unwrap() {
                "ReplicaSet" => "replicasets.apps",
                "StatefulSet" => "statefulsets.apps",
                "DaemonSet" => "daemonsets.apps",
                "Job" => "jobs.batch",
                other => panic!("{other}"),
            };
            let namespace = json.text(&["metadata", "namespace"]).unwrap();
            let key = format!("{namespace}/{}", owner.text(&["name"]).unwrap());
            let object = store
                .get(collection, &key)
                .unwrap_or_else(|| panic!("{collection} {key}"));
            assert_eq!(object.uid(), owner.text(&["uid"]).unwrap());
            if let Some(node) = json.text(&["spec", "nodeName"]) {
                assert!(store.get("nodes", node).is_some());
            }
        }
        assert!((1..30).contains(&bare), "{bare}");
    }
}
