//! The shapes of request bodies: every field there may be, written down from the contract.
//!
//! An allow-list of its own on purpose. It shares nothing with the agent's types, so that a field the agent gains is a
//! violation until it is listed here.

use serde_json::Value;

use crate::ids;

/// What a value must be.
pub(crate) enum Shape {
    /// A whole number, not negative.
    Count,
    /// A number, not negative.
    Percent,
    /// This number.
    Is(u64),
    /// A text of a form: what it is called, and the test.
    Text(&'static str, fn(&str) -> bool),
    /// One of these words.
    Word(&'static [&'static str]),
    /// This, or null.
    OrNull(&'static Shape),
    /// Exactly these fields.
    Object(&'static [Field]),
    /// Any number of fields whose names have a form.
    Map(&'static str, fn(&str) -> bool, &'static Shape),
    /// Some of these words, none twice.
    Words(&'static [&'static str]),
}

/// A field of an object.
pub(crate) struct Field {
    name: &'static str,
    shape: Shape,
    optional: bool,
}

const fn field(name: &'static str, shape: Shape) -> Field {
    Field {
        name,
        shape,
        optional: false,
    }
}

const TIME: Shape = Shape::Text("a time in RFC 3339 and UTC", ids::is_time);
const VERSION: Shape = Shape::Text("MAJOR.MINOR.PATCH", ids::is_version);
const UUID: Shape = Shape::Text("a UUID of version 4", ids::is_uuid);
/// A text that [`crate::check`] looks at itself.
const KNOWN: Shape = Shape::Text("a text that is not empty", |text| !text.is_empty());

const SIGNALS: &[&str] = &[
    "privileged",
    "run-as-root",
    "privilege-escalation",
    "host-network",
    "host-pid",
    "host-path",
    "no-cpu-request",
    "no-memory-request",
    "no-cpu-limit",
    "no-memory-limit",
    "no-liveness-probe",
    "no-readiness-probe",
    "mutable-image-tag",
    "single-replica",
    "crash-looping",
    "image-pull-failing",
    "oom-killed",
    "unschedulable",
    "not-ready",
];

/// `POST /api/v1/register`
pub(crate) static REGISTER: Shape = Shape::Object(&[
    field("operatorVersion", VERSION),
    field(
        "clusterIdentifier",
        Shape::Text("sha256:<64 hex>", ids::is_cluster_identifier),
    ),
    field("kubernetesVersion", Shape::OrNull(&VERSION)),
    field("approximateNodeCount", Shape::Count),
]);

/// `POST /api/v1/analyze`
pub(crate) static ANALYZE: Shape = Shape::Object(&[
    field("requestId", UUID),
    field("clusterId", KNOWN),
    field(
        "resourceType",
        Shape::Word(&[
            "namespace",
            "deployment",
            "statefulset",
            "daemonset",
            "job",
            "cronjob",
        ]),
    ),
    field("resourceId", Shape::Text("an opaque id", ids::is_resource)),
    field(
        "namespaceId",
        Shape::Text("the opaque id of a namespace", ids::is_namespace),
    ),
]);

/// `POST /api/v1/acknowledge`
pub(crate) static ACKNOWLEDGE: Shape = Shape::Object(&[
    field("insightId", KNOWN),
    field("clusterId", KNOWN),
    field("state", Shape::Word(&["acknowledged", "dismissed"])),
    field("at", TIME),
]);

/// `POST /api/v1/metrics`
pub(crate) static METRICS: Shape = Shape::Object(&[
    field("payloadVersion", Shape::Is(1)),
    field("clusterId", KNOWN),
    field("timestamp", TIME),
    field("operatorVersion", VERSION),
    field("mapEpoch", Shape::Text("32 hex digits", ids::is_epoch)),
    field(
        "cluster",
        Shape::Object(&[
            field("kubernetesVersion", Shape::OrNull(&VERSION)),
            field("nodes", Shape::Count),
            field("nodesReady", Shape::Count),
            field("cpuCapacityMillicores", Shape::Count),
            field("memoryCapacityBytes", Shape::Count),
            field("avgCpuUsage", Shape::OrNull(&Shape::Percent)),
            field("avgMemoryUsage", Shape::OrNull(&Shape::Percent)),
        ]),
    ),
    field(
        "resources",
        Shape::Map(
            "the opaque id of a namespace",
            ids::is_namespace,
            &NAMESPACE,
        ),
    ),
]);

static NAMESPACE: Shape = Shape::Object(&[
    field("deployments", Shape::Count),
    field("pods", Shape::Count),
    field("avgCpuUsage", Shape::OrNull(&Shape::Percent)),
    field("avgMemoryUsage", Shape::OrNull(&Shape::Percent)),
    field("statefulSets", Shape::Count),
    field("daemonSets", Shape::Count),
    field("replicaSets", Shape::Count),
    field("jobs", Shape::Count),
    field("cronJobs", Shape::Count),
    field("services", Shape::Count),
    field("persistentVolumeClaims", Shape::Count),
    field(
        "podsByPhase",
        Shape::Object(&[
            field("pending", Shape::Count),
            field("running", Shape::Count),
            field("succeeded", Shape::Count),
            field("failed", Shape::Count),
            field("unknown", Shape::Count),
        ]),
    ),
    field("containers", Shape::Count),
    field("containerRestarts", Shape::Count),
    field("cpuRequestsMillicores", Shape::Count),
    field("cpuLimitsMillicores", Shape::Count),
    field("memoryRequestsBytes", Shape::Count),
    field("memoryLimitsBytes", Shape::Count),
    field(
        "signals",
        Shape::Map("a signal", |name| SIGNALS.contains(&name), &Shape::Count),
    ),
    // Left out at the detail `namespaces`.
    Field {
        optional: true,
        ..field(
            "workloads",
            Shape::Map("the opaque id of a workload", ids::is_workload, &WORKLOAD),
        )
    },
]);

static WORKLOAD: Shape = Shape::Object(&[
    field("replicas", Shape::Count),
    field("readyReplicas", Shape::Count),
    field("containers", Shape::Count),
    field("restarts", Shape::Count),
    field("signals", Shape::Words(SIGNALS)),
]);

impl Shape {
    /// Notes where a value is not so. `at` is where it stands: `cluster.nodes`.
    pub(crate) fn check(&self, at: &str, value: &Value, found: &mut Vec<String>) {
        match self {
            Self::OrNull(shape) if !value.is_null() => shape.check(at, value, found),
            Self::Object(fields) => check_object(fields, at, value, found),
            Self::Map(what, is_name, shape) => {
                let Some(entries) = value.as_object() else {
                    return found.push(wrong(at, "an object", value));
                };
                for (name, value) in entries {
                    if !is_name(name) {
                        found.push(format!("{at}: {name:?} is not {what}"));
                    }
                    shape.check(&join(at, name), value, found);
                }
            }
            _ => {
                if let Some(expected) = self.expects_other_than(value) {
                    found.push(wrong(at, &expected, value));
                }
            }
        }
    }

    /// What a plain value should have been, if it is not that.
    fn expects_other_than(&self, value: &Value) -> Option<String> {
        let (fits, expected) = match self {
            Self::Count => (value.is_u64(), "a whole number, not negative".to_owned()),
            Self::Percent => (
                value.as_f64().is_some_and(|number| number >= 0.0),
                "a number, not negative".to_owned(),
            ),
            Self::Is(number) => (value.as_u64() == Some(*number), number.to_string()),
            Self::Text(what, test) => (value.as_str().is_some_and(test), (*what).to_owned()),
            Self::Word(words) => (
                value.as_str().is_some_and(|word| words.contains(&word)),
                words.join(" or "),
            ),
            Self::Words(words) => (
                value.as_array().is_some_and(|list| are_words(list, words)),
                "a list of signals, none twice".to_owned(),
            ),
            Self::OrNull(_) | Self::Object(_) | Self::Map(..) => return None,
        };
        (!fits).then_some(expected)
    }
}

fn check_object(fields: &[Field], at: &str, value: &Value, found: &mut Vec<String>) {
    let Some(entries) = value.as_object() else {
        return found.push(wrong(at, "an object", value));
    };
    for field in fields {
        match entries.get(field.name) {
            Some(value) => field.shape.check(&join(at, field.name), value, found),
            None if field.optional => {}
            None => found.push(format!("{}: is missing", join(at, field.name))),
        }
    }
    for name in entries.keys() {
        if !fields.iter().any(|field| field.name == name) {
            found.push(format!("{}: no such field in the contract", join(at, name)));
        }
    }
}

fn are_words(list: &[Value], words: &[&str]) -> bool {
    list.iter().enumerate().all(|(at, item)| {
        item.as_str().is_some_and(|word| words.contains(&word))
            && !list.iter().take(at).any(|before| before == item)
    })
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

fn wrong(at: &str, expected: &str, value: &Value) -> String {
    let at = if at.is_empty() { "the body" } else { at };
    let shown: String = value.to_string().chars().take(80).collect();
    format!("{at}: {shown} is not {expected}")
}
