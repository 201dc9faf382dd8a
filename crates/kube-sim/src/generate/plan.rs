//! What is in a generated cluster: which workloads there are, how many Pods each has, and in which state they are.

use crate::metadata::{mix, uuid_of};
use crate::options::Generate;

const SUBJECTS: [&str; 16] = [
    "audit",
    "billing",
    "catalog",
    "checkout",
    "edge",
    "identity",
    "inventory",
    "ledger",
    "media",
    "notify",
    "payments",
    "pricing",
    "report",
    "search",
    "session",
    "shipping",
];
const PARTS: [&str; 10] = [
    "api",
    "cache",
    "gateway",
    "indexer",
    "proxy",
    "scheduler",
    "store",
    "sync",
    "web",
    "worker",
];
const STAGES: [&str; 3] = ["dev", "prod", "staging"];
/// The letters of generated names.
const LETTERS: &[u8; 27] = b"2456789bcdfghjklmnpqrstvwxz";

/// A workload and its Pods.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) sort: Sort,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) pods: u32,
    /// Everything about it that looks random comes from here.
    pub(super) seed: u64,
}

/// The sorts of workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    CronJob,
    /// Pods that nobody owns; not a workload.
    Bare,
}

/// The states of Pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Ready,
    NotReady,
    CrashLooping,
    ImagePullFailing,
    Unschedulable,
    OutOfMemory,
    Succeeded,
    Failed,
}

/// The whole cluster.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) namespaces: Vec<String>,
    pub(super) workloads: Vec<Workload>,
    pub(super) nodes: u32,
    /// Workload and ordinal of each Pod, in the order of their keys.
    pub(super) order: Vec<(u32, u32)>,
    pub(super) seed: u64,
}

impl Plan {
    pub(super) fn new(measures: &Generate) -> Self {
        let namespaces: Vec<String> = (0..measures.namespaces.max(1)).map(namespace).collect();
        let seed = mix(measures.seed);
        let mut workloads: Vec<Workload> = (0..measures.workloads.max(1))
            .map(|number| workload(number, seed, &namespaces))
            .collect();
        share_out(&mut workloads, measures.pods - measures.pods / 100);
        let mut bare: Vec<Workload> = namespaces
            .iter()
            .zip(1 << 32..)
            .map(|(namespace, number)| Workload {
                sort: Sort::Bare,
                namespace: namespace.clone(),
                name: "debug".to_owned(),
                pods: 0,
                seed: mix(seed ^ number),
            })
            .collect();
        share_out(&mut bare, measures.pods / 100);
        workloads.append(&mut bare);
        let mut plan = Self {
            namespaces,
            workloads,
            nodes: (measures.pods / 60).max(1),
            order: Vec::new(),
            seed,
        };
        let mut order = Vec::with_capacity(measures.pods as usize);
        for (number, workload) in (0..).zip(&plan.workloads) {
            order.extend((0..workload.pods).map(|ordinal| (number, ordinal)));
        }
        order.sort_by_cached_key(|&(workload, ordinal)| plan.key(workload, ordinal));
        plan.order = order;
        plan
    }

    pub(super) fn key(&self, workload: u32, ordinal: u32) -> String {
        let workload = &self.workloads[workload as usize];
        format!("{}/{}", workload.namespace, workload.pod_name(ordinal))
    }

    pub(super) fn node_name(node: u32) -> String {
        format!(
            "ip-10-{}-{}-{}.eu-central-1.compute.internal",
            node >> 12,
            (node >> 4) & 0xff,
            (node & 0xf) << 4 | 5
        )
    }

    pub(super) fn node_ip(node: u32) -> String {
        format!(
            "10.{}.{}.{}",
            node >> 12,
            (node >> 4) & 0xff,
            (node & 0xf) << 4 | 5
        )
    }
}

impl Workload {
    pub(super) fn pod_name(&self, ordinal: u32) -> String {
        let prefix = self.pod_prefix(ordinal);
        match self.sort {
            Sort::StatefulSet | Sort::Bare => format!("{prefix}{ordinal}"),
            _ => {
                // A bijection: no two Pods of a workload have the same five letters.
                const ALL: u64 = 27 * 27 * 27 * 27 * 27;
                let number = (u64::from(ordinal) * 7_654_321 + self.seed % ALL) % ALL;
                format!("{prefix}{}", letters(number, 5))
            }
        }
    }

    /// `generateName`, for the sorts that have one.
    pub(super) fn pod_prefix(&self, ordinal: u32) -> String {
        format!("{}-", self.owner(ordinal))
    }

    /// The name of what owns a Pod directly.
    pub(super) fn owner(&self, ordinal: u32) -> String {
        match self.sort {
            Sort::Deployment => format!("{}-{}", self.name, self.hash()),
            Sort::CronJob => self.job_name(ordinal),
            _ => self.name.clone(),
        }
    }

    pub(super) fn owner_uid(&self, ordinal: u32) -> String {
        match self.sort {
            Sort::Deployment => uid(self.seed, "replicaset", 0),
            Sort::CronJob => uid(self.seed, "job", ordinal.into()),
            _ => self.uid(),
        }
    }

    pub(super) fn uid(&self) -> String {
        uid(self.seed, "self", 0)
    }

    /// A Job of a `CronJob`.
    pub(super) fn job_name(&self, number: u32) -> String {
        format!("{}-{}", self.name, 29_900_000 + u64::from(number) * 60)
    }

    /// `pod-template-hash` or `controller-revision-hash`.
    pub(super) fn hash(&self) -> String {
        letters(mix(self.seed ^ 0xabc), 9)
    }

    /// One of the twelve ways to write a Pod template.
    pub(super) fn style(&self) -> usize {
        usize::try_from(mix(self.seed ^ 0x57) % 12).unwrap_or(0)
    }

    pub(super) fn pod_seed(&self, ordinal: u32) -> u64 {
        mix(self.seed ^ (u64::from(ordinal) << 20))
    }

    pub(super) fn state(&self, ordinal: u32) -> State {
        let dice = mix(self.pod_seed(ordinal) ^ 0x51) % 1000;
        match (self.sort, dice) {
            (Sort::Job | Sort::CronJob, 0..700) => State::Succeeded,
            (Sort::Job | Sort::CronJob, 700..800) => State::Failed,
            (Sort::Job | Sort::CronJob, 800..980) => State::Ready,
            (_, 0..15) => State::CrashLooping,
            (_, 15..25) => State::ImagePullFailing,
            (Sort::Job | Sort::CronJob, _) | (_, 25..35) => State::Unschedulable,
            (_, 35..45) => State::NotReady,
            (_, 45..60) => State::OutOfMemory,
            (_, 60..65) => State::Failed,
            _ => State::Ready,
        }
    }

    /// How many of its Pods are ready.
    pub(super) fn ready(&self) -> u32 {
        let ready =
            (0..self.pods).filter(|&o| matches!(self.state(o), State::Ready | State::OutOfMemory));
        u32::try_from(ready.count()).unwrap_or(u32::MAX)
    }
}

/// A uid that belongs to a seed.
pub(super) fn uid(seed: u64, what: &str, number: u64) -> String {
    let salt = what
        .bytes()
        .fold(number, |salt, byte| mix(salt ^ u64::from(byte)));
    uuid_of(mix(seed ^ salt), mix(seed ^ salt ^ 1))
}

fn letters(mut number: u64, count: usize) -> String {
    let mut text = String::with_capacity(count);
    for _ in 0..count {
        text.push(char::from(
            LETTERS[usize::try_from(number % 27).unwrap_or(0)],
        ));
        number /= 27;
    }
    text
}

fn namespace(number: u32) -> String {
    let (subject, rest) = (
        SUBJECTS[number as usize % SUBJECTS.len()],
        number as usize / SUBJECTS.len(),
    );
    let stage = STAGES[rest % STAGES.len()];
    match rest / STAGES.len() {
        0 => format!("{subject}-{stage}"),
        more => format!("{subject}-{stage}-{more}"),
    }
}

fn workload(number: u32, seed: u64, namespaces: &[String]) -> Workload {
    let seed = mix(seed ^ mix(number.into()));
    let sort = match mix(seed ^ 0x50) % 100 {
        // A cluster of one workload has a Deployment.
        _ if number == 0 => Sort::Deployment,
        0..62 => Sort::Deployment,
        62..75 => Sort::StatefulSet,
        75..82 => Sort::DaemonSet,
        82..92 => Sort::Job,
        _ => Sort::CronJob,
    };
    let subject = SUBJECTS[number as usize % SUBJECTS.len()];
    let part = PARTS[number as usize / SUBJECTS.len() % PARTS.len()];
    let name = match number as usize / (SUBJECTS.len() * PARTS.len()) {
        0 => format!("{subject}-{part}"),
        more => format!("{subject}-{part}-v{more}"),
    };
    let place = usize::try_from(mix(seed ^ 0x4e) % namespaces.len() as u64).unwrap_or(0);
    Workload {
        sort,
        namespace: namespaces[place].clone(),
        name,
        pods: 0,
        seed,
    }
}

/// Gives out the Pods by weight; what is left over goes to the first.
fn share_out(workloads: &mut [Workload], pods: u32) {
    let weight = |workload: &Workload| -> u64 {
        match workload.sort {
            Sort::Deployment if workload.seed.is_multiple_of(16) => 25,
            Sort::Deployment => 1 + workload.seed % 8,
            Sort::DaemonSet => 6,
            Sort::StatefulSet | Sort::CronJob => 3,
            Sort::Job | Sort::Bare => 1,
        }
    };
    let all: u64 = workloads.iter().map(weight).sum();
    let mut left = pods;
    for workload in workloads.iter_mut() {
        workload.pods = u32::try_from(u64::from(pods) * weight(workload) / all.max(1)).unwrap_or(0);
        left -= workload.pods;
    }
    for workload in workloads.iter_mut().take(left as usize) {
        workload.pods += 1;
    }
}
