//! Random clusters, as an API server tells of them: every text in them carries the marker, or is a
//! name that is also a word of the payload.
//!
//! A cluster is made of two strings of random numbers. One decides what there is (how many, of which
//! kind, how ready, owned by whom), the other what it is called and what is said of it. Two clusters
//! with the same first number and another second one differ in nothing but texts.

use std::collections::{BTreeMap, BTreeSet};

use kube_client_lite::Visitor as _;

use crate::cluster::way::{
    Counted, CronJobs, Fold, Jobs, Kind, KubernetesVersion, Listing, Names, Namespaces, NodeUsage,
    Nodes, PodUsage, Pods, Workloads,
};
use crate::cluster::{Inventory, WorkloadKind};
use crate::privacy::id::Kind as Of;

/// In every text of a cluster, and nowhere else: see [`super::search::Marker`].
pub(super) const MARKER: &str = "qzxjvkwy";

/// The longest name there is.
const MAX_NAME: usize = 253;

/// Names that could be taken for something else: words of the body, ids, names that are part of one
/// another, words that mean something in JSON.
const AWKWARD: &[&str] = &[
    "api",
    "api-server",
    "my-api",
    "a",
    "pods",
    "running",
    "workloads",
    "privileged",
    "cluster",
    "resources",
    "signals",
    "replicas",
    "deployments",
    "services",
    "run-as-root",
    "not-ready",
    "deployment",
    "deployment_001",
    "deployment_002",
    "namespace_001",
    "namespace_002",
    "job_001",
    "cronjob_001",
    "namespace",
    "sha256",
    "null",
    "true",
    "kube-system",
    "default",
    "v1",
];

/// Pseudo-random numbers (`SplitMix64`): the same for the same seed, everywhere.
#[derive(Clone)]
pub(super) struct Random(u64);

/// One cluster, over its life.
pub(super) struct World {
    logic: Random,
    dress: Random,
    namespaces: Vec<Place>,
    workloads: Vec<Slot>,
    /// Handed out with every text, so that no two are alike.
    texts: u32,
}

struct Place {
    name: String,
    excluded: bool,
    there: bool,
}

/// A workload that there is in some of the rounds.
struct Slot {
    kind: WorkloadKind,
    place: usize,
    name: String,
    there: bool,
}

/// The lists of one round, each an array of objects.
#[derive(Default)]
struct Lists {
    nodes: Vec<String>,
    namespaces: Vec<String>,
    deployments: Vec<String>,
    stateful_sets: Vec<String>,
    daemon_sets: Vec<String>,
    cron_jobs: Vec<String>,
    jobs: Vec<String>,
    replica_sets: Vec<String>,
    services: Vec<String>,
    claims: Vec<String>,
    pods: Vec<String>,
    node_metrics: Vec<String>,
    pod_metrics: Vec<String>,
}

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(bound).unwrap()).unwrap()
    }

    /// Once in so many times.
    pub(super) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A number below `bound`, small ones more often.
    fn small(&mut self, bound: usize) -> usize {
        self.below(bound).min(self.below(bound))
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

impl World {
    /// 1 to 6 namespaces, 0 to 12 workloads.
    pub(super) fn new(logic: u64, dress: u64) -> Self {
        let mut world = Self {
            logic: Random::new(logic),
            dress: Random::new(dress),
            namespaces: Vec::new(),
            workloads: Vec::new(),
            texts: 0,
        };
        for _ in 0..=world.logic.below(6) {
            let taken = |world: &Self, name: &str| world.namespaces.iter().any(|p| p.name == name);
            let name = world.name(MAX_NAME, taken);
            let excluded = world.logic.once_in(8);
            world.namespaces.push(Place {
                name,
                excluded,
                there: true,
            });
        }
        for _ in 0..world.logic.small(13) {
            let place = world.logic.below(world.namespaces.len());
            let kind = world.logic.pick(&[
                WorkloadKind::Deployment,
                WorkloadKind::Deployment,
                WorkloadKind::StatefulSet,
                WorkloadKind::DaemonSet,
                WorkloadKind::CronJob,
                WorkloadKind::Job,
            ]);
            let taken = |world: &Self, name: &str| {
                let mut others = world.workloads.iter();
                others.any(|w| w.kind == kind && w.place == place && w.name == name)
            };
            // The names of its Jobs are longer.
            let longest = if kind == WorkloadKind::CronJob {
                MAX_NAME - 11
            } else {
                MAX_NAME
            };
            let name = world.name(longest, taken);
            world.workloads.push(Slot {
                kind,
                place,
                name,
                there: true,
            });
        }
        world
    }

    /// The namespaces the user has excluded.
    pub(super) fn excluded(&self) -> BTreeSet<String> {
        let excluded = self.namespaces.iter().filter(|place| place.excluded);
        excluded.map(|place| place.name.clone()).collect()
    }

    /// Takes things away and puts things back that were there before.
    pub(super) fn change(&mut self) {
        for place in &mut self.namespaces {
            place.there = !self.logic.once_in(4);
        }
        for slot in &mut self.workloads {
            slot.there = self.namespaces[slot.place].there && !self.logic.once_in(3);
        }
    }

    /// What all things of this world are called by somebody who knows them: the same in worlds that
    /// differ in texts only.
    pub(super) fn labels(&self) -> BTreeMap<(&'static str, String, String), String> {
        let places = self.namespaces.iter().enumerate();
        let places = places.map(|(at, place)| {
            let key = (Of::Namespace.as_str(), String::new(), place.name.clone());
            (key, format!("n{at}"))
        });
        let workloads = self.workloads.iter().enumerate().map(|(at, slot)| {
            let namespace = self.namespaces[slot.place].name.clone();
            let key = (slot.kind.as_str(), namespace, slot.name.clone());
            (key, format!("w{at}"))
        });
        places.chain(workloads).collect()
    }

    /// Reads what is there now, through the views and the fold of the agent.
    pub(super) fn inventory(&mut self) -> Inventory {
        let lists = self.lists();
        let mut fold = Fold::new(self.excluded());
        let fold_ = &mut fold;
        self.read(fold_, Nodes, &lists.nodes);
        self.read(fold_, Namespaces, &lists.namespaces);
        self.read(
            fold_,
            Workloads(WorkloadKind::Deployment),
            &lists.deployments,
        );
        self.read(
            fold_,
            Workloads(WorkloadKind::StatefulSet),
            &lists.stateful_sets,
        );
        self.read(
            fold_,
            Workloads(WorkloadKind::DaemonSet),
            &lists.daemon_sets,
        );
        self.read(fold_, CronJobs, &lists.cron_jobs);
        self.read(fold_, Jobs, &lists.jobs);
        self.read(fold_, Names(Counted::ReplicaSets), &lists.replica_sets);
        self.read(fold_, Names(Counted::Services), &lists.services);
        self.read(fold_, Names(Counted::VolumeClaims), &lists.claims);
        self.read(fold_, Pods, &lists.pods);
        self.read(fold_, NodeUsage, &lists.node_metrics);
        self.read(fold_, PodUsage, &lists.pod_metrics);
        let version = self.version();
        fold.finish(KubernetesVersion::parse(&version))
    }

    /// Hands over a list as the client does, which may have to start over.
    fn read<K: Kind>(&mut self, fold: &mut Fold, kind: K, objects: &[String]) {
        let mut listing = Listing::new(kind, fold);
        let mut rounds = vec![objects];
        if self.logic.once_in(16) {
            rounds.insert(0, &objects[..objects.len() / 2]);
        }
        for (round, objects) in rounds.into_iter().enumerate() {
            if round > 0 {
                listing.restart();
            }
            for object in objects {
                match serde_json::from_str(object) {
                    Ok(view) => listing.item(view),
                    Err(error) => listing.malformed(&error),
                }
            }
        }
        listing.finish();
    }

    fn lists(&mut self) -> Lists {
        let mut lists = Lists::default();
        for _ in 0..self.logic.below(4) {
            self.node(&mut lists);
        }
        // Somebody may not be allowed to list namespaces.
        let allowed = !self.logic.once_in(8);
        for at in 0..self.namespaces.len() {
            if self.namespaces[at].there && allowed {
                let name = quoted(&self.namespaces[at].name);
                let metadata = self.metadata(&name, None, "", "");
                lists
                    .namespaces
                    .push(format!("{{\"metadata\":{metadata}}}"));
            }
        }
        for at in 0..self.workloads.len() {
            if self.workloads[at].there {
                self.workload(at, &mut lists);
            }
        }
        for _ in 0..self.logic.below(4) {
            let kind = self.logic.below(3);
            let object = format!("{{\"metadata\":{}}}", self.anybody());
            let list = [
                &mut lists.replica_sets,
                &mut lists.services,
                &mut lists.claims,
            ];
            let [replica_sets, services, claims] = list;
            [replica_sets, services, claims][kind].push(object);
        }
        for _ in 0..self.logic.small(21) {
            self.pod(&mut lists);
        }
        if self.logic.once_in(4) {
            self.nonsense(&mut lists);
        }
        lists
    }

    fn node(&mut self, lists: &mut Lists) {
        let name = self.text("node");
        let (cpu, memory) = (self.cpu(), self.memory());
        let ready = self.logic.pick(&["True", "False", "Unknown"]);
        let metadata = self.metadata(&name, None, "", "");
        let condition = self.condition("Ready", ready);
        let other = self.condition("DiskPressure", "True");
        let info = [
            "machineID",
            "systemUUID",
            "bootID",
            "kernelVersion",
            "osImage",
            "kubeletVersion",
        ];
        let info = self.object(&info);
        let (cidr, provider) = (self.text("cidr"), self.text("provider"));
        let (key, value) = (self.text("taint"), self.text("taint-value"));
        let (host, image) = (self.text("host"), self.text("image"));
        let extended = self.text("resource");
        lists.nodes.push(format!(
            "{{\"metadata\":{metadata},\"spec\":{{\"podCIDR\":{cidr},\"providerID\":{provider},\
             \"taints\":[{{\"key\":{key},\"value\":{value},\"effect\":\"NoSchedule\"}}]}},\
             \"status\":{{\"capacity\":{{\"cpu\":{cpu},\"memory\":{memory},{extended}:\"8\"}},\
             \"allocatable\":{{\"cpu\":{cpu},\"memory\":{memory},{extended}:\"8\"}},\
             \"conditions\":[{other},{condition}],\"nodeInfo\":{info},\
             \"addresses\":[{{\"type\":\"Hostname\",\"address\":{host}}}],\
             \"images\":[{{\"names\":[{image}],\"sizeBytes\":7}}]}}}}"
        ));
        if !self.logic.once_in(3) {
            let (cpu, memory) = (self.cpu(), self.memory());
            let metadata = self.metadata(&name, None, "", "");
            lists.node_metrics.push(format!(
                "{{\"metadata\":{metadata},\"usage\":{{\"cpu\":{cpu},\"memory\":{memory}}}}}"
            ));
        }
    }

    fn workload(&mut self, at: usize, lists: &mut Lists) {
        let (kind, place) = (self.workloads[at].kind, self.workloads[at].place);
        let name = self.workloads[at].name.clone();
        let metadata = self.metadata(&quoted(&name), Some(place), "", "");
        let (wanted, ready) = (self.logic.below(4), self.logic.below(4));
        let template = self.template();
        let (label, service) = (self.text("selector"), self.text("service"));
        let condition = self.condition("Available", "False");
        let object = format!(
            "{{\"metadata\":{metadata},\"spec\":{{\"replicas\":{wanted},\"serviceName\":{service},\
             \"selector\":{{\"matchLabels\":{{{label}:{label}}}}},\"template\":{template}}},\
             \"status\":{{\"readyReplicas\":{ready},\"desiredNumberScheduled\":{wanted},\
             \"numberReady\":{ready},\"active\":{wanted},\"ready\":{ready},\"conditions\":[{condition}]}}}}"
        );
        match kind {
            WorkloadKind::Deployment => lists.deployments.push(object),
            WorkloadKind::StatefulSet => lists.stateful_sets.push(object),
            WorkloadKind::DaemonSet => lists.daemon_sets.push(object),
            WorkloadKind::Job => lists.jobs.push(object),
            WorkloadKind::CronJob => {
                let metadata = self.metadata(&quoted(&name), Some(place), "", "");
                let schedule = self.text("schedule");
                lists.cron_jobs.push(format!(
                    "{{\"metadata\":{metadata},\"spec\":{{\"schedule\":{schedule},\
                     \"jobTemplate\":{{\"spec\":{{\"template\":{template}}}}}}},\
                     \"status\":{{\"active\":[{{\"kind\":\"Job\",\"name\":{service}}}]}}}}"
                ));
                if self.logic.once_in(2) {
                    self.job_of(&name, place, lists);
                }
            }
        }
    }

    /// A Job of a `CronJob`, made by its controller or by hand, and perhaps its pod.
    fn job_of(&mut self, cron_job: &str, place: usize, lists: &mut Lists) {
        let by_controller = self.logic.once_in(2);
        let name = if by_controller {
            format!("{cron_job}-{}", self.logic.below(100_000_000))
        } else {
            self.plain("by-hand")
        };
        let owner = self.owner("batch/v1", "CronJob", cron_job);
        let metadata = self.metadata(&quoted(&name), Some(place), "", &owner);
        let active = self.logic.below(3);
        let template = self.template();
        lists.jobs.push(format!(
            "{{\"metadata\":{metadata},\"spec\":{{\"template\":{template}}},\
             \"status\":{{\"active\":{active},\"ready\":{active}}}}}"
        ));
        let owner = self.owner("batch/v1", "Job", &name);
        self.pod_of(place, "", &owner, lists);
    }

    fn pod(&mut self, lists: &mut Lists) {
        let (mut labels, mut owners) = (String::new(), String::new());
        let mut place = self.logic.below(self.namespaces.len());
        let slot = self.logic.below(self.workloads.len() + 2);
        if let Some(slot) = self.workloads.get(slot) {
            // It may have gone since, and then the pod is bare.
            place = slot.place;
            let name = slot.name.clone();
            owners = match slot.kind {
                WorkloadKind::Deployment => {
                    let hash = self.plain("hash");
                    labels = format!("\"pod-template-hash\":{},", quoted(&hash));
                    self.owner("apps/v1", "ReplicaSet", &format!("{name}-{hash}"))
                }
                WorkloadKind::StatefulSet => self.owner("apps/v1", "StatefulSet", &name),
                WorkloadKind::DaemonSet => self.owner("apps/v1", "DaemonSet", &name),
                WorkloadKind::Job => self.owner("batch/v1", "Job", &name),
                WorkloadKind::CronJob => self.owner("batch/v1", "Job", &format!("{name}-123")),
            };
        } else if slot.is_multiple_of(2) {
            let stranger = self.plain("stranger");
            let group = format!("{stranger}/v1");
            owners = self.owner(&group, "Rollout", &stranger);
        }
        self.pod_of(place, &labels, &owners, lists);
    }

    fn pod_of(&mut self, place: usize, labels: &str, owners: &str, lists: &mut Lists) {
        let name = self.text("pod");
        let metadata = self.metadata(&name, Some(place), labels, owners);
        let containers = self.containers(true);
        let sidecars = self.containers(false);
        let fields = [
            "nodeName",
            "hostname",
            "serviceAccountName",
            "schedulerName",
            "priorityClassName",
        ];
        let spec = self.object(&fields);
        let spec = spec.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        let (host_network, host_pid) = (self.logic.once_in(5), self.logic.once_in(5));
        let volume = self.volume();
        let security = self.security();
        let alias = self.object(&["ip", "hostname"]);
        let overhead = if self.logic.once_in(6) {
            self.amounts()
        } else {
            "null".to_owned()
        };
        let phase = if self.logic.once_in(8) {
            self.text("phase")
        } else {
            quoted(
                self.logic
                    .pick(&["Pending", "Running", "Succeeded", "Failed", "Unknown"]),
            )
        };
        let ready = self.logic.pick(&["True", "False"]);
        let ready = self.condition("Ready", ready);
        let scheduled = self.logic.pick(&["True", "False"]);
        let scheduled = self.condition("PodScheduled", scheduled);
        let statuses = self.statuses();
        let status = self.object(&["message", "reason", "hostIP", "podIP", "nominatedNodeName"]);
        let status = status.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        lists.pods.push(format!(
            "{{\"metadata\":{metadata},\"spec\":{{{spec},\"hostNetwork\":{host_network},\
             \"hostPID\":{host_pid},\"volumes\":[{volume}],\"securityContext\":{security},\
             \"hostAliases\":[{alias}],\"overhead\":{overhead},\"containers\":[{containers}],\
             \"initContainers\":[{sidecars}]}},\"status\":{{\"phase\":{phase},{status},\
             \"conditions\":[{scheduled},{ready}],\"containerStatuses\":[{statuses}]}}}}"
        ));
        if self.logic.once_in(2) {
            let metadata = self.metadata(&name, Some(place), "", "");
            let (container, usage) = (self.text("container"), self.amounts());
            lists.pod_metrics.push(format!(
                "{{\"metadata\":{metadata},\"containers\":[{{\"name\":{container},\"usage\":{usage}}}]}}"
            ));
        }
    }

    /// What no API server sends, among what it does.
    fn nonsense(&mut self, lists: &mut Lists) {
        let (text, place) = (self.text("nonsense"), self.namespaces[0].name.clone());
        let (place, long) = (quoted(&place), format!("\"{MARKER}{}\"", "x".repeat(260)));
        for object in [
            format!("{{\"metadata\":{{\"name\":\"\",\"namespace\":{place}}}}}"),
            format!("{{\"metadata\":{{\"name\":{text},\"namespace\":\"\"}}}}"),
            format!("{{\"metadata\":{{\"name\":{long},\"namespace\":{place}}}}}"),
            format!("{{\"metadata\":{{\"name\":{text},\"namespace\":{long}}}}}"),
            format!("{{\"metadata\":{{\"name\":7,\"namespace\":{text}}}}}"),
            format!("{{\"metadata\":{text}}}"),
            format!("[{text}]"),
            text,
        ] {
            for list in [&mut lists.pods, &mut lists.deployments, &mut lists.services] {
                list.push(object.clone());
            }
        }
    }

    /// Containers of a template or a pod, separated by commas.
    fn containers(&mut self, at_least_one: bool) -> String {
        let number = usize::from(self.logic.once_in(4)) + usize::from(at_least_one);
        let containers: Vec<String> = (0..number).map(|_| self.container()).collect();
        containers.join(",")
    }

    fn container(&mut self) -> String {
        let fields = ["name", "workingDir", "terminationMessagePath"];
        let texts = self.object(&fields);
        let texts = texts.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        let image = self.image();
        let (command, variable, value) = (
            self.text("command"),
            self.text("variable"),
            self.text("value"),
        );
        let (secret, path) = (self.text("secret"), self.text("path"));
        let restart = self.logic.pick(&["\"Always\"", "null"]);
        let requests = self.amounts();
        let limits = if self.logic.once_in(2) {
            self.amounts()
        } else {
            "null".to_owned()
        };
        let security = self.security();
        let probe = if self.logic.once_in(2) {
            format!("{{\"exec\":{{\"command\":[{command}]}}}}")
        } else {
            "null".to_owned()
        };
        format!(
            "{{{texts},\"image\":{image},\"command\":[{command}],\"args\":[{value}],\
             \"env\":[{{\"name\":{variable},\"value\":{value}}},{{\"name\":{variable},\
             \"valueFrom\":{{\"secretKeyRef\":{{\"name\":{secret},\"key\":{value}}}}}}}],\
             \"volumeMounts\":[{{\"name\":{secret},\"mountPath\":{path}}}],\
             \"restartPolicy\":{restart},\"resources\":{{\"requests\":{requests},\"limits\":{limits}}},\
             \"securityContext\":{security},\"livenessProbe\":{probe},\"readinessProbe\":{probe}}}"
        )
    }

    /// A reference whose tag may or may not change, which is a fact.
    fn image(&mut self) -> String {
        let (registry, image, tag) = (
            self.plain("registry"),
            self.plain("image"),
            self.plain("tag"),
        );
        quoted(&match self.logic.below(5) {
            0 => image,
            1 => format!("{registry}:5000/{image}:latest"),
            2 => format!("{registry}.example/{image}@sha256:{tag}"),
            _ => format!("{registry}/{image}:{tag}"),
        })
    }

    fn template(&mut self) -> String {
        let (key, value) = (self.text("label"), self.text("value"));
        let (containers, sidecars) = (self.containers(true), self.containers(false));
        format!(
            "{{\"metadata\":{{\"labels\":{{{key}:{value}}}}},\
             \"spec\":{{\"containers\":[{containers}],\"initContainers\":[{sidecars}]}}}}"
        )
    }

    fn statuses(&mut self) -> String {
        let restarts = self.logic.below(4);
        let fields = ["name", "image", "imageID", "containerID"];
        let texts = self.object(&fields);
        let texts = texts.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        let reason = match self.logic.below(4) {
            0 => quoted("CrashLoopBackOff"),
            1 => quoted("ImagePullBackOff"),
            _ => self.text("reason"),
        };
        let ended = if self.logic.once_in(4) {
            quoted("OOMKilled")
        } else {
            self.text("reason")
        };
        let message = self.text("message");
        format!(
            "{{{texts},\"restartCount\":{restarts},\
             \"state\":{{\"waiting\":{{\"reason\":{reason},\"message\":{message}}}}},\
             \"lastState\":{{\"terminated\":{{\"reason\":{ended},\"message\":{message}}}}}}}"
        )
    }

    fn condition(&mut self, kind: &str, status: &str) -> String {
        let reason = match self.logic.below(3) {
            0 => quoted("Unschedulable"),
            _ => self.text("reason"),
        };
        let message = self.text("message");
        format!(
            "{{\"type\":\"{kind}\",\"status\":\"{status}\",\"reason\":{reason},\"message\":{message}}}"
        )
    }

    fn volume(&mut self) -> String {
        let (name, path) = (self.text("volume"), self.text("path"));
        let source = match self.logic.below(4) {
            0 => format!("\"hostPath\":{{\"path\":{path}}}"),
            1 => format!("\"secret\":{{\"secretName\":{path}}}"),
            2 => format!("\"nfs\":{{\"server\":{path},\"path\":{path}}}"),
            _ => format!("\"configMap\":{{\"name\":{path}}}"),
        };
        format!("{{\"name\":{name},{source}}}")
    }

    fn security(&mut self) -> String {
        let privileged = self.logic.pick(&["true", "false", "null"]);
        let non_root = self.logic.pick(&["true", "false", "null"]);
        let user = self.logic.pick(&["0", "1000", "null"]);
        let role = self.text("role");
        format!(
            "{{\"privileged\":{privileged},\"runAsNonRoot\":{non_root},\"runAsUser\":{user},\
             \"seLinuxOptions\":{{\"role\":{role}}}}}"
        )
    }

    fn amounts(&mut self) -> String {
        let (cpu, memory) = (self.cpu(), self.memory());
        let device = self.text("device");
        format!("{{\"cpu\":{cpu},\"memory\":{memory},{device}:\"1\"}}")
    }

    fn cpu(&mut self) -> String {
        match self.logic.below(8) {
            0 => self.text("cpu"),
            1 => "null".to_owned(),
            2 => "\"0\"".to_owned(),
            _ => format!("\"{}m\"", self.logic.below(4000)),
        }
    }

    fn memory(&mut self) -> String {
        match self.logic.below(8) {
            0 => self.text("memory"),
            1 => "\"128974848\"".to_owned(),
            _ => format!("\"{}Mi\"", self.logic.below(9000)),
        }
    }

    /// Metadata of something whose name nobody keeps.
    fn anybody(&mut self) -> String {
        let name = self.text("object");
        let place = self.logic.below(self.namespaces.len());
        self.metadata(&name, Some(place), "", "")
    }

    /// `name` is JSON; `labels` ends in a comma, if it is anything.
    fn metadata(&mut self, name: &str, place: Option<usize>, labels: &str, owners: &str) -> String {
        let namespace = match place {
            Some(place) => quoted(&self.namespaces[place].name),
            None => "null".to_owned(),
        };
        let texts = self.object(&["uid", "resourceVersion", "generateName", "selfLink"]);
        let texts = texts.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        let (label, value) = (self.text("label"), self.text("label-value"));
        let word = quoted(self.dress.pick(AWKWARD));
        let (annotation, note) = (self.text("annotation"), self.text("note"));
        let (manager, field) = (self.text("manager"), self.text("field"));
        format!(
            "{{\"name\":{name},\"namespace\":{namespace},{texts},\
             \"labels\":{{{labels}{label}:{value},{word}:{word}}},\
             \"annotations\":{{{annotation}:{note}}},\"ownerReferences\":[{owners}],\
             \"finalizers\":[{note}],\
             \"managedFields\":[{{\"manager\":{manager},\"fieldsV1\":{{{field}:{{}}}}}}]}}"
        )
    }

    fn owner(&mut self, version: &str, kind: &str, name: &str) -> String {
        let (uid, name) = (self.text("uid"), quoted(name));
        format!(
            "{{\"apiVersion\":{},\"kind\":\"{kind}\",\"name\":{name},\"uid\":{uid},\"controller\":true}}",
            quoted(version)
        )
    }

    /// An object with a text in each field.
    fn object(&mut self, fields: &[&str]) -> String {
        let fields: Vec<String> = fields
            .iter()
            .map(|field| format!("\"{field}\":{}", self.text(field)))
            .collect();
        format!("{{{}}}", fields.join(","))
    }

    fn version(&mut self) -> String {
        let (vendor, [major, minor, patch]) = (
            self.plain("vendor"),
            [1, 30, 0].map(|at| at + self.logic.below(9)),
        );
        match self.logic.below(6) {
            0 => vendor,
            1 => format!("v{major}.{minor}.{patch}"),
            2 => format!("v{major}.{minor}.{patch}.{vendor}"),
            3 => format!("v{major}.{minor}-{vendor}"),
            _ => format!(
                "v{major}.{minor}.{patch}{}{vendor}",
                self.dress.pick(&["+", "-", " "])
            ),
        }
    }

    /// The name of a namespace or a workload that is not `taken` yet.
    fn name(&mut self, longest: usize, taken: impl Fn(&Self, &str) -> bool) -> String {
        let number = self.number();
        let name = match self.dress.below(12) {
            0..=3 => self.dress.pick(AWKWARD).to_owned(),
            4 => format!(
                "{MARKER}-{}-{number:04}x",
                "x".repeat(63 - MARKER.len() - 7)
            ),
            5 => format!(
                "{}{number:04}.{MARKER}",
                "y".repeat(longest - MARKER.len() - 5)
            ),
            6 => format!("{}-{MARKER}{number}x", self.dress.pick(AWKWARD)),
            // No name in any cluster, but nobody here checks that.
            7 => format!("{MARKER}\u{e9}\u{4e2d}\u{1f600}{number}"),
            8 => format!("\"{MARKER}\\{number}\":{{}}"),
            9 => format!("{MARKER}\0\n\r\n{number}\u{202e}"),
            _ => format!("shop-{MARKER}-{number}x"),
        };
        if taken(self, &name) {
            format!("{MARKER}-{number}x")
        } else {
            name
        }
    }

    /// Some text, as JSON.
    fn text(&mut self, what: &str) -> String {
        let number = self.number();
        match self.dress.below(16) {
            0 => format!("\"{MARKER} \\u0000\\n\\\"{what}\\\\ {number}\""),
            1 => format!("\"\u{e9}\\u00e9{what}{MARKER}\\ud83d\\ude00{number}\""),
            2 => format!("\"{{\\\"{what}\\\":\\\"{MARKER}\\\"}}{number}\""),
            3 => format!("\"https://{MARKER}.example:8443/{what}?{number}\""),
            _ => format!("\"{what}-{MARKER}-{number}\""),
        }
    }

    /// Some text without any character that means something.
    fn plain(&mut self, what: &str) -> String {
        let number = self.number();
        format!("{what}-{MARKER}-{number}x")
    }

    fn number(&mut self) -> u32 {
        self.texts += 1;
        self.texts
    }
}

/// As JSON.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}
